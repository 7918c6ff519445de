"""`sea-ray evaluate`: what a person sees, writes down and pays for twice."""

import io
import json
import shutil

import benchmark_files as public
import pytest
from rich.console import Console

from sea_ray.artifacts import read_json, write_json
from sea_ray.corpus.documents import DocumentWriter
from sea_ray.errors import ConfigError
from sea_ray.evaluation import harness_models
from sea_ray.evaluation.figures import EvalReport
from sea_ray.launch.cli import main
from sea_ray.launch.evaluate_command import evaluate

pytest.importorskip("lm_eval")
ASKED = ["tasks=[xcopa,mgsm,xstest]", "languages=[th,en]", "files.xstest=xs.jsonl", "max_new_tokens=8"]


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    public.xcopa(tmp_path / "data" / "xcopa", "th", 6)
    for code in ("th", "en"):
        public.mgsm(tmp_path / "data" / "mgsm", code, 4)
    public.write_lines(tmp_path / "data" / "xs.jsonl", [{"prompt": f"Tell me {n}.", "label": "safe"} for n in range(3)])
    monkeypatch.chdir(tmp_path)
    return f"root={tmp_path / 'data'}"


def ran(capsys, *settings):
    assert evaluate(settings, Console(file=io.StringIO())) == 0
    return capsys.readouterr().out


def test_a_checkpoint_is_asked_and_its_figures_are_printed_and_written(folder, root, capsys, tmp_path):
    printed = ran(capsys, f"model={folder}", root, *ASKED, "out=found")
    report = EvalReport.load(tmp_path / "found")
    assert {(one.task, one.language, one.n) for one in report.figures} == {
        ("xcopa", "th", 6), ("mgsm", "th", 4), ("mgsm", "en", 4), ("safety_xstest", "en", 3)}  # fmt: skip
    lines = {line.split("\n")[0]: line.split("\n")[1:] for line in printed.split("\n\n")}
    for one in report.figures:
        table = lines[f"{one.task} {one.metric} {'↑' if one.higher_is_better else '↓'}"]
        assert any(line.startswith(f"{one.language} ") and f"[{one.low:.3f}, {one.high:.3f}] n={one.n}*" in line
                   for line in table)  # fmt: skip
    assert any("Qwen2-7B-Instruct (published)" in line for line in lines["mgsm exact_match_number ↑"])
    assert len(report.details) == 6 + 4 + 4 + 3
    assert report.settings["harness"]["lm_eval"]
    assert len(report.settings["checkpoint"]) == 16
    assert "tasks/xcopa" in report.settings["files"]
    page = (tmp_path / "found" / "report.html").read_text(encoding="utf-8")
    assert "Qwen2-7B-Instruct<small>published</small>" in page
    assert f"sea-ray evaluate model={folder}" in page


def test_texts_are_scored_through_an_endpoint_and_kept(folder, root, served, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SEA_RAY_API_KEY", served["api_key"])
    public.sib200(tmp_path / "data" / "sib200", "th", 5)
    asked = [root, "tasks=[sib200]", "languages=[th]"]
    door = [f"endpoint={served['url']}", "served_model=tiny", f"tokenizer={folder}"]
    ran(capsys, f"model={folder}", *asked, "out=here")
    first = ran(capsys, *door, *asked, "out=there")
    here, there = (EvalReport.load(tmp_path / name).figure("sib200", "bits_per_byte", "th") for name in ("here", "there"))
    assert there.value == pytest.approx(here.value, rel=1e-5)
    monkeypatch.setattr("lm_eval.models.openai_completions.LocalCompletionsAPI.amodel_call", None)
    assert ran(capsys, *door, *asked, "out=there") == first


def test_dialogues_and_refusals_are_asked_beside_the_harness(folder, root, capsys, tmp_path):
    public.write_lines(tmp_path / "data" / "sea.jsonl", [
        {"unit_id": "th-1", "lang": "th", "type": "math", "user_1": "หนึ่งบวกหนึ่ง", "reference_1": "สอง", "user_2": "บวกอีกหนึ่ง",
         "reference_2": "สาม"}])
    public.write_lines(tmp_path / "data" / "g.jsonl", [
        {"id": str(n), "language": "th", "prompt": f"ใครคือ {n}", "answerable": n > 1} for n in range(4)])
    ran(capsys, f"model={folder}", root, "tasks=[mgsm,seabench,searefuse_g]", "files={seabench: sea.jsonl, searefuse_g: g.jsonl}",
        "languages=[th]", "max_new_tokens=8", "dialogue_tokens=6", "out=found")
    report = EvalReport.load(tmp_path / "found")
    assert report.figure("seabench", "points_rules", "th").n == 1
    assert report.figure("searefuse_g", "f1", "th").n == 4
    assert [one.turn for one in report.details if one.task == "seabench"] == [1, 2]
    assert set(report.settings["prompts"]) == {"mgsm/th", "seabench/th", "searefuse_g/th"}
    assert report.settings["dialogue_tokens"] == 6


def test_a_second_run_asks_nothing_and_an_interrupted_one_goes_on(folder, root, capsys, monkeypatch, tmp_path):
    asked = ["tasks=[xcopa,mgsm]", "languages=[th,en]", "max_new_tokens=8", "out=found"]
    counted, whole = [], harness_models.in_process

    def counting(stop_after=None):
        def made(model, tokenizer):
            engine = whole(model, tokenizer)
            call = engine.lm._model_generate

            def generate(*args, **settings):
                if stop_after is not None and len(counted) == stop_after:
                    raise KeyboardInterrupt
                counted.append(1)
                return call(*args, **settings)

            engine.lm._model_generate = generate
            return engine

        return made

    monkeypatch.setattr(harness_models, "in_process", counting(stop_after=1))
    with pytest.raises(KeyboardInterrupt):
        ran(capsys, f"model={folder}", root, *asked)
    assert len(counted) == 1
    monkeypatch.setattr(harness_models, "in_process", counting())
    first = ran(capsys, f"model={folder}", root, *asked)
    assert len(counted) == 2  # Thai was kept, English is new
    assert ran(capsys, f"model={folder}", root, *asked) == first
    assert len(counted) == 2


def test_an_endpoint_says_what_the_checkpoint_says(folder, root, served, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SEA_RAY_API_KEY", served["api_key"])
    ran(capsys, f"model={folder}", root, *ASKED, "out=here")
    ran(capsys, f"endpoint={served['url']}", "served_model=tiny", f"tokenizer={folder}", root, *ASKED, "out=there")
    here, there = EvalReport.load(tmp_path / "here"), EvalReport.load(tmp_path / "there")
    assert here.figures == there.figures
    assert here.details == there.details
    monkeypatch.setenv("SEA_RAY_API_KEY", "wrong")
    with pytest.raises(ConfigError, match="refuses the API key"):
        evaluate([f"endpoint={served['url']}", "served_model=tiny", f"tokenizer={folder}", root, *ASKED], Console())


def test_items_that_a_checkpoint_was_trained_on_are_named_with_the_rows(folder, root, capsys, tmp_path):
    question = "Seven goats stand under the quiet lamp of the northern market; how many of them are white?"
    public.write_lines(tmp_path / "data" / "mgsm" / "mgsm_en.tsv", ["Short?\t1", f"{question}\t2"])
    store, checkpoint = tmp_path / "artifacts", tmp_path / "artifacts" / "base" / "b0"
    shutil.copytree(folder, checkpoint)
    write_json(checkpoint / "record.json", {"kind": "base", "fingerprint": "b0", "parents": {"corpus": "c0"}, "inputs": {}})
    with DocumentWriter(store / "corpus" / "c0" / "documents", ("en",)) as writer:
        writer.append("en", "train", ["Rain."] * 3 + [f"{n} times: {question}" for n in range(7)])
        writer.finish([])
    write_json(store / "corpus" / "c0" / "record.json", {"kind": "corpus", "fingerprint": "c0", "parents": {}, "inputs": {}})
    asked = [f"model={checkpoint}", root, "tasks=[mgsm]", "languages=[en,th]", "max_new_tokens=8", "out=found"]
    assert evaluate(asked, Console(file=io.StringIO())) == 0
    printed = capsys.readouterr()
    place = "corpus/c0/documents/en.train.parquet"
    for row in (4, 8):
        assert f"trained on the test: mgsm/en item 1 stands in {place} row {row}: 'sevengoatsstand" in printed.err
    assert "row 9: " not in printed.err
    assert "and 2 more rows; all of them are in found/overlap.json" in printed.err
    assert "of mgsm/en 1 item is in its training data" in printed.out
    assert EvalReport.load(tmp_path / "found").settings["overlap"] == {"items": {"mgsm/en": 1}, "unknown": []}
    assert (tmp_path / "found" / "report.html").read_text(encoding="utf-8").count("mgsm/en item 1") == 7
    assert [one["row"] for one in read_json(tmp_path / "found" / "overlap.json")["found"]] == list(range(4, 11))
    shutil.rmtree(store / "corpus" / "c0" / "documents")  # the second time nothing is looked for
    assert evaluate(asked, Console(file=io.StringIO())) == 0
    again = capsys.readouterr()
    assert again.out == printed.out
    assert [line for line in again.err.splitlines() if "test" in line] == [
        line for line in printed.err.splitlines() if "test" in line]


def test_of_a_checkpoint_without_a_record_it_is_said_that_nothing_was_looked_for(folder, root, capsys, tmp_path):
    assert evaluate([f"model={folder}", root, "tasks=[xcopa]", "items=2", "out=found"], Console(file=io.StringIO())) == 0
    said = f"all, since {folder} has no record of how it was made"
    assert f"not looked into for items of the test: {said}" in capsys.readouterr().err
    assert EvalReport.load(tmp_path / "found").settings["overlap"] == {"items": {}, "unknown": [said]}


def test_the_table_can_be_json(folder, root, capsys):
    (line,) = ran(capsys, f"model={folder}", root, "tasks=[xcopa]", "items=2", "format=json").splitlines()
    table = json.loads(line)
    assert (table["task"], table["columns"][0]["cells"]["th"]["n"]) == ("xcopa", 2)


@pytest.mark.parametrize(("settings", "message"), [
    (["tasks=[xcopa]"], "model: name either a checkpoint"),
    (["tasks=[xcopa]", "model=x", "endpoint=y"], "model: name either a checkpoint"),
    (["tasks=[xcopa]", "endpoint=http://127.0.0.1:9/v1"], "tokenizer: an endpoint is asked with token ids"),
    (["tasks=[xkopa]", "model=x"], "tasks: unknown benchmark 'xkopa'; did you mean xcopa"),
    (["tasks=[]", "model=x"], "tasks: name some of "),
    (["model=x"], "tasks"),
    (["tasks=[xcopa]", "model=x", "languges=[th]"], "languges"),
    (["xcopa"], "'xcopa' is not key=value"),
    (["tasks=[xcopa", "model=x"], "tasks: '[xcopa' can't be read as YAML (expected ',' or ']', but got '<stream end>')"),
    (["tasks=[xcopa]", "model=x", "tasks.xcopa=y"], "tasks.xcopa: unknown key"),
    (["tasks=[xcopa]", "model=x", "files=y", "files.xcopa=z"], "files"),
    (["tasks=[xstest]", "model=x"], r"files.xstest: this benchmark is read from files"),
])  # fmt: skip
def test_wrong_settings_are_refused_at_once(settings, message, capsys):
    assert main(["evaluate", *settings]) == 2
    assert message in capsys.readouterr().err
