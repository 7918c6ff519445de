"""The study: rates by the stated rule, intervals that hold what they claim, every arm with its tokens, a page of its own."""

from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
import torch
from rich.console import Console

from sea_ray.artifacts import Store, plain, write_json
from sea_ray.errors import ConfigError, SeaRayError
from sea_ray.evaluation.figures import Detail, EvalReport, Figure
from sea_ray.execution import SoloPlatform
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.foresight import foresee
from sea_ray.launch.report import report as write_again
from sea_ray.launch.run import write_study_report
from sea_ray.report.formats import change
from sea_ray.report.neuron_study_page import render
from sea_ray.studies.carry_out import carry_out
from sea_ray.studies.neurons import RateTrial, choose_rates
from sea_ray.studies.neurons_report import Bits, neuron_study_data
from sea_ray.study_config import ArmConfig, NeuronStudy
from sea_ray.upkeep import RUN

ARMS = {"lsn": ArmConfig(title="neurons", alone=True), "full": ArmConfig(title="full", trains="all", alone=True)}
STUDY = NeuronStudy(arms=ARMS, reference="lsn", languages=("th", "jv"), rate_languages=("th",), rates=(1e-4, 1e-3))


def rate_trial(arm, rate, gain, cost):
    return RateTrial(arm=arm, rate=rate, gain=gain, cost=cost, error=None if gain is not None else "it diverged")


def chosen(trials):
    return {trial.arm: trial.rate for trial in trials if trial.chosen}


def test_the_rate_with_the_largest_gain_within_the_cost_is_taken_else_the_cheapest():
    trials = [rate_trial("lsn", 1e-4, 0.01, 0.001), rate_trial("lsn", 1e-3, 0.03, 0.009), rate_trial("lsn", 1e-2, 0.2, 0.3),
              rate_trial("full", 1e-4, 0.05, 0.02), rate_trial("full", 1e-3, 0.09, 0.4)]
    assert chosen(choose_rates(STUDY, trials)) == {"lsn": 1e-3, "full": 1e-4}


def test_a_rate_that_fails_is_passed_over_and_an_arm_without_any_is_named():
    trials = [rate_trial("lsn", 1e-4, 0.01, 0.0), rate_trial("lsn", 1e-3, None, None), rate_trial("full", 1e-4, 0.01, 0.0)]
    assert chosen(choose_rates(STUDY, trials))["lsn"] == 1e-4
    with pytest.raises(SeaRayError, match=r"arm full could be trained with none of its rates.*it diverged"):
        choose_rates(STUDY, [trials[0], rate_trial("full", 1e-4, None, None)])


@pytest.mark.parametrize(("change", "says"), [
    ({"seeds": (0, 1)}, "three or more"), ({"seeds": (0, 1, 100)}, "chosen on what they are judged by"),
    ({"reference": "lora"}, "there is no arm 'lora'"), ({"rate_languages": ("vi",)}, "name some of th, jv"),
    ({"languages": ("th", "en", "jv")}, "what must not suffer"), ({"rates": ()}, "rates above 0"),
])
def test_a_study_that_would_mislead_is_refused(change, says):
    with pytest.raises(ConfigError, match=says):
        replace(STUDY, **change)


@pytest.mark.parametrize(("arm", "says"), [
    ({"trains": "lora"}, "needs a rank"), ({"trains": "all", "lora_rank": 4}, "does not go with"), ({"replay": 0.2}, "alone"),
])
def test_an_arm_that_makes_no_sense_is_refused(arm, says):
    with pytest.raises(ConfigError, match=says):
        ArmConfig(title="x", **arm)


def report(values):
    """Return an evaluation whose documents of 100 bytes have these bits per byte, by language."""
    details = tuple(Detail(task="text", language=code, item=place, prompt="a" * 100, response="", score=value)
                    for code, some in values.items() for place, value in enumerate(some))
    figures = tuple(Figure(task="text", metric="bits_per_byte", language=code, value=float(np.mean(some)), n=len(some), low=0.0,
                           high=9.0, higher_is_better=False) for code, some in values.items())
    return EvalReport(model="m", figures=figures, details=details)


def test_the_interval_covers_the_true_change_as_often_as_it_says():
    """Documents and seeds are drawn from what is known; 95 % intervals must hold the truth in about 95 % of 300 studies."""
    draw, hits, differences = np.random.default_rng(0), 0, 0
    for _ in range(300):
        base = draw.uniform(0.8, 1.2, 60)
        bits = Bits(report({"th": base}))

        def run(true, base=base):
            return report({"th": base * (1 + true + draw.normal(0, 0.01) + draw.normal(0, 0.05, 60))})

        ours, theirs = [run(-0.10) for _ in range(3)], [run(-0.10) for _ in range(3)]
        found = bits.estimate(ours, ["th"])
        hits += found.low <= -0.10 <= found.high
        apart = bits.estimate(ours, ["th"], theirs)
        differences += apart.low <= 0 <= apart.high
    assert hits / 300 >= 0.93
    assert differences / 300 >= 0.93


def test_the_interval_is_not_wider_than_the_noise_warrants():
    draw, base = np.random.default_rng(1), np.random.default_rng(2).uniform(0.8, 1.2, 200)
    runs = [report({"th": base * (0.9 + draw.normal(0, 0.001))}) for _ in range(3)]
    found = Bits(report({"th": base})).estimate(runs, ["th"])
    assert found.value == pytest.approx(-0.1, abs=0.003)
    assert found.high - found.low < 0.02


def test_models_of_one_language_each_are_read_on_it_and_held_against_those_of_all():
    draw = np.random.default_rng(3)
    base = {code: draw.uniform(0.8, 1.2, 100) for code in ("th", "jv", "en")}
    bits = Bits(report(base))

    def run(**changes):
        return report({code: some * (1 + changes.get(code, 0.0)) for code, some in base.items()})

    alone = {"th": run(th=-0.2, jv=0.5, en=0.01), "jv": run(jv=-0.1, th=0.5, en=0.03)}
    together = [run(th=-0.05 + shift, jv=-0.05 + shift) for shift in (-0.01, 0.0, 0.01)]
    own = bits.estimate_alone(alone)
    assert own.low == pytest.approx(own.high) == pytest.approx(-0.15), "documents that change alike leave no doubt"
    assert bits.estimate_alone(alone, ["en"]).value == pytest.approx(0.02)
    assert bits.estimate_alone(alone, against={"th": run(th=-0.1), "jv": run(jv=-0.1)}).value == pytest.approx(-0.05)
    apart = bits.estimate_alone(alone, together=together)
    assert apart.value == pytest.approx(-0.1)
    assert apart.high - apart.value == pytest.approx(4.302653 * 0.01 / 3**0.5), "the seeds of all at once"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, miniature):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    store = Store(str(tmp_path_factory.mktemp("study")))
    overrides = [*miniature, "study=neurons_vs_pretraining", "study.neurons.languages=[th,id]",
                 "study.neurons.rate_languages=[th]", "study.neurons.rates=[2.0e-4]", "~study.neurons.arms",
                 "+study.neurons.arms={lsn: {title: neurons, alone: true}, lora: {title: LoRA, trains: lora, lora_rank: 4}, "
                 "replay: {title: replay, trains: all, replay: 0.25, alone: true}}"]
    config = compose_experiment(overrides)
    study = carry_out(config, SoloPlatform(store))
    yield config, study, store, overrides
    torch.set_num_threads(threads)


def test_every_arm_runs_with_every_seed_on_as_many_tokens(finished):
    config, study, _, _ = finished
    assert {(run.arm, run.seed) for run in study.runs} == {(arm, seed) for arm in ("lsn", "lora", "replay") for seed in (0, 1, 2)}
    assert {(run.arm, run.languages) for run in study.alone} == {
        (arm, (code,)) for arm in ("lsn", "replay") for code in ("th", "id")}
    samples = set()
    for run in study.runs:
        facts = run.training.facts
        parts = [part["training"] for part in facts["runs"].values()] if "runs" in facts else [facts["training"]]
        samples.add(sum(part["steps"] for part in parts) * config.neurons.training.batch_sequences)
        if run.arm == "replay":
            shares = facts["training"]["realised_shares"]
            assert shares["en"] == pytest.approx(0.25, abs=0.05)
    assert len(samples) == 1
    assert len({run.evaluation.fingerprint for run in study.runs}) == 9  # a seed changes the outcome


def test_a_finished_study_is_reused_whole(finished):
    config, _, store, _ = finished
    assert {state for _, state in foresee(config, store).stages} == {"finished"}


def record_of(config, overrides):
    return {"name": "s", "overrides": overrides, "config": plain(config), "versions": {"torch": "x"}, "machine": "a machine",
            "seconds": 1.0, "peak_memory_bytes": 1, "stages": [], "made_at": "now"}


def test_the_page_of_a_finished_study_is_written_again_from_its_record(finished):
    config, study, store, overrides = finished
    record = record_of(config, overrides)
    file, found = write_study_report(store, study, record)
    before, out = file.read_text(), StringIO()
    file.unlink()
    write_json(file.with_name(RUN), record | {"study": found})
    assert write_again(["run=s", f"store.url={store.url}"], Console(file=out)) == 0
    assert file.read_text() == before


def test_the_page_of_a_study_whose_results_are_gone_stays_and_the_reason_is_told(finished, tmp_path):
    config, _, _, overrides = finished
    write_json(tmp_path / "s" / RUN, record_of(config, overrides) | {"study": {}})
    out = StringIO()
    assert write_again(["run=s", f"store.url={tmp_path}"], Console(file=out, width=300)) == 0
    assert "the page is as its run wrote it" in out.getvalue()
    assert "stages are not in the store, such as corpus" in out.getvalue()


def test_the_page_says_everything_that_was_measured(finished):
    config, study, _, overrides = finished
    data = neuron_study_data(study, record_of(config, overrides))
    page = render(data)
    assert {arm.name for arm in data.arms} == {"lsn", "lora", "replay"}
    for arm in data.arms:
        assert arm.title in page
        assert arm.taught.low <= arm.taught.value <= arm.taught.high
        assert (arm.difference is None) == (arm.name == "lsn")
    lora = next(arm for arm in data.arms if arm.name == "lora")
    before, after = (EvalReport.load(study.before.folder), [EvalReport.load(run.evaluation.folder) for run in study.runs
                                                            if run.arm == "lora"])
    expected = np.mean([one.figure("text", "bits_per_byte", "en").value / before.figure("text", "bits_per_byte", "en").value - 1
                        for one in after])
    assert lora.english.value == pytest.approx(expected, abs=1e-6)
    assert [one.arm for one in data.interference] == ["lsn", "replay"]
    neurons = data.interference[0]
    assert set(neurons.changes) == {"th", "id"}
    assert neurons.own.value == pytest.approx(np.mean([neurons.changes[code][code] for code in ("th", "id")]))
    assert neurons.english.value == pytest.approx(np.mean([neurons.changes[code]["en"] for code in ("th", "id")]))
    assert neurons.difference.value == pytest.approx(neurons.own.value - neurons.own_together.value)
    (sentence,) = [one for one in data.answer if one.startswith("Taught one language at a time (one seed), the reference")]
    assert change(neurons.difference.value) in sentence
    replay = data.interference[1]
    assert neurons.against_reference is None
    assert replay.against_reference.value == pytest.approx(replay.own.value - neurons.own.value)
    assert neurons.difference.low < neurons.difference.value < neurons.difference.high
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
