"""Training curves: one small picture per training, each with its own axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sea_ray.report.formats import count
from sea_ray.report.markup import Html, element
from sea_ray.report.svg import Scale, clip, fit, picture, text, y_axis

_WIDTH, _HEIGHT = 226.0, 128.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 34.0, 10.0, 26.0, 20.0


def curve(name: str, points: Sequence[tuple[int, float]]) -> Html:
    """Return the loss of one training over its steps; steps whose loss is not finite leave a gap.

    Args:
        name: of the training.
        points: (step, loss).
    """
    finite = [(step, loss) for step, loss in points if math.isfinite(loss)]
    across = fit([step for step, _ in points], _LEFT, _WIDTH - _RIGHT, pad=0.0)
    up = fit([loss for _, loss in finite], _HEIGHT - _BOTTOM, _TOP)
    last = f"{finite[-1][1]:.3f}" if finite else "not finite"
    steps = [step for step, _ in points]
    return picture(
        _WIDTH, _HEIGHT, f"Loss of {name}, {last} at the end",
        text(0, 12, clip(name, 28), "label strong"),
        text(_WIDTH - _RIGHT, 12, last, "label", "end"),
        y_axis(up, _LEFT, _WIDTH - _RIGHT, lambda value: f"{value:g}", 3),
        text(_LEFT, _HEIGHT - 5, count(steps[0]) if steps else "", "tick"),
        text(_WIDTH - _RIGHT, _HEIGHT - 5, f"step {count(steps[-1])}" if steps else "", "tick", "end"),
        *(element("path", d=path, class_="curve") for path in _paths(points, across, up)),
        element("circle", cx=across(finite[-1][0]), cy=up(finite[-1][1]), r=2.6, class_="end") if finite else None)


def _paths(points: Sequence[tuple[int, float]], across: Scale, up: Scale) -> list[str]:
    runs: list[list[str]] = [[]]
    for step, loss in points:
        if math.isfinite(loss):
            runs[-1].append(f"{across(step):.1f},{up(loss):.1f}")
        elif runs[-1]:
            runs.append([])
    return ["M" + " ".join(run) for run in runs if len(run) > 1]
