"""Parallel coordinates of a sweep: an axis per setting and figure, a line per trial; the script lets ranges be chosen on them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sea_ray.report.formats import general
from sea_ray.report.markup import Html, element
from sea_ray.report.svg import Scale, clip, line, picture, text

_WIDTH, _TOP, _BOTTOM, _HEIGHT = 980.0, 44.0, 268.0, 284.0
_LEFT, _RIGHT = 56.0, 56.0
_MOST_TICKS = 6
_WIDE_RANGE = 50.0
"""Positive values whose largest is so many times the smallest stand on a logarithmic axis."""

Value = float | str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A trial."""

    key: str
    """What has the same key, such as a row of the table, is shown together with it."""
    values: Mapping[str, Value]
    """Axis -> value; a trial without a value on every axis is not drawn."""
    title: str
    """Shown on hover."""
    is_winner: bool = False


@dataclass(frozen=True)
class _Axis:
    name: str
    places: Mapping[Value, float]
    """Value of a line -> its height."""
    ticks: tuple[tuple[str, float], ...]


def parallel(label: str, lines: Sequence[Line], aims: Mapping[str, Literal["max", "min"]]) -> Html | None:
    """Return the picture; None where fewer than two lines or two axes could be drawn.

    Args:
        label: what the picture shows, for screen readers.
        lines: trials.
        aims: axis -> whether more or less of it is better; better is up.
    """
    names = [name for name in dict.fromkeys(name for one in lines for name in one.values)
             if all(name in one.values and _is_shown(one.values[name]) for one in lines)]
    if len(lines) < 2 or len(names) < 2:
        return None
    step = (_WIDTH - _LEFT - _RIGHT) / (len(names) - 1)
    axes = [_axis(name, [one.values[name] for one in lines], aims.get(name), step) for name in names]
    drawn = [_frame(axis, _LEFT + step * number, number, step, axis.name in aims) for number, axis in enumerate(axes)]
    order = sorted(lines, key=lambda one: one.is_winner)
    return picture(_WIDTH, _HEIGHT, label, *(_line(one, axes, step) for one in order), *drawn, class_="parallel wide")


def _is_shown(value: Value) -> bool:
    return isinstance(value, str) or math.isfinite(value)


def _axis(name: str, values: Sequence[Value], aim: str | None, step: float) -> _Axis:
    numbers = [value for value in values if not isinstance(value, str)]
    distinct: list[Value] = list(dict.fromkeys(values)) if len(numbers) < len(values) else sorted(set(numbers))
    if len(numbers) < len(values):
        scale = Scale(-0.5, len(distinct) - 0.5, _BOTTOM, _TOP)
        places = {value: scale(number) for number, value in enumerate(distinct)}
        return _Axis(name, places, tuple((clip(general(value), max(6, int(step / 7) - 2)), places[value]) for value in distinct))
    low, high = min(numbers), max(numbers)
    change: Callable[[float], float] = math.log10 if low > 0 and high / low > _WIDE_RANGE else float
    air = abs(low) * 0.1 or 1.0 if low == high else 0.0
    ends = (_TOP, _BOTTOM) if aim == "min" else (_BOTTOM, _TOP)
    scale = Scale(change(low) - air, change(high) + air, *ends)
    places = {value: scale(change(value)) for value in numbers}
    texts = [general(value) for value in distinct]
    if len(set(texts)) == len(texts) <= _MOST_TICKS and _are_apart(sorted(places.values())):
        return _Axis(name, places, tuple(zip(texts, (places[value] for value in distinct), strict=True)))
    ticks = _powers(low, high) if change is math.log10 else scale.ticks(4)
    return _Axis(name, places, tuple((general(value), scale(change(value))) for value in ticks))


def _powers(low: float, high: float) -> list[float]:
    """Return the powers of ten between two positive values."""
    return [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]


def _are_apart(heights: Sequence[float]) -> bool:
    return all(after - before >= 13 for before, after in itertools.pairwise(heights))


def _frame(axis: _Axis, x: float, number: int, step: float, is_aim: bool) -> Html:
    lines = _wrapped(axis.name, max(8, int(step / 6.4)))
    names = [text(x, _TOP - 12 - 12 * (len(lines) - 1 - row), part, "axis strong" if is_aim else "axis", "middle")
             for row, part in enumerate(lines)]
    ticks = [Html(line(x - 3, y, x + 3, y, "zero") + text(x + 7, y + 3.5, name, "tick halo")) for name, y in axis.ticks]
    return element("g", line(x, _TOP, x, _BOTTOM, "zero"), *names, *ticks,
                   element("rect", x=x - 11, y=_TOP - 4, width=22, height=_BOTTOM - _TOP + 8, class_="brush",
                           data_axis=str(number)))


def _wrapped(name: str, width: int) -> list[str]:
    """Return a name in lines of about so many characters, broken at its underscores; three at most."""
    lines = [""]
    for part in name.replace("_", "_\n").split("\n"):
        if lines[-1] and len(lines[-1]) + len(part) > width and len(lines) < 3:
            lines.append("")
        lines[-1] += part
    return [clip(one, width + 4) for one in lines]


def _line(one: Line, axes: Sequence[_Axis], step: float) -> Html:
    points = " ".join(f"{_LEFT + step * number:.1f},{axis.places[one.values[axis.name]]:.1f}" for number, axis in enumerate(axes))
    return element("polyline", element("title", one.title), points=points, class_="trial won" if one.is_winner else "trial",
                   data_trial=one.key)
