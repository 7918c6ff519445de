"""Dot plots: one row per language, one mark per model or arm, with intervals; or a before-and-after pair per row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sea_ray.report.labels import in_order, is_kept, language_name
from sea_ray.report.markup import Html, element
from sea_ray.report.svg import Scale, fit, line, mark, picture, text, x_axis

_LABEL_WIDTH = 88
_TOP = 30
_GROUP_GAP = 14


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One mark."""

    value: float
    low: float | None = None
    """Lower end of the interval; None: no interval is drawn."""
    high: float | None = None
    title: str = ""
    """Shown on hover."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """The marks of one model or arm."""

    name: str
    tone: int
    dots: Mapping[str, Dot]
    """Language -> mark."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Where the languages stand, top to bottom; English and Chinese come last, set apart."""

    middles: Mapping[str, float]
    """Language -> middle of its row."""
    height: float
    """Of a row."""
    bottom: float
    rule: float | None
    """Where the line between the groups is, if there are two."""


def lay_out(languages: Sequence[str], height: float) -> Rows:
    """Return the rows of a dot plot.

    Args:
        languages: codes in any order.
        height: of a row, pixels.
    """
    middles: dict[str, float] = {}
    rule, y = None, float(_TOP)
    for code in in_order(languages):
        if rule is None and is_kept(code) and middles:
            rule = y + _GROUP_GAP / 2
            y += _GROUP_GAP
        middles[code] = y + height / 2
        y += height
    return Rows(middles=middles, height=height, bottom=y, rule=rule)


def dot_plot(label: str, series: Sequence[Series], *, format_tick: Callable[[float], str], width: float = 560,
             lines: Mapping[str, float] | None = None, row_height: float | None = None) -> Html:
    """Return the marks of all series, spread a little within each row so that their intervals don't cover each other.

    Args:
        label: what the picture shows, for screen readers.
        series: in the order of their spread, top first.
        format_tick: value -> text.
        width: pixels.
        lines: name -> value of vertical lines to compare with, such as "no change" at 0.
        row_height: pixels; None: as many as the series need.
    """
    languages = [code for one in series for code in one.dots]
    rows = lay_out(languages, row_height or natural_height(len(series)))
    dots = [dot for one in series for dot in one.dots.values()]
    values = [value for dot in dots for value in (dot.value, dot.low, dot.high) if value is not None]
    scale = fit([*values, *(lines or {}).values()], _LABEL_WIDTH + 8, width - 14)
    return picture(width, rows.bottom + 24, label, _frame(rows, scale, width, format_tick),
                   _compare(lines or {}, rows, scale),
                   *(_series(one, position, len(series), rows, scale) for position, one in enumerate(series)))


def natural_height(num_series: int) -> float:
    """Return the height of a row that holds so many marks one under another, pixels."""
    return max(24.0, 10.0 * num_series + 8)


def dumbbells(label: str, before: Series, after: Series, *, format_tick: Callable[[float], str], width: float = 420,
              row_height: float = 24) -> Html:
    """Return a pair of marks per row, joined by a line from before to after.

    Args:
        label: what the picture shows, for screen readers.
        before, after: marks of the same languages.
        format_tick: value -> text.
        width, row_height: pixels.
    """
    rows = lay_out(list(after.dots), row_height)
    scale = fit([dot.value for one in (before, after) for dot in one.dots.values()], _LABEL_WIDTH + 8, width - 14)
    joints = [element("g", line(scale(before.dots[code].value), y, scale(after.dots[code].value), y, f"joint tone-{after.tone}"),
                      data_language=code)
              for code, y in rows.middles.items()
              if code in before.dots and math.isfinite(before.dots[code].value + after.dots[code].value)]
    return picture(width, rows.bottom + 24, label, _frame(rows, scale, width, format_tick), *joints,
                   *(_series(one, 0, 1, rows, scale) for one in (before, after)))


def _frame(rows: Rows, scale: Scale, width: float, format_tick: Callable[[float], str]) -> Html:
    names = [element("g", text(_LABEL_WIDTH, y + 4, language_name(code), "label", "end"), data_language=code)
             for code, y in rows.middles.items()]
    rule = None if rows.rule is None else line(0, rows.rule, width, rows.rule, "rule")
    return element("g", x_axis(scale, _TOP - 4, rows.bottom, format_tick), *names, rule)


def _compare(lines: Mapping[str, float], rows: Rows, scale: Scale) -> Html:
    drawn = []
    for position, (name, value) in enumerate(lines.items()):
        x = scale(value)
        anchor = "end" if x > (scale.start + scale.end) / 2 else "start"
        drawn.append(line(x, _TOP - 6, x, rows.bottom, "reference"))
        drawn.append(text(x, _TOP - 10 - 12 * (position % 2), name, "tick", anchor))
    return element("g", *drawn)


def _series(series: Series, position: int, num_series: int, rows: Rows, scale: Scale) -> Html:
    spread = min(10.0, (rows.height - 8) / max(1, num_series))
    offset = (position - (num_series - 1) / 2) * spread
    drawn = []
    for code, dot in series.dots.items():
        if not math.isfinite(dot.value):
            continue  # the table says so
        y = rows.middles[code] + offset
        whisker = None
        if dot.low is not None and dot.high is not None and math.isfinite(dot.high - dot.low):
            whisker = line(scale(dot.low), y, scale(dot.high), y, f"interval tone-{series.tone}")
        title = dot.title or f"{language_name(code)}, {series.name}"
        drawn.append(element("g", whisker, mark(scale(dot.value), y, series.tone, 3.6, title), data_language=code))
    return element("g", *drawn)
