"""`detect`, `train`, `sweep`, `report` and `packs`: one experiment, carried further by each command."""

import json

import pytest

from sea_ray.artifacts import read_json
from sea_ray.errors import ConfigError
from sea_ray.launch.compose import compose_experiment


def result(told, command):
    code, out, errors = told[command]
    assert code == 0, errors
    return json.loads(out)


def stages_that_ran(told, command):
    return [line.split()[-1] for line in told[command][2].splitlines() if line.startswith("start ")]


def test_detect_ends_with_each_languages_neurons_and_trains_none(told):
    found = result(told, "detect")
    assert [row["language"] for row in found["neurons"]] == ["en", "id", "th"]
    for row in found["neurons"]:
        assert row["neurons"] == sum(row[site] for site in ("ffn", "v") if site in row) > 0
        assert 0 < row["parameter share"] < 1
    assert stages_that_ran(told, "detect") == ["corpus", "base", "detection"]
    assert "next        sea-ray train" in told["detect"][2]


def test_train_goes_on_from_there_to_the_merged_packs(told):
    found = result(told, "train")
    assert [row["language"] for row in found["packs"]] == ["id", "th"]
    assert stages_that_ran(told, "train") == ["merged"]
    assert "reused" in told["train"][2]
    assert found["winner"].keys() == {"neurons.selection.top_frac"}
    assert (read_json_of(found["packs"][0]["folder"]))["language"] == "id"


def read_json_of(folder):
    from pathlib import Path

    return read_json(Path(folder) / "pack.json")


def test_sweep_adds_the_mixes_and_nothing_that_stands_beside_them(told):
    found = result(told, "sweep")
    assert [len(found[name]["trials"]) for name in ("neurons", "mixes")] == [2, 2]
    assert [sum(trial["winner"] for trial in found[name]["trials"]) for name in ("neurons", "mixes")] == [1, 1]
    assert stages_that_ran(told, "sweep") == ["conversations"]
    assert "control" not in told["sweep"][2]


def test_run_then_computes_the_rest_alone(told):
    found = result(told, "run")
    reused = {row["name"] for row in found["stages"] if row["reused"]}
    assert {"corpus", "base", "detection", "merged", "conversations"} <= reused
    assert "control/random_matched" not in reused
    assert found["gate"]["passed"] is False
    assert found["winner"].keys() == {"neurons.selection.top_frac", "sft.mix"}


def test_standard_output_holds_one_line_of_json_and_people_read_the_rest(told):
    for command in ("detect", "train", "sweep", "run"):
        assert told[command][1].count("\n") == 1
        assert "done" in told[command][2]


def test_a_report_before_anything_began_names_what_there_is(told):
    code, _, errors = told["report before"]
    assert code == 2
    assert "no run 'miniature' was begun" in errors


def test_a_report_before_the_end_shows_what_is_there_and_what_is_not(told):
    code, out, errors = told["report after detect"]
    assert code == 0, errors
    assert "miniature has not finished: 3 of 24 stages are there" in out
    assert "there       corpus, base, detection" in out
    assert "merged" in out.partition("not yet")[2]
    page = told["page after detect"]
    assert "This run has not finished: 3 of 24 stages are there." in page
    assert "There: corpus, base, detection. Not there yet: " in page
    assert "Not found, or worse" not in page
    assert "Not there yet: gate." in page
    assert 'id="corpus"' in page
    assert "Tokens per byte" in page or "tokens per byte" in page


def test_a_report_between_the_sweeps_shows_the_trials_that_have_finished(told):
    page = told["page after train"]
    assert "<h3>Neurons of each language</h3>" in page
    assert "<h3>Fine-tuning</h3>" not in page
    assert "<h3>Fine-tuning</h3>" in told["page after sweep"]


def test_the_page_of_a_finished_run_is_written_again_from_its_record(told, terminal):
    code, _, errors = told["report after run"]
    assert code == 0, errors
    assert "not finished" not in told["page after run"]
    page = terminal.store / "miniature" / "report.html"
    before = page.read_text()
    page.unlink()
    assert terminal("report", "run=miniature", terminal.at)[0] == 0
    assert page.read_text() == before


def test_packs_are_listed_as_soon_as_they_are_trained(told):
    code, out, _ = told["packs after detect"]
    assert code == 2
    assert "not trained yet" in json.loads(out)["error"]
    early, late = (result(told, f"packs after {command}") for command in ("train", "run"))
    assert early == late
    row = early["packs"][0]
    assert row["gain"] == pytest.approx(1 - row["with pack"] / row["bits per byte"])
    assert row["bytes"] > row["values"] * 4
    assert "export run=miniature" in told["packs after run"][2]


def test_until_is_execution_and_no_identity(planned):
    names = planned("until=end")
    assert names.keys() == planned().keys()
    with pytest.raises(ConfigError, match="until: detection, but a study is carried out as a whole"):
        compose_experiment(["experiment=study_neurons_vs_pretraining", "until=detection"])


def test_a_plan_of_a_part_has_the_stages_of_that_part(told, terminal):
    code, out, errors = terminal("plan", *terminal.settings, "until=neurons", "--no-measure", "--json")
    assert code == 0, errors
    found = json.loads(out)
    assert {stage["kind"] for stage in found["stages"]} == {"corpus", "base", "detection", "neurons", "merged"}
    assert {stage["state"] for stage in found["stages"]} == {"finished"}
    assert found["fits"] is True
