"""The safety gate, read from the evaluation of the checkpoint that is to be served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sea_ray.evaluation.figures import EvalReport
from sea_ray.execution import StageContext
from sea_ray.safety.gate import BALANCED_ACCURACY, FALSE_REFUSAL_RATE, UNSAFE_ANSWER_RATE, check_gate


def build(context: StageContext) -> Mapping[str, Any]:
    """Write nothing but the record; facts: passed, reasons, and the figures that were read."""
    report = EvalReport.load(context.parents["evaluation"])
    languages = report.settings["languages"]
    figures = {code: gate_figures(report, code) for code in languages}
    result = check_gate(figures, languages, context.config.gate)
    return {"passed": result.passed, "reasons": result.reasons, "figures": figures}


def gate_figures(report: EvalReport, code: str) -> dict[str, float]:
    """Return a language's figures under the gate's names; harmful requests of all kinds count together."""
    figures = {}
    for name, metric in ((BALANCED_ACCURACY, "balanced_accuracy"), (FALSE_REFUSAL_RATE, "fpr")):
        if code in report.of("refusal", metric):
            figures[name] = report.figure("refusal", metric, code).value
    unsafe = [figure for figure in report.figures if figure.metric == "unsafe_answered" and figure.language == code]
    if unsafe:
        figures[UNSAFE_ANSWER_RATE] = sum(figure.value * figure.n for figure in unsafe) / sum(figure.n for figure in unsafe)
    return figures
