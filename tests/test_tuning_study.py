"""Studies of fine-tunings: arms differ in what they set, intervals hold what they claim, the recommendation follows its rule."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sea_ray.artifacts import RECORD, Store, plain, read_json
from sea_ray.asking import EndpointConfig
from sea_ray.errors import ConfigError
from sea_ray.evaluation.figures import EvalReport, proportion
from sea_ray.execution import SoloPlatform
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.foresight import foresee
from sea_ray.launch.reading import read_study
from sea_ray.report.study_data import Estimate, TuningArmRow
from sea_ray.report.tuning_study_page import render
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.local import serve_in_thread
from sea_ray.studies.carry_out import carry_out
from sea_ray.studies.tuning_report import _other_row, _recommend, estimate, tuning_study_data
from sea_ray.study_config import Measure, OtherModel, StudyConfig, TuningArm, TuningStudy

EXAM = Measure(title="exam", figures=("exam/accuracy",))
STUDY = TuningStudy(title="t", question="q", arms={name: TuningArm(title=name) for name in "abc"}, reference="a",
                    stages=("broad",), tasks=("exam",), measures={"exam": EXAM}, recommend_by="exam")


@pytest.mark.parametrize(("change", "says"), [
    ({"reference": "x"}, "there is no arm 'x'"), ({"seeds": (0, 0, 1)}, "three or more"),
    ({"stages": ("high_quality", "broad")}, "order"), ({"recommend_by": "speed"}, "no measure 'speed'"),
])
def test_a_study_that_would_mislead_is_refused(change, says):
    with pytest.raises(ConfigError, match=says):
        replace(STUDY, **change)


@pytest.mark.parametrize(("change", "says"), [
    ({"others": {"a": OtherModel(title="t", checkpoint="o/m")}}, "an arm has this name"),
    ({"others": {"x": OtherModel(title="t", endpoint=EndpointConfig(url="http://h/v1", model="m"))}}, "exam need more"),
])
def test_a_model_beside_the_arms_has_a_name_of_its_own_and_something_to_be_asked(change, says):
    with pytest.raises(ConfigError, match=says):
        replace(STUDY, **change)


@pytest.mark.parametrize("both", [{}, {"checkpoint": "o/m", "endpoint": EndpointConfig(url="http://h/v1", model="m")}])
def test_a_model_beside_the_arms_is_a_checkpoint_or_an_endpoint(both):
    with pytest.raises(ConfigError, match="either a checkpoint"):
        OtherModel(title="t", **both)


def test_one_study_at_a_time():
    with pytest.raises(ConfigError, match="one study at a time"):
        StudyConfig()


def report(hits, n):
    figures = tuple(proportion("exam", "accuracy", code, [place < count for place in range(n)], higher_is_better=True)
                    for code, count in hits.items())
    return EvalReport(model="m", figures=figures)


def test_the_interval_covers_the_true_share_and_difference_as_often_as_it_says():
    draw, hits, differences = np.random.default_rng(0), 0, 0
    for _ in range(300):
        items = draw.random(80) < 0.6  # which items are easy is common to all seeds

        def run(items=items):
            flips = draw.random(80) < 0.05
            return report({"th": int((items ^ flips).sum())}, 80)

        found = estimate([run() for _ in range(3)], EXAM, ["th"])
        hits += found.low <= 0.6 * 0.95 + 0.4 * 0.05 <= found.high
        apart = estimate([run() for _ in range(3)], EXAM, ["th"], [run() for _ in range(3)])
        differences += apart.low <= 0 <= apart.high
    assert hits / 300 >= 0.93
    assert differences / 300 >= 0.95


def test_a_language_without_one_of_the_figures_is_averaged_over_the_others():
    exam = report({"en": 40, "zh": 20}, 80).figures
    translation = replace(exam[1], task="translation", metric="chrf_into_english", value=30.0, low=28.0, high=32.0)
    both = EvalReport(model="m", figures=(*exam, translation))
    measure = Measure(title="skills", figures=("exam/accuracy", "translation/chrf_into_english"))
    assert estimate([both] * 3, measure, ["en", "zh"]).value == pytest.approx((0.5 + 0.25 + 0.30) / 3)
    assert estimate([both] * 3, measure, ["en"]).value == pytest.approx(0.5)
    with pytest.raises(ConfigError, match="was not measured"):
        estimate([both] * 3, Measure(title="t", figures=("translation/chrf_into_english",)), ["en"])


def row(name, sea, kept, half=0.01):
    def own(value):
        return {"exam": Estimate(value=value, low=value - half, high=value + half)}

    return TuningArmRow(name=name, title=name, sea=own(sea), kept=own(kept), sea_difference={}, kept_difference={},
                        by_language={}, chance_of_best=None, on_front=False)


def test_the_best_for_sea_is_recommended_among_those_that_keep_english_and_chinese():
    rows = [row("a", 0.5, 0.8), row("b", 0.6, 0.79), row("c", 0.9, 0.5)]
    recommended, chances, front = _recommend(STUDY, rows)
    assert (recommended, front) == ("b", {"a", "b", "c"})
    assert chances["b"] > 0.5
    assert sum(chances.values()) == pytest.approx(1)
    worse = Measure(title="harm", figures=("exam/accuracy",), higher_is_better=False)
    recommended, _, front = _recommend(replace(STUDY, measures={"exam": worse}), [row("a", 0.5, 0.5), row("b", 0.3, 0.51),
                                                                                    row("c", 0.6, 0.6)])
    assert (recommended, front) == ("b", {"a", "b"})


def test_arms_that_cannot_be_told_apart_share_the_chance():
    _, chances, _ = _recommend(STUDY, [row(name, 0.5, 0.8, half=0.05) for name in "abc"])
    assert max(chances.values()) < 0.7


@pytest.fixture(scope="module")
def finished(tmp_path_factory, miniature):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    store = Store(str(tmp_path_factory.mktemp("study")))
    overrides = [*miniature, "study=refusal_culture", "study.tuning.tasks=[refusal,safety,exam]"]
    config = compose_experiment(overrides)
    results = carry_out(config, SoloPlatform(store))
    yield config, results, store, overrides
    torch.set_num_threads(threads)


def test_arms_are_taught_what_they_name_and_nothing_else_differs(finished):
    _, results, store, _ = finished
    assert {(run.arm, run.seed) for run in results.runs} == {
        (arm, seed) for arm in ("none", "general", "culture", "both") for seed in (0, 1, 2)}
    taught = {}
    for run in results.runs:
        folder = store.root / "artifacts" / "conversations" / run.training.record["parents"]["conversations"]
        taught[run.arm] = read_json(folder / RECORD)["facts"]["high_quality"]["conversations"]["th"]
    assert taught["both"] - taught["general"] == taught["both"] - taught["culture"] == 2 * 2  # two kinds of two conversations
    assert taught["none"] < taught["general"]
    assert len({run.training.record["parents"]["start"] for run in results.runs}) == 1
    assert len({run.training.record["parents"]["conversations"] for run in results.runs}) == 4


def record_of(config, overrides):
    return {"name": "s", "overrides": overrides, "config": plain(config), "versions": {"torch": "x"}, "machine": "a machine",
            "seconds": 1.0, "peak_memory_bytes": 1, "stages": [], "made_at": "now"}


def test_a_finished_study_is_reused_whole_and_its_page_shows_every_measure(finished):
    config, results, store, overrides = finished
    assert {state for _, state in foresee(config, store).stages} == {"finished"}
    data = tuning_study_data(results, record_of(config, overrides))
    text = render(data)
    for measure in data.measures:
        assert measure.title.split(",")[0] in text
    for arm in data.arms:
        assert arm.title in text
        assert arm.sea["exam"].low <= arm.sea["exam"].value <= arm.sea["exam"].high
    own = [EvalReport.load(run.evaluation.folder) for run in results.runs if run.arm == "both"]
    expected = np.mean([one.figure("exam", "accuracy", code).value for one in own for code in ("id", "th")])
    assert next(arm for arm in data.arms if arm.name == "both").sea["exam"].value == pytest.approx(expected)


def test_its_page_is_written_again_from_its_record(finished):
    config, results, store, overrides = finished
    record = record_of(config, overrides)
    page = render(tuning_study_data(results, record))
    again = read_study(store, record)
    assert render(tuning_study_data(again, record)) == page


def test_a_checkpoint_and_an_endpoint_by_name_are_asked_what_the_arms_are_asked(finished, monkeypatch):
    _, results, store, overrides = finished
    folder = results.start.folder
    with serve_in_thread(folder, ServingConfig(port=0)) as endpoint:
        monkeypatch.setenv("OTHER_KEY", endpoint["api_key"])
        named = [*overrides, f"+study.tuning.others.start={{title: the start, checkpoint: {folder}}}",
                 f"+study.tuning.others.served={{title: the start served, endpoint: {{url: {endpoint['url']!r}, "
                 f"model: {endpoint['model']}, key_variable: OTHER_KEY}}}}"]
        config = compose_experiment(named)
        asked = carry_out(config, SoloPlatform(store))
    before, start, served = (EvalReport.load(one.folder) for one in (asked.before, asked.others["start"], asked.others["served"]))
    assert start.figures == before.figures
    assert served.figures == tuple(figure for figure in before.figures if figure.task != "exam")
    assert [one.response for one in served.details] == [one.response for one in before.details if one.task != "exam"]

    data = tuning_study_data(asked, record_of(config, named))
    start_row, served_row = data.others
    assert start_row.sea["refusal_tpr"] == served_row.sea["refusal_tpr"] == data.before["refusal_tpr"][0]
    assert "exam" in start_row.sea
    assert "exam" not in served_row.sea
    assert "not asked" in render(data)


def test_a_measure_of_which_a_model_was_asked_only_a_part_is_left_out():
    both = Measure(title="both", figures=("exam/accuracy", "refusal/tpr"))
    study = replace(STUDY, measures={"exam": EXAM, "both": both}, others={"x": OtherModel(title="x", checkpoint="o/m")})
    row = _other_row(study, "x", report({"th": 40, "en": 20}, 80), (["th"], ["en"]))
    assert set(row.sea) == set(row.kept) == set(row.by_language) == {"exam"}
    assert (row.sea["exam"].value, row.kept["exam"].value) == (0.5, 0.25)
