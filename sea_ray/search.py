"""The trials of a sweep, proposed one after the other: a grid, points at random, or by what the finished ones found."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sea_ray.artifacts import fingerprint
from sea_ray.board import Board
from sea_ray.execution import Proposal, Stage, Trial
from sea_ray.objective import RungsConfig, SweepConfig, figure_of
from sea_ray.search_space import Domain, Point, rounded

Params = dict[str, Any]
"""What Optuna draws, by name: a path, or path/language for a mix."""


class SweepSearch:
    """Proposes each point as often as it is repeated.

    What was proposed is put on a board, so that another submitter of the same sweep, or the same one later, gets the same
    points in the same order and finds the results of those that are finished. Points from before the space was changed are
    proposed again as far as it still contains them.
    """

    def __init__(self, config: SweepConfig, stage_of: Callable[[Point, int], Stage], place: str = "") -> None:
        """Args: config: the sweep; stage_of: makes a trial's stage from a point and the number of the repetition; place: folder
        of the board, of everything about the sweep but the bounds of its space.
        """
        self.config, self._stage_of, self._place = config, stage_of, place
        self._board: Board | None = None
        self._points: Iterator[Point] = config.grid() if config.search == "grid" else self._drawn()
        self._proposals = self._propose()
        self._told: dict[int, list[Trial]] = {}
        self._trials: dict[int, Any] = {}
        self._study: Any = None

    @property
    def num_trials(self) -> int:
        """Trials that will be proposed."""
        return self.config.num_trials

    @property
    def identity(self) -> str:
        """Of all that decides which points there are and which trials end early."""
        return fingerprint([self._place, self.config])

    @property
    def rungs(self) -> RungsConfig | None:
        """Which trials end early."""
        return self.config.rungs

    def remember(self, board: Board) -> None:
        """Use a board for what is proposed; before the first question."""
        self._board = board

    def ask(self) -> Proposal | None:
        """Return the next trial, or None after the last."""
        return next(self._proposals, None)

    def tell(self, proposal: Proposal, trial: Trial) -> None:
        """Hear how a proposed trial ended, so that later proposals learn from it."""
        told = self._told.setdefault(proposal.number, [])
        told.append(trial)
        if len(told) == self.config.repeats and proposal.number in self._trials:
            self._learn(self._trials.pop(proposal.number), told)

    def _propose(self) -> Iterator[Proposal]:
        for number, point in enumerate(self._points):
            for repetition in range(self.config.repeats):
                yield Proposal(number=number, point=point, repetition=repetition, stage=self._stage_of(point, repetition))

    def _drawn(self) -> Iterator[Point]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(directions=[
            "maximize" if mode == "max" else "minimize" for mode in self.config.objectives.values()])
        distributions, number = self._distributions(), 0
        for file in itertools.count():
            if number == self.config.num_samples:
                return
            name = f"{self._place}/{file:06}.json"
            content = self._board.read(name) if self._board is not None else None
            if content is None:
                self._study.sampler = self._sampler(file)
                trial = self._study.ask(distributions)
                if self._board is not None and not self._board.create(name, json.dumps(trial.params).encode()):
                    self._study.tell(trial, state=optuna.trial.TrialState.FAIL)  # another submitter was faster: take its point
                    content = self._board.read(name)
            if content is not None:
                if not _contains(distributions, known := json.loads(content)):
                    continue
                self._study.enqueue_trial(known)
                trial = self._study.ask(distributions)
            self._trials[number] = trial
            number += 1
            yield self._point(trial.params)

    def _sampler(self, file: int) -> Any:
        """Return what draws a point: with a seed of its own for each, since points that are known are not drawn again."""
        import optuna

        seed = 1_000_003 * self.config.search_seed + file
        if self.config.search == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(seed=seed, multivariate=True,
                                              constraints_func=lambda trial: trial.user_attrs.get("excess", (0.0,)))

    def _distributions(self) -> dict[str, Any]:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        found: dict[str, Any] = {}
        for path, domain in self.config.space.items():
            if isinstance(domain, tuple):
                found[path] = CategoricalDistribution([json.dumps(value) for value in domain])
            elif domain.simplex is not None:
                # quantiles, so that uniform draws make a Dirichlet draw of what they are mapped to
                found |= {f"{path}/{code}": FloatDistribution(1e-6, 1 - 1e-6) for code in domain.simplex.languages}
            elif domain.integer is not None:
                found[path] = IntDistribution(*domain.integer)
            else:
                assert domain.bounds is not None
                found[path] = FloatDistribution(*domain.bounds, log=domain.log_uniform is not None)
        return found

    def _point(self, params: Params) -> Point:
        return {path: _value(path, domain, params) for path, domain in self.config.space.items()}

    def _learn(self, trial: Any, told: list[Trial]) -> None:
        finished = [one for one in told if one.artifact is not None]
        if not finished:
            import optuna

            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return

        def mean(name: str) -> float:
            return sum(figure_of(one, name) for one in finished) / len(finished)

        trial.set_user_attr("excess", [mean(name) - limit for name, limit in self.config.at_most.items()] or [0.0])
        self._study.tell(trial, [mean(name) for name in self.config.objectives])


def _value(path: str, domain: Domain | tuple[Any, ...], params: Params) -> Any:
    if isinstance(domain, tuple):
        return json.loads(params[path])
    if domain.simplex is not None:
        from scipy.stats import gamma

        mixes = domain.simplex
        return mixes.mix({code: float(gamma.ppf(params[f"{path}/{code}"], mixes.concentration)) for code in mixes.languages})
    return params[path] if domain.integer is not None else rounded(params[path])


def _contains(distributions: Mapping[str, Any], params: Params) -> bool:
    if params.keys() != distributions.keys():
        return False
    for name, distribution in distributions.items():
        choices = getattr(distribution, "choices", None)
        if (params[name] not in choices) if choices is not None else not distribution.low <= params[name] <= distribution.high:
            return False
    return True


class Listed:
    """Proposes stages that are known beforehand and learns nothing: they run side by side, as trials do."""

    rungs = None
    """No trial ends early."""

    def __init__(self, stages: Mapping[str, Stage]) -> None:
        """Args: stages: name of the point -> what it computes."""
        self._stages = dict(stages)
        self._left = iter(enumerate(self._stages.items()))

    @property
    def num_trials(self) -> int:
        """Trials that will be proposed."""
        return len(self._stages)

    @property
    def identity(self) -> str:
        """Of all stages."""
        return fingerprint([stage.key.fingerprint for stage in self._stages.values()])

    def remember(self, board: Board) -> None:
        """Use a board for what is proposed: nothing is."""

    def ask(self) -> Proposal | None:
        """Return the next trial, or None after the last."""
        number, (name, stage) = next(self._left, (0, (None, None)))
        return None if name is None or stage is None else Proposal(number=number, point={"arm": name}, repetition=0, stage=stage)

    def tell(self, proposal: Proposal, trial: Trial) -> None:
        """Hear how a proposed trial ended."""
