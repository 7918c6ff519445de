"""What is sent to a cluster, and what is refused before anything is."""

import shlex
from pathlib import Path

import pytest

from sea_ray.errors import ConfigError, MachineError
from sea_ray.launch import submit
from sea_ray.launch.compose import compose_experiment

REPO = Path(__file__).resolve().parents[2]


def test_of_the_repository_less_than_five_megabytes_are_sent():
    files = submit.sent_files(REPO)
    assert REPO / "jobs" / "run.py" in files
    assert REPO / "conf" / "config.yaml" in files
    left_out = {".git", ".venv", "runs", "__pycache__", "docs", "tests"}
    assert not any(set(file.relative_to(REPO).parts) & left_out for file in files)
    assert sum(file.stat().st_size for file in files) < 5_000_000


def test_a_folder_with_data_is_refused_and_the_data_named(tmp_path, monkeypatch):
    monkeypatch.setattr(submit, "MAX_WORKING_DIR_BYTES", 1000)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "run.py").write_text("")
    (tmp_path / "text.jsonl").write_text("x" * 2000)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "more").write_text("x" * 9000)
    with pytest.raises(MachineError, match=r"text\.jsonl \(0\.0 MB\)") as caught:
        submit.sent_files(tmp_path)
    assert "more" not in str(caught.value)


@pytest.mark.parametrize(("arguments", "says"), [
    ([], "there is no ''"), (["ran", "experiment=demo"], "did you mean run"),
    (["run", "experiment=demo", "corpus.langages=[vi]"], "did you mean languages"),
])
def test_a_wrong_command_is_refused_before_a_cluster_is_asked(arguments, says):
    with pytest.raises(ConfigError, match=says):
        submit.submit(arguments, None, address="http://127.0.0.1:1", working_dir=REPO)


def test_the_command_is_quoted_for_a_shell():
    config, entrypoint, secrets = submit._entrypoint(["run", "experiment=demo", "sft.mixes.natural={en: 1, vi: 2}"], REPO,
                                                     "python3.11")
    assert not secrets
    assert config.name == "demo"
    assert entrypoint == "python3.11 jobs/run.py experiment=demo 'sft.mixes.natural={en: 1, vi: 2}'"


def test_a_job_that_is_paid_for_is_agreed_to_before_it_is_sent():
    _, entrypoint, _ = submit._entrypoint(["run", "experiment=demo", "cluster.provider=aws"], REPO, "python")
    assert entrypoint == "python jobs/run.py --yes experiment=demo cluster.provider=aws"


def test_a_webhook_goes_by_the_environment_and_arrives_whole(monkeypatch):
    url = "https://hooks.example.com/team/c2VjcmV0?key=a1b2&c=d"
    _, entrypoint, secrets = submit._entrypoint(["run", "experiment=demo", f'ending.webhook="{url}"'], REPO, "python")
    assert "c2VjcmV0" not in entrypoint
    assert "a1b2" not in entrypoint
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    assert compose_experiment(shlex.split(entrypoint)[2:]).ending.webhook == url


@pytest.mark.ray
def test_an_address_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else a token in this user's home would stay with this process
    with pytest.raises(MachineError, match=r"no cluster answers at http://127\.0\.0\.1:9"):
        submit.status([], None, address="http://127.0.0.1:9")
