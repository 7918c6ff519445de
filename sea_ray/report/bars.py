"""Bars: one figure per trial, or the shares of a mix stacked to one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sea_ray.report.formats import share
from sea_ray.report.labels import is_kept, language_name
from sea_ray.report.markup import Html, element
from sea_ray.report.svg import clip, fit, line, picture, text, x_axis

_ROW = 26.0
_CHARACTER = 6.6
"""Width of a character of a bar's label, pixels."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar."""

    name: str
    value: float
    is_winner: bool = False
    title: str = ""
    """Shown on hover."""
    trial: str | None = None
    """Key of a sweep's trial; what has the same key is shown together."""


def bars(label: str, rows: Sequence[Bar], *, format_value: Callable[[float], str], width: float = 560) -> Html:
    """Return bars from zero, negative ones to the left; a value that is not finite has its text alone.

    Args:
        label: what the picture shows, for screen readers.
        rows: top to bottom.
        format_value: value -> text beside the bar.
        width: pixels.
    """
    names = _name_width([row.name for row in rows])
    left = names + (64 if any(row.value < 0 for row in rows) else 10)  # a negative bar's value stands at its left
    scale = fit([0.0, *(row.value for row in rows)], left, width - 64, pad=0.0)
    bottom = 8 + _ROW * len(rows)
    drawn = [x_axis(scale, 4, bottom, format_value, 4), line(scale(0), 4, scale(0), bottom, "zero")]
    for position, row in enumerate(rows):
        y = 8 + position * _ROW
        drawn.append(text(names, y + 14, clip(row.name), "label strong" if row.is_winner else "label", "end"))
        if not math.isfinite(row.value):
            drawn.append(text(scale(0) + 6, y + 14, format_value(row.value), "label"))
            continue
        start, end = sorted((scale(0), scale(row.value)))
        drawn.append(element("rect", element("title", row.title or row.name), x=start, y=y + 3, height=_ROW - 10,
                             width=max(1.0, end - start), rx=1.5, class_=f"bar tone-{1 if row.is_winner else 0}",
                             data_trial=row.trial))
        inside = row.value < 0
        drawn.append(text(start - 5 if inside else end + 5, y + 14, format_value(row.value), "label",
                          "end" if inside else None))
    return picture(width, bottom + 20, label, *drawn)


def stacked(label: str, rows: Mapping[str, Mapping[str, float]], *, winner: str = "", width: float = 900) -> Html:
    """Return one bar per mix, cut into its sources' shares with their names inside.

    Tints alternate within a bar, so that neighbours are told apart without a colour per source; English and Chinese
    are grey.

    Args:
        label: what the picture shows, for screen readers.
        rows: name of a mix -> source -> share in 0 to 1. A source is a language, or "language/kind".
        winner: the mix to be marked.
        width: pixels.
    """
    names = _name_width(list(rows))
    left, full = names + 10, width - names - 12
    drawn = []
    for position, (name, shares) in enumerate(rows.items()):
        y = 4 + position * _ROW
        drawn.append(text(names, y + 15, clip(name), "label strong" if name == winner else "label", "end"))
        x, total = left, sum(shares.values()) or 1.0
        for number, (source, part) in enumerate(shares.items()):
            drawn.append(_segment(x, y, part / total * full, source, part / total, number))
            x += part / total * full
    return picture(width, 8 + _ROW * len(rows), label, *drawn, class_="wide")


def _segment(x: float, y: float, width: float, source: str, part: float, number: int) -> Html:
    code, _, kind = source.partition("/")
    shade = ("kept" if is_kept(code) else "trained") + (" odd" if number % 2 else "")
    shown = source if len(source) * _CHARACTER < width else code if len(code) * _CHARACTER < width else ""
    title = f"{language_name(code)}{' ' + kind if kind else ''}: {share(part)}"
    return element("g", element("title", title),
                   element("rect", x=x + 0.5, y=y, width=max(0.0, width - 1), height=_ROW - 5,
                           class_=f"segment {shade}"),
                   text(x + width / 2, y + 14.5, shown, "inside", "middle") if shown else None, data_language=code)


def _name_width(names: Sequence[str]) -> float:
    return 6 + _CHARACTER * max((len(clip(name)) for name in names), default=0)
