"""Training curves: one small picture per training, each with its own axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sea_ray.report.formats import count
from sea_ray.report.markup import Html, element
from sea_ray.report.svg import Scale, clip, fit, picture, text, y_axis

_WIDTH, _HEIGHT = 226.0, 128.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 34.0, 10.0, 26.0, 20.0
_SMOOTH_FROM = 40
"""Points from which their trailing mean over a tenth of them is drawn, too."""

Points = Sequence[tuple[int, float]]
"""(step, loss)."""


def curve(name: str, points: Points, held_out: Points = ()) -> Html:
    """Return the loss of one training over its steps; steps whose loss is not finite leave a gap.

    Args:
        name: of the training.
        points: of the training text.
        held_out: of held-out text, where it was looked at.
    """
    finite = [(step, loss) for step, loss in points if math.isfinite(loss)]
    looks = [(step, loss) for step, loss in held_out if math.isfinite(loss)]
    across = fit([step for step, _ in [*points, *held_out]], _LEFT, _WIDTH - _RIGHT, pad=0.0)
    up = fit([loss for _, loss in [*finite, *looks]], _HEIGHT - _BOTTOM, _TOP)
    mean = smoothed(finite) if len(finite) >= _SMOOTH_FROM else []
    end = (mean or finite)[-1] if finite else None
    last = f"{end[1]:.3f}" if end else "not finite"
    steps = [step for step, _ in points]
    return picture(
        _WIDTH, _HEIGHT, f"Loss of {name}, {last} at the end",
        text(0, 12, clip(name, 28), "label strong"),
        text(_WIDTH - _RIGHT, 12, last, "label", "end"),
        y_axis(up, _LEFT, _WIDTH - _RIGHT, lambda value: f"{value:g}", 3),
        text(_LEFT, _HEIGHT - 5, count(steps[0]) if steps else "", "tick"),
        text(_WIDTH - _RIGHT, _HEIGHT - 5, f"step {count(steps[-1])}" if steps else "", "tick", "end"),
        *_drawn(points, across, up, "curve raw" if mean else "curve"), *_drawn(mean, across, up, "curve"),
        *_drawn(looks, across, up, "curve held"),
        element("circle", cx=across(end[0]), cy=up(end[1]), r=2.6, class_="end") if end else None,
        class_="losses", data_scales=" ".join(f"{value:.6g}" for scale in (across, up)
                                              for value in (scale.low, scale.high, scale.start, scale.end)))


def smoothed(points: Points) -> list[tuple[int, float]]:
    """Return the mean of each point and those before it, a tenth of all at most."""
    width = max(1, len(points) // 10)
    means = []
    for place, (step, _) in enumerate(points):
        own = [loss for _, loss in points[max(0, place + 1 - width):place + 1]]
        means.append((step, sum(own) / len(own)))
    return means


def _drawn(points: Points, across: Scale, up: Scale, class_: str) -> list[Html]:
    runs: list[list[str]] = [[]]
    for step, loss in points:
        if math.isfinite(loss):
            runs[-1].append(f"{across(step):.1f},{up(loss):.1f}")
        elif runs[-1]:
            runs.append([])
    return [element("path", d="M" + " ".join(run), class_=class_) for run in runs if len(run) > 1]
