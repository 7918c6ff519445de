"""What a sweep searches and how its winner is chosen."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sea_ray.artifacts import fingerprint
from sea_ray.errors import ConfigError, SeaRayError, nearest
from sea_ray.execution import Trial
from sea_ray.search_space import Point, Space, check_space, label

Mode = Literal["max", "min"]
MOST_CHECKED = 512
"""Points of a space that are decoded before a sweep begins."""


@dataclass(frozen=True, kw_only=True)
class RungsConfig:
    """Asynchronous successive halving (Li et al. 2018, arXiv 1810.05934): trials that are behind at a rung end there.

    A rung is a look at held-out text, so the trainings need eval_every_steps. All trials look at the same text after the same
    steps. What a pruned trial has trained stays in the store: whoever runs it again goes on from there.
    """

    figure: str = "held_out_mean"
    """What is compared, the smaller the better: held_out_mean, or held_out/LANGUAGE, in nats per token."""
    first: int = 1
    """Looks before the first rung."""
    reduction: int = 3
    """Of so many trials one passes a rung; so many times as many looks lie before the next one."""

    def __post_init__(self) -> None:
        if self.first < 1:
            raise ConfigError("first", f"{self.first} is below 1")
        if self.reduction < 2:
            raise ConfigError("reduction", f"{self.reduction} is below 2: every trial would pass")


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """A space of settings, how it is searched, what is to be improved, and limits that a winner must keep."""

    space: Space
    """Dotted config path -> values to try, or a domain to draw from."""
    search: Literal["grid", "random", "tpe"] = "grid"
    """Every combination of the values; points drawn at random; or points proposed by the tree-structured Parzen estimator
    (Bergstra et al. 2011, as in Optuna), which learns from the finished ones."""
    num_samples: int = 0
    """Points to draw or to propose."""
    search_seed: int = 0
    """Of the draws."""
    repeats: int = 1
    """Trainings of each point, with seeds one after the other; the mean decides."""
    objectives: Mapping[str, Mode]
    """Figure that the stage reports -> whether more or less of it is better. The first decides; with several, the points that
    no other one beats in all of them are kept and shown."""
    at_most: Mapping[str, float] = field(default_factory=dict)
    """Reported figure -> largest value that a winner may have."""
    rungs: RungsConfig | None = None
    """Which trials end early; null: none."""

    def __post_init__(self) -> None:
        check_space(self.space)
        if not self.objectives:
            raise ConfigError("objectives", "empty; name the figure that decides, as {figure: max} or {figure: min}")
        for name in ("num_samples", "repeats"):
            if getattr(self, name) < (name == "repeats"):
                raise ConfigError(name, f"{getattr(self, name)} is below {int(name == 'repeats')}")
        drawn = [path for path, values in self.space.items() if not isinstance(values, tuple)]
        if self.search == "grid" and drawn:
            raise ConfigError(f"space.{drawn[0]}", "a grid needs a list of values; list some, or set search to random or tpe")
        if self.search == "grid" and self.num_samples:
            raise ConfigError("num_samples", f"{self.num_samples}, but a grid has the points that it has; set search to random "
                                             "or tpe, or leave it out")
        if self.search != "grid" and not self.num_samples:
            raise ConfigError("num_samples", f"missing; say how many points search={self.search} may try")

    @property
    def metric(self) -> str:
        """The figure that decides."""
        return next(iter(self.objectives))

    @property
    def mode(self) -> Mode:
        """Whether more or less of it is better."""
        return self.objectives[self.metric]

    @property
    def num_points(self) -> int:
        """Points that are tried."""
        return self.num_samples or math.prod(len(values) for values in self.space.values() if isinstance(values, tuple))

    @property
    def num_trials(self) -> int:
        """Trials: each point as often as it is repeated."""
        return self.num_points * self.repeats

    def grid(self) -> Iterator[Point]:
        """Yield every combination of the listed values, in order."""
        return self._product([values if isinstance(values, tuple) else () for values in self.space.values()])

    def ends(self) -> Iterator[Point]:
        """Yield points that stand for all others in a check: the listed values with the ends of the domains, in every
        combination, of drawn spaces MOST_CHECKED at most."""
        values = [list(some) if isinstance(some, tuple) else some.ends() for some in self.space.values()]
        return itertools.islice(self._product(values), None if self.search == "grid" else MOST_CHECKED)

    def _product(self, values: Sequence[Sequence[Any]]) -> Iterator[Point]:
        for combination in itertools.product(*values):
            yield dict(zip(self.space, combination, strict=True))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The winner of a sweep and why."""

    winner: Trial
    """Of a repeated point the first repetition: not the luckiest."""
    trials: Sequence[Trial]
    reason: str
    """One sentence for the report."""
    keeps_limits: bool
    """False if no trial kept all limits, so that the least violating one was taken."""
    front: Sequence[Point] = ()
    """With several objectives, the points within the limits that no other beats in all of them."""


def set_path(values: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted path in nested mappings in place.

    Raises:
        ConfigError: the path does not exist; names the nearest keys.
    """
    get_path(values, path)
    parent, _, last = path.rpartition(".")
    (get_path(values, parent) if parent else values)[last] = value


def get_path(values: Mapping[str, Any], path: str) -> Any:
    """Return what a dotted path names in nested mappings.

    Raises:
        ConfigError: the path does not exist; names the nearest keys.
    """
    here: Any = values
    parts = path.split(".")
    for depth, name in enumerate(parts):
        if not isinstance(here, Mapping) or name not in here:
            known = here if isinstance(here, Mapping) else {}
            raise ConfigError(".".join(parts[: depth + 1]), f"unknown path in a sweep{nearest(name, known)}")
        here = here[name]
    return here


def choose(sweep: SweepConfig, trials: Sequence[Trial]) -> Choice:
    """Return the best point that keeps all limits, or the one that violates them least if none does.

    A point is judged by the means over its finished repetitions. One with a pruned repetition does not take part: the others
    are those that were good enough to go on. Of points that differ by less than the least significant difference (pooled
    variance within points, 5 %), the reason says that chance may have chosen.

    Args:
        sweep: objectives and limits.
        trials: finished ones and others.

    Raises:
        SeaRayError: no trial finished (with the reasons), or one doesn't report an objective or a limited figure.
    """
    if not any(trial.artifact for trial in trials):
        reasons = "; ".join(f"{dict(trial.point)}: {trial.error}" for trial in trials)
        raise SeaRayError(f"all {len(trials)} trials of the sweep failed: {reasons}")
    results = _results(sweep, trials)
    complete = [result for result in results if not result.is_pruned] or results
    keeping = [result for result in complete if result.excess == 0.0]
    if keeping:
        best = max(keeping, key=lambda result: result.merit)
        reason = _reason(sweep, best, keeping)
    else:
        best = min(complete, key=lambda result: (result.excess, -result.merit))
        reason = f"no trial keeps {dict(sweep.at_most)}; this one exceeds them least, by {best.excess:.4f}"
    front = [result.point for result in keeping if not any(other.beats(result) for other in keeping)]
    return Choice(winner=best.trials[0], trials=tuple(trials), reason=reason, keeps_limits=bool(keeping),
                  front=tuple(front) if len(sweep.objectives) > 1 else ())


@dataclass(frozen=True, kw_only=True)
class _Result:
    """What the finished repetitions of a point found."""

    point: Point
    trials: Sequence[Trial]
    """The finished ones, by repetition."""
    is_pruned: bool
    """Whether a repetition ended early."""
    values: Sequence[float]
    """Of the figure that decides, one per trial."""
    merits: Sequence[float]
    """Of each objective the mean, the larger the better."""
    excess: float
    """By how much the means exceed the limits at most."""

    @property
    def merit(self) -> float:
        return self.merits[0]

    def beats(self, other: _Result) -> bool:
        """Return whether this one is nowhere worse and somewhere better."""
        return self.merits != other.merits and all(mine >= theirs for mine, theirs in zip(self.merits, other.merits, strict=True))


def _results(sweep: SweepConfig, trials: Sequence[Trial]) -> list[_Result]:
    points: dict[str, list[Trial]] = {}
    for trial in trials:
        points.setdefault(fingerprint(trial.point), []).append(trial)
    results = []
    for group in points.values():
        finished = sorted((trial for trial in group if trial.artifact), key=lambda trial: trial.repetition)
        if finished:
            over = [_mean(finished, name) - limit for name, limit in sweep.at_most.items()]
            results.append(_Result(
                point=finished[0].point, trials=finished, is_pruned=any(trial.outcome == "pruned" for trial in group),
                values=[figure_of(trial, sweep.metric) for trial in finished],
                merits=tuple(_merit(_mean(finished, name), mode) for name, mode in sweep.objectives.items()),
                excess=max((max(0.0, value) if math.isfinite(value) else math.inf for value in over), default=0.0)))
    return results


def _merit(value: float, mode: Mode) -> float:
    return -math.inf if not math.isfinite(value) else value if mode == "max" else -value


def _mean(trials: Sequence[Trial], name: str) -> float:
    return sum(figure_of(trial, name) for trial in trials) / len(trials)


def _reason(sweep: SweepConfig, best: _Result, keeping: Sequence[_Result]) -> str:
    extreme = "highest" if sweep.mode == "max" else "lowest"
    value = f"{sweep.metric} {sum(best.values) / len(best.values):.4f}"
    if sweep.repeats == 1:
        return f"{value} is the {extreme} of {len(keeping)} trials within the limits"
    said = f"{value}, the mean of {len(best.values)} seeds, is the {extreme} of {len(keeping)} points within the limits"
    if (spread := _spread(keeping)) is None:
        return said
    deviation, quantile = spread
    # Fisher's least significant difference of two means
    close = [label(other.point) for other in keeping if other is not best and best.merit - other.merit
             < quantile * deviation * math.sqrt(1 / len(best.values) + 1 / len(other.values))]
    half = quantile * deviation / math.sqrt(len(best.values))
    said = said.replace(value, f"{value} ± {half:.4f} (95 %)", 1)
    return f"{said}; not told from chance: {'; '.join(close)}" if close else f"{said}, and further apart than chance explains"


def _spread(results: Sequence[_Result]) -> tuple[float, float] | None:
    """Return the standard deviation within points, pooled, and Student's two-sided 95 % quantile; None if nothing repeats."""
    degrees = sum(len(result.values) - 1 for result in results)
    if not degrees:
        return None
    from scipy.stats import t

    squares = sum(statistics.variance(result.values) * (len(result.values) - 1) for result in results if len(result.values) > 1)
    return math.sqrt(squares / degrees), float(t.ppf(0.975, degrees))


def figure_of(trial: Trial, name: str) -> float:
    """Return a figure that a finished trial reports.

    Raises:
        ConfigError: it does not; names the nearest.
    """
    assert trial.artifact is not None
    facts = trial.artifact.facts
    if name not in facts:
        known = [key for key, value in facts.items() if isinstance(value, int | float)]
        raise ConfigError("sweep", f"no stage reports {name!r}{nearest(name, known)}")
    return float(facts[name])
