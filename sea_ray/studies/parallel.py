"""Stages that don't depend on each other, side by side as the trials of a sweep are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from sea_ray.artifacts import Artifact
from sea_ray.execution import Platform, Stage
from sea_ray.search import Listed

K = TypeVar("K")


def side_by_side(platform: Platform, name: str, stages: Mapping[K, Stage]) -> dict[K, tuple[Artifact | None, str | None]]:
    """Run independent stages; return the result of each, or why there is none.

    Args:
        platform: where they run.
        name: of all of them.
        stages: key -> stage, of which each has a name of its own.
    """
    trials = platform.sweep(name, Listed({stage.name: stage for stage in stages.values()}))
    found = {trial.point["arm"]: (trial.artifact, trial.error) for trial in trials}
    return {key: found[stage.name] for key, stage in stages.items()}
