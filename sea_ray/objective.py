"""What a sweep searches and how its winner is chosen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sea_ray.errors import ConfigError, SeaRayError, nearest
from sea_ray.execution import Trial


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """A grid of settings, one metric to improve, and limits that a winner must keep."""

    grid: Mapping[str, tuple[Any, ...]]
    """Dotted config path -> values to try; every combination is a trial."""
    metric: str
    """Figure that the stage reports and that decides."""
    mode: Literal["max", "min"] = "max"
    """Whether more or less of it is better."""
    at_most: Mapping[str, float] = field(default_factory=dict)
    """Reported figure -> largest value that a winner may have."""

    def __post_init__(self) -> None:
        if not self.grid:
            raise ConfigError("grid", "empty; name at least one dotted path with its values")
        for path, values in self.grid.items():
            if not values:
                raise ConfigError(f"grid.{path}", "no values to try; list at least one")

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield every combination of the grid, in order."""
        for values in itertools.product(*self.grid.values()):
            yield dict(zip(self.grid, values, strict=True))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The winner of a sweep and why."""

    winner: Trial
    trials: Sequence[Trial]
    reason: str
    """One sentence for the report."""
    keeps_limits: bool
    """False if no trial kept all limits, so that the least violating one was taken."""


def set_path(values: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted path in nested mappings in place.

    Raises:
        ConfigError: the path does not exist; names the nearest keys.
    """
    *parents, last = path.split(".")
    here = values
    for depth, name in enumerate([*parents, last]):
        if not isinstance(here, dict) or name not in here:
            known = here if isinstance(here, dict) else {}
            raise ConfigError(".".join([*parents, last][: depth + 1]), f"unknown path in a sweep{nearest(name, known)}")
        if depth < len(parents):
            here = here[name]
    here[last] = value


def choose(sweep: SweepConfig, trials: Sequence[Trial]) -> Choice:
    """Return the best finished trial that keeps all limits, or the one that violates them least if none does.

    Args:
        sweep: metric, direction and limits.
        trials: finished and failed ones.

    Raises:
        SeaRayError: all trials failed (with the reasons), or one doesn't report the metric or a limited figure.
    """
    finished = [trial for trial in trials if trial.artifact is not None]
    if not finished:
        reasons = "; ".join(f"{dict(trial.point)}: {trial.error}" for trial in trials)
        raise SeaRayError(f"all {len(trials)} trials of the sweep failed: {reasons}")

    def merit(trial: Trial) -> float:
        value = _figure(trial, sweep.metric)
        return -math.inf if not math.isfinite(value) else value if sweep.mode == "max" else -value

    def excess(trial: Trial) -> float:
        over = [_figure(trial, name) - limit for name, limit in sweep.at_most.items()]
        return max((max(0.0, value) if math.isfinite(value) else math.inf for value in over), default=0.0)

    keeping = [trial for trial in finished if excess(trial) == 0.0]
    if keeping:
        winner = max(keeping, key=merit)
        reason = (f"{sweep.metric} {_figure(winner, sweep.metric):.4f} is the "
                  f"{'highest' if sweep.mode == 'max' else 'lowest'} of {len(keeping)} trials within the limits")
    else:
        winner = min(finished, key=lambda trial: (excess(trial), -merit(trial)))
        reason = (f"no trial keeps {dict(sweep.at_most)}; this one exceeds them least, by {excess(winner):.4f}")
    return Choice(winner=winner, trials=tuple(trials), reason=reason, keeps_limits=bool(keeping))


def _figure(trial: Trial, name: str) -> float:
    assert trial.artifact is not None
    facts = trial.artifact.facts
    if name not in facts:
        known = [key for key, value in facts.items() if isinstance(value, int | float)]
        raise ConfigError("sweep", f"no stage reports {name!r}{nearest(name, known)}")
    return float(facts[name])
