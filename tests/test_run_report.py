"""What the page says was found, and what it says was not."""

from types import SimpleNamespace

from sea_ray.evaluation.figures import EvalReport, Figure
from sea_ray.run_report import findings

EXPERIMENT = SimpleNamespace(thresholds=SimpleNamespace(keeps_limits=True))


def report(model, **values):
    """Return a report of Thai with 'task__metric' -> (value, half of the interval)."""
    figures = tuple(
        Figure(task=name.split("__")[0], metric=name.split("__")[1], language="th", value=value, n=50, low=value - half,
               high=value + half, higher_is_better=name.split("__")[1] not in ("over_refusal", "bits_per_byte"))
        for name, (value, half) in values.items())
    return EvalReport(model=model, figures=figures)


def said(winner, base, without=None):
    reports = {"winner": report("winner", **winner), "base": report("base", **base),
               "SFT without safety": report("without", **(without or {}))}
    return findings([], reports, EXPERIMENT)


def test_a_skill_counts_as_found_only_beyond_both_intervals():
    found, absent = said({"exam__accuracy": (0.30, 0.05)}, {"exam__accuracy": (0.25, 0.04)})
    assert not found
    assert absent == ["Exam questions right: 0.30 [0.25, 0.35] in the winner, 0.25 [0.21, 0.29] in the base "
                      "(mean over 1 languages)."]
    found, absent = said({"exam__accuracy": (0.60, 0.05)}, {"exam__accuracy": (0.25, 0.04)})
    assert len(found) == 1
    assert not absent


def test_plain_text_that_became_worse_is_said():
    found, absent = said({"text__bits_per_byte": (1.8, 0.02)}, {"text__bits_per_byte": (0.6, 0.02)})
    assert not found
    assert absent[0].startswith("Bits per byte of plain text: 1.80")


def test_what_safety_data_cost_stands_beside_what_they_gave():
    found, absent = said({"safety_culture__over_refusal": (0.4, 0.1)}, {}, {"safety_culture__over_refusal": (0.0, 0.1)})
    assert not found
    assert absent[0].startswith("Harmless culture-specific look-alikes refused: 0.40 with safety data, 0.00 without")
