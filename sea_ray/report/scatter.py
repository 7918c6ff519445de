"""Scatter plot of a sweep: what is to improve against what is to be kept or improved too, with the limit and the front."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from sea_ray.report.formats import general
from sea_ray.report.markup import Html, element
from sea_ray.report.svg import Labels, Scale, fit, line, mark, picture, text, x_axis, y_axis

_WIDTH, _HEIGHT = 560.0, 330.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 66.0, 20.0, 34.0, 48.0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of the picture."""

    name: str
    """Written beside it, such as its number in the table."""
    x: float
    y: float
    keeps_limits: bool
    is_winner: bool
    title: str
    """Shown on hover."""
    key: str | None = None
    """What has the same key, such as a row of the table, is shown together with it."""
    on_front: bool = False
    """Whether the line through the points that no other beats goes through this one."""
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    """Ends of the bars through it; None: none is drawn."""


def scatter(label: str, trials: Sequence[Trial], *, x_name: str, y_name: str, limit: float | None = None,
            limit_is_upper: bool = True) -> Html:
    """Return the picture; trials that are not finite are left to the table.

    Args:
        label: what the picture shows, for screen readers.
        trials: points.
        x_name, y_name: of the axes.
        limit: on the horizontal axis; None: there is none.
        limit_is_upper: whether values above it are excluded.
    """
    shown = [trial for trial in trials if math.isfinite(trial.x) and math.isfinite(trial.y)]
    wide = [end for trial in shown for end in (trial.x, *(trial.x_interval or ()))]
    high = [end for trial in shown for end in (trial.y, *(trial.y_interval or ()))]
    across = fit([*wide, *([] if limit is None else [limit])], _LEFT, _WIDTH - _RIGHT, pad=0.1)
    up = fit(high, _HEIGHT - _BOTTOM, _TOP, pad=0.12)
    labels = Labels((across(trial.x), up(trial.y)) for trial in shown)
    front = [(across(trial.x), up(trial.y)) for trial in sorted(shown, key=lambda trial: trial.x) if trial.on_front]
    return picture(
        _WIDTH, _HEIGHT, label,
        *([] if limit is None else [_excluded(across, limit, limit_is_upper)]),
        x_axis(across, _TOP, _HEIGHT - _BOTTOM, general), y_axis(up, _LEFT, _WIDTH - _RIGHT, general, 6),
        *([] if limit is None else [
            line(across(limit), _TOP - 6, across(limit), _HEIGHT - _BOTTOM, "reference"),
            text(across(limit), _TOP - 11, f"limit {general(limit)}", "tick", "middle")]),
        *(line(*start, *end, "front") for start, end in itertools.pairwise(front)),
        text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, x_name, "axis", "middle"),
        text(_LEFT - 52, _TOP - 22, y_name, "axis"),
        *(_point(trial, across, up, labels) for trial in sorted(shown, key=lambda trial: trial.is_winner)))


def _excluded(across: Scale, limit: float, limit_is_upper: bool) -> Html:
    start, end = (across(limit), across.end) if limit_is_upper else (across.start, across(limit))
    return element("rect", x=start, y=_TOP, width=max(0.0, end - start), height=_HEIGHT - _BOTTOM - _TOP,
                   class_="excluded")


def _point(trial: Trial, across: Scale, up: Scale, labels: Labels) -> Html:
    x, y = across(trial.x), up(trial.y)
    tone = 1 if trial.keeps_limits else 0
    ring = element("circle", cx=x, cy=y, r=10.0, class_="ring") if trial.is_winner else None
    wide = trial.x_interval and line(across(trial.x_interval[0]), y, across(trial.x_interval[1]), y, f"interval tone-{tone}")
    high = trial.y_interval and line(x, up(trial.y_interval[0]), x, up(trial.y_interval[1]), f"interval tone-{tone}")
    name = labels.beside(x, y - 11 if wide else y, trial.name, needed=trial.is_winner)
    return element("g", wide, high, ring, mark(x, y, tone, 5.0, trial.title), name, data_trial=trial.key)
