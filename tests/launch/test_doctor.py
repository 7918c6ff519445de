"""`sea-ray doctor`: what it finds on this machine, in local data sets and in what the Hub answers."""

import json
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import httpx
from rich.console import Console

from sea_ray.errors import ConfigError, MachineError
from sea_ray.launch import cli
from sea_ray.launch.doctor import check_experiments, check_machine, doctor
from sea_ray.launch.hub_check import Repository, Table, check_repository, check_table, columns_of, wanted
from sea_ray.sft.sources import DatasetSource

MODEL = Repository(kind="model", name="owner/model", revision="abc")


@pytest.fixture
def console():
    return Console(record=True, width=300)


def hub(monkeypatch, answer):
    """Let the Hub answer alike to every question; an exception is raised."""

    def ask(api, name, revision=None):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", ask)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", ask)


def refusal(kind, status):
    return kind("refused", response=httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co/owner/model")))


def test_this_machine_is_described_line_by_line():
    found = {finding.subject: finding for finding in check_machine()}
    assert {"python", "torch", "ray", "device", "disk", "memory", "W&B", "fonts"} <= set(found)
    assert found["python"].verdict == "ok"
    assert "GiB free" in found["disk"].text


def test_every_experiment_composes_but_for_what_its_user_has_to_say():
    found = {finding.subject: finding for finding in check_experiments()}
    assert found["demo"].verdict == "ok"
    assert "Qwen/Qwen2-7B" in found["seallms3_7b"].text
    assert found["local_text"].verdict == "note"
    assert "corpus.root" in found["local_text"].text
    assert not [finding for finding in found.values() if finding.verdict == "bad"]


def test_what_conf_names_is_asked_for_with_its_columns():
    repositories, tables = wanted()
    names = {repository.name for repository in repositories}
    assert {"Qwen/Qwen2-0.5B", "Qwen/Qwen2-1.5B", "Qwen/Qwen2-7B", "wikimedia/wikipedia", "openai/gsm8k"} <= names
    columns = {(table.dataset, table.name): table.columns for table in tables}
    assert columns["wikimedia/wikipedia", "20231101.th"] == ("text",)
    assert columns["openai/gsm8k", "main"] == ("answer", "question")
    assert "translation.fil" in {column for table in tables for column in table.columns}
    assert "language_code" in columns["CohereForAI/aya_dataset", ""]


def test_every_base_model_of_conf_has_a_revision():
    assert all(repository.revision for repository in wanted()[0] if repository.kind == "model")


def test_an_optional_field_is_asked_for_only_where_it_is_named():
    source = DatasetSource(dataset="a/b", language="en", format="alpaca")
    assert columns_of(source) == ("instruction", "output")
    named = DatasetSource(dataset="a/b", language="en", format="alpaca", fields={"input": "context"})
    assert columns_of(named) == ("context", "instruction", "output")


@pytest.mark.parametrize(("answer", "verdict", "says"), [
    (SimpleNamespace(gated=False, sha="abc"), "ok", "has revision abc"),
    (SimpleNamespace(gated="auto", sha="abc"), "ok", "gated (auto)"),
    (refusal(GatedRepoError, 403), "bad", "HF_TOKEN"),
    (refusal(RevisionNotFoundError, 404), "bad", "no revision abc"),
    (refusal(RepositoryNotFoundError, 401), "bad", "not on the Hub")])
def test_what_the_hub_answers_becomes_a_line(monkeypatch, answer, verdict, says):
    hub(monkeypatch, answer)
    found = check_repository(MODEL)
    assert found.verdict == verdict
    assert says in found.text


def test_an_id_without_a_revision_is_noted_with_the_newest(monkeypatch):
    hub(monkeypatch, SimpleNamespace(gated=False, sha="abc"))
    found = check_repository(Repository(kind="dataset", name="owner/data", revision=""))
    assert found.verdict == "note"
    assert "abc" in found.text


@pytest.mark.parametrize("error", [httpx.ConnectError("Name or service not known"), ConnectionError("offline mode"),
                                   refusal(huggingface_hub.errors.HfHubHTTPError, 503)])
def test_a_network_that_is_not_there_is_said_and_ends_with_code_4(monkeypatch, capsys, error):
    hub(monkeypatch, error)
    assert cli.main(["doctor", "--online"]) == MachineError.exit_code == 4
    said = capsys.readouterr()
    assert "the Hub cannot be reached" in said.err
    assert "Traceback" not in said.err + said.out


@pytest.fixture
def rows(tmp_path):
    (tmp_path / "data").mkdir()
    row = {"question": "q", "translation": {"en": "a", "th": "b"}}
    (tmp_path / "data" / "train.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path / "data"


@pytest.mark.parametrize(("changed", "verdict", "says"), [
    ({}, "ok", "translation.th"),
    ({"columns": ("question", "translation.km")}, "bad", "no column translation.km; there are question"),
    ({"split": "trian"}, "bad", "did you mean train"), ({"name": "mian"}, "bad", "no configuration 'mian'"),
    ({"dataset": "/nowhere"}, "bad", "/nowhere")])
def test_a_table_is_looked_at_with_its_configuration_split_and_columns(rows, changed, verdict, says):
    columns = ("question", "translation.th")
    table = {"dataset": str(rows), "revision": "", "name": "", "split": "train", "columns": columns} | changed
    found = check_table(Table(**table))
    assert found.verdict == verdict
    assert says in found.text


def test_offline_the_machine_alone_is_looked_at(console):
    assert doctor([], console) == 0
    assert "the Hub was not asked" in console.export_text()


def test_it_takes_no_overrides(console):
    with pytest.raises(ConfigError, match="takes no 'experiment=demo'"):
        doctor(["experiment=demo"], console)
