"""The safety gate, read from the evaluation of the checkpoint that is to be served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sea_ray.evaluation.figures import EvalReport
from sea_ray.execution import StageContext
from sea_ray.safety.gate import check_gate


def build(context: StageContext) -> Mapping[str, Any]:
    """Write nothing but the record; facts: passed, reasons."""
    report = EvalReport.load(context.parents["evaluation"])
    figures: dict[str, dict[str, float]] = {}
    for figure in report.figures:
        figures.setdefault(figure.language, {})[figure.metric] = figure.value
    result = check_gate(figures, tuple(figures), context.config.gate)
    return {"passed": result.passed, "reasons": result.reasons}
