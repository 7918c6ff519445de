"""Safety and over-refusal: the gate's limits with the language that comes nearest to each, and what the winner refuses."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sea_ray.report import formats
from sea_ray.report.data import FigureRow, Gate, Limit, ReportData
from sea_ray.report.dots import Dot, Series, dot_plot
from sea_ray.report.labels import language_name
from sea_ray.report.markup import Html, cell, element, heading, join, number, number_heading, paragraph, table
from sea_ray.report.names import task_name, title
from sea_ray.report.svg import figure

_PAIRS = {("unsafe_answered", "over_refusal"): "both should stand at the left.",
          ("tpr", "fpr"): "what is unanswerable should stand at the right, what is answerable at the left."}
"""Two metrics of one task that only mean something together -> how they are read."""


def safety(data: ReportData) -> Html:
    """Return the verdict of the safety gate, its limits, and pictures of what is refused in each language."""
    assert data.gate is not None
    verdict = data.gate
    word = element("strong", "passed" if verdict.passed else "failed", class_="good" if verdict.passed else "bad")
    told = "the winner may be served." if verdict.passed else "the winner is not served unless told otherwise."
    reasons = element("ul", *(element("li", reason) for reason in verdict.reasons)) if verdict.reasons else None
    rows = [_limit(verdict, limit) for limit in verdict.limits]
    limits = table(["Every language keeps", number_heading("limit"), number_heading("nearest to it"), "in", ""], rows,
                   "compact") if rows else None
    return join([paragraph(join(["The gate ", word, f": {told}"])), reasons, limits, _pictures(data)])


def _limit(gate: Gate, limit: Limit) -> list[Html]:
    read = {code: own[limit.figure] for code, own in gate.figures.items() if limit.figure in own}
    cells = [heading(limit.figure.replace("_", " ")), number(f"{limit.kind} {formats.share(limit.value)}")]
    if not read:
        return [*cells, element("td", "not measured", class_="num absent"), cell(""), cell("")]
    worst = (max if limit.kind == "at most" else min)(read.values())
    codes = [code for code, value in read.items() if value == worst]
    named = formats.listing([language_name(code) for code in codes]) if len(codes) < 4 else f"{len(codes)} languages"
    keeps = limit.keeps(worst)
    return [*cells, number(formats.share(worst)), cell(named), cell("kept" if keeps else "broken", "good" if keeps else "bad")]


def _pictures(data: ReportData) -> Html | None:
    rows = [row for row in data.figures if row.model == data.winner]
    drawn = []
    for task in dict.fromkeys(row.task for row in rows):
        for pair, told in _PAIRS.items():
            series = [_series(rows, task, metric, tone) for metric, tone in zip(pair, (2, 1), strict=True)]
            if all(one.dots for one in series):
                plot = dot_plot(f"{task_name(task)}: {formats.listing([one.name for one in series])}, per language", series,
                                width=310, format_tick=lambda value: formats.share(value, 0))
                drawn.append(figure(join([element("strong", task_name(task)), f": {told}"]), plot,
                                    marks=[(one.name.partition(",")[0], one.tone) for one in series]))
    if not drawn:
        return None
    return join([element("h3", "What the winner refuses"),
                 paragraph("Per language, with 95 % intervals. Who refuses everything is good at one and bad at the other."),
                 element("div", *drawn, class_="pictures thirds")])


def _series(rows: Sequence[FigureRow], task: str, metric: str, tone: int) -> Series:
    name = title(task, metric)
    return Series(name=name, tone=tone, dots={
        row.language: Dot(value=row.value, low=row.low, high=row.high,
                          title=f"{language_name(row.language)}, {name.partition(',')[0].lower()}: {formats.share(row.value)} "
                                f"[{formats.share(row.low)}, {formats.share(row.high)}], n = {row.n}")
        for row in rows if (row.task, row.metric) == (task, metric) and math.isfinite(row.value)})
