import io
import json

import pytest
from rich.console import Console

from sea_ray.artifacts import write_json
from sea_ray.errors import ConfigError
from sea_ray.evaluation.figures import Detail, EvalReport
from sea_ray.launch.cli import main
from sea_ray.launch.compare import compare_runs


def details(hits, bits, language="th"):
    return (*(Detail(task="exam", language=language, item=number, prompt=f"q{number}", response="", score=float(hit),
                     metric="accuracy") for number, hit in enumerate(hits)),
            *(Detail(task="text", language=language, item=number, prompt=f"text {number}", response="", score=score,
                     metric="bits_per_byte") for number, score in enumerate(bits)))


def put(folder, name, config, rows, **settings):
    evaluation = folder / "artifacts" / "evaluation" / name
    EvalReport(model="winner", figures=(), details=rows, settings={"prompting": "chat", **settings}).save(evaluation)
    write_json(evaluation / "record.json", {})
    place = {"kind": "evaluation", "fingerprint": name}
    write_json(folder / name / "run.json", {"config": config, "experiment": {"evaluations": {"winner": place}}})


def told(folder, *names):
    out = io.StringIO()
    assert compare_runs([*names, f"store.url={folder}"], Console(file=out, soft_wrap=True)) == 0
    return out.getvalue()


BITS = [1.0 + 0.01 * number for number in range(40)]


def test_settings_and_real_differences_are_said_in_words(tmp_path):
    put(tmp_path, "one", {"name": "one", "sft": {"mix": "even"}, "cluster": {"num_cpus": 2}},
        details([0] * 30 + [1] * 10, BITS))
    put(tmp_path, "two", {"name": "two", "sft": {"mix": "english"}, "cluster": {"num_cpus": 8}},
        details([1] * 28 + [0] * 2 + [1] * 10, [bit + 0.05 + 0.001 * (number % 3) for number, bit in enumerate(BITS)]))
    text = told(tmp_path, "one", "two")
    assert "one and two differ in 1 setting\n  sft.mix: even -> english\n" in text
    assert "2 figures were tested in pairs. Of these 2 differ beyond chance" in text
    assert "the winner of two is better in 1 and worse in 1 than that of one" in text
    assert "  better: exam accuracy th: 0.250 -> 0.950, difference +0.700" in text
    assert "  worse: text bits_per_byte th: " in text
    assert "not told from chance" not in text


def test_what_may_be_chance_is_not_called_a_difference(tmp_path):
    config = {"name": "x", "seed": 0}
    put(tmp_path, "one", config, details([0, 1] * 20, BITS))
    put(tmp_path, "two", config, details([1, 1, 0, 1] + [0, 1] * 18, BITS))
    text = told(tmp_path, "one", "two")
    assert "one and two have the same settings, but for where they ran" in text
    assert "Of these 0 differ beyond chance" in text
    assert "not told from chance: 2, of which 1 lean to two" in text


def test_winners_that_were_asked_otherwise_are_refused_with_what_differs(tmp_path):
    put(tmp_path, "one", {}, details([0, 1], BITS))
    put(tmp_path, "two", {}, details([0, 1], BITS), prompting="plain")
    with pytest.raises(ConfigError, match="of one' and 'the winner of two' can't be paired: prompting is chat and plain"):
        told(tmp_path, "one", "two")


@pytest.mark.parametrize("arguments", [[], ["one"], ["one", "two", "three"], ["one", "two", "seed=1"]])
def test_two_runs_are_needed_and_nothing_else(tmp_path, arguments):
    with pytest.raises(ConfigError, match="name two finished runs"):
        compare_runs(arguments, Console(file=io.StringIO()))


def test_a_run_that_is_not_there_is_named_on_the_command_line(tmp_path, capsys):
    assert main(["compare", "one", "two", f"store.url={tmp_path}"]) == 2
    assert "no finished run 'one'" in capsys.readouterr().err


def test_a_run_that_was_begun_says_how_to_look_at_it(tmp_path, capsys):
    write_json(tmp_path / "one" / "asked.json", {"name": "one", "config": {}})
    assert main(["compare", "one", "two", f"store.url={tmp_path}"]) == 2
    assert "it was begun, and sea-ray report run=one shows how far it is" in capsys.readouterr().err


def test_a_run_that_is_half_there_is_the_matter_of_whoever_owns_the_data(tmp_path, capsys):
    put(tmp_path, "one", {}, details([0, 1], BITS))
    put(tmp_path, "two", {}, details([0, 1], BITS))
    (tmp_path / "artifacts" / "evaluation" / "two" / "details.jsonl").unlink()
    assert main(["compare", "one", "two", f"store.url={tmp_path}"]) == 3
    assert "the figures of its winner are half there" in capsys.readouterr().err
    (tmp_path / "two" / "run.json").write_text('{"config": {"na')
    assert main(["compare", "one", "two", f"store.url={tmp_path}"]) == 3
    assert "run.json: it is half there" in capsys.readouterr().err


def test_machines_get_every_difference_with_whether_it_is_real(tmp_path, capsys):
    put(tmp_path, "one", {"sft": {"mix": "even"}}, details([0] * 40, BITS))
    put(tmp_path, "two", {"sft": {"mix": "english"}}, details([1] * 40, BITS))
    assert main(["compare", "one", "two", f"store.url={tmp_path}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"] == [{"path": "sft.mix", "first": "even", "second": "english"}]
    assert {one["metric"]: one["real"] for one in found["differences"]} == {"accuracy": True, "bits_per_byte": False}
