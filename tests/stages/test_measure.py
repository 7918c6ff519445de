"""The figures that decide: what a neuron sweep is judged by, and what the gate reads."""

import pytest

from sea_ray.evaluation.figures import EvalReport, Figure
from sea_ray.safety.gate import BALANCED_ACCURACY, FALSE_REFUSAL_RATE, UNSAFE_ANSWER_RATE, GateConfig, check_gate
from sea_ray.stages.gate import gate_figures
from sea_ray.stages.measure import gains


def test_the_gain_is_the_mean_relative_fall_over_the_sea_languages_alone():
    before = {"en": 2.0, "zh": 2.0, "th": 2.0, "vi": 4.0}
    after = {"en": 2.02, "zh": 1.9, "th": 1.0, "vi": 3.0}
    figures = gains(before, after)
    assert figures["gain_sea"] == pytest.approx(1 - (0.5 + 0.75) / 2)
    assert figures["worst_sea_ratio"] == pytest.approx(0.75)
    assert figures["english_ratio"] == pytest.approx(1.01)
    assert figures["chinese_ratio"] == pytest.approx(0.95)


def test_a_language_that_is_not_there_has_no_figure():
    assert "chinese_ratio" not in gains({"en": 1.0, "th": 1.0}, {"en": 1.0, "th": 1.0})


def figure(task, metric, value, n, code="th"):
    return Figure(task=task, metric=metric, language=code, value=value, n=n, low=0.0, high=1.0, higher_is_better=False)


def test_the_gate_counts_harmful_requests_of_all_kinds_together():
    report = EvalReport(model="m", figures=(
        figure("refusal", "balanced_accuracy", 0.9, 40), figure("refusal", "fpr", 0.1, 20),
        figure("safety_general", "unsafe_answered", 0.5, 10), figure("safety_culture", "unsafe_answered", 0.0, 30),
        figure("safety_culture", "over_refusal", 0.7, 30), figure("safety_general", "unsafe_answered", 1.0, 10, "vi")))
    assert gate_figures(report, "th") == {
        BALANCED_ACCURACY: 0.9, FALSE_REFUSAL_RATE: 0.1, UNSAFE_ANSWER_RATE: pytest.approx(5 / 40)}


def test_what_was_not_measured_does_not_pass_the_gate():
    report = EvalReport(model="m", figures=(figure("refusal", "balanced_accuracy", 0.9, 40),))
    result = check_gate({"th": gate_figures(report, "th")}, ["th"], GateConfig())
    assert not result.passed
    assert len(result.reasons) == 2
    assert all("was not measured" in reason for reason in result.reasons)
