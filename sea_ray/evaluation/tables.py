"""A report as a table with intervals: plain text, Markdown, LaTeX or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

from sea_ray.artifacts import plain
from sea_ray.evaluation.figures import FEW, EvalReport, Figure

HEAD = ("task", "metric", "language", "value", "95 % interval", "n")


def mean_of(figures: Sequence[Figure]) -> Figure:
    """Return the mean of a metric over languages that weigh the same.

    They are independent samples, so the distances to the ends of their intervals add in squares.

    Args:
        figures: of one task and metric.
    """
    count, first = len(figures), figures[0]
    value = sum(one.value for one in figures) / count
    return Figure(task=first.task, metric=first.metric, language="mean", value=value, n=sum(one.n for one in figures),
                  low=value - math.hypot(*(one.value - one.low for one in figures)) / count,
                  high=value + math.hypot(*(one.high - one.value for one in figures)) / count,
                  higher_is_better=first.higher_is_better)


def lines_of(report: EvalReport) -> list[tuple[str, ...]]:
    """Return a line of cells for each figure, and one for the mean of each metric that has several languages."""
    lines: list[tuple[str, ...]] = []
    for task, metric in dict.fromkeys((figure.task, figure.metric) for figure in report.figures):
        figures = list(report.of(task, metric).values())
        for one in [*figures, *([mean_of(figures)] if len(figures) > 1 else [])]:
            few = "*" if one.few else ""
            lines.append((task, metric, one.language, f"{one.value:.4f}", f"{one.low:.4f} to {one.high:.4f}", f"{one.n}{few}"))
    return lines


def as_text(report: EvalReport) -> str:
    """Return columns of plain text."""
    rows = [HEAD, *lines_of(report)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  ".join(cell.ljust(width) if place < 3 else cell.rjust(width)
                       for place, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]
    return "\n".join([report.model, *lines, f"* fewer than {FEW} items: the interval says little"])


def as_markdown(report: EvalReport) -> str:
    """Return a Markdown table."""
    lines = [" | ".join(row) for row in (HEAD, ("---",) * 3 + ("---:",) * 3, *lines_of(report))]
    note = f"\\* fewer than {FEW} items: the interval says little"
    return "\n".join([f"**{report.model}**", "", *(f"| {line} |" for line in lines), "", note])


def as_latex(report: EvalReport) -> str:
    """Return a LaTeX tabular for the package booktabs."""
    head, *rows = (" & ".join(_escaped(cell) for cell in row) + r" \\" for row in (HEAD, *lines_of(report)))
    return "\n".join([f"% {report.model}", r"\begin{tabular}{lllrrr}", r"\toprule", head, r"\midrule", *rows, r"\bottomrule",
                      r"\end{tabular}"])


def as_json(report: EvalReport) -> str:
    """Return the model, the settings and the figures."""
    head = {"model": report.model, "settings": plain(report.settings), "figures": plain(report.figures)}
    return json.dumps(head, ensure_ascii=False, indent=1)


def _escaped(cell: str) -> str:
    return cell.replace("_", r"\_").replace("%", r"\%")


FORMATS: dict[str, Callable[[EvalReport], str]] = {
    "text": as_text, "markdown": as_markdown, "latex": as_latex, "json": as_json,
}
"""Name -> how a report is written."""
