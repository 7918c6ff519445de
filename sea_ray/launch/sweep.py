"""A sweep as Ray Tune trials that are thin clients of the worker group: a trial waits in Tune, its stage runs in the group."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from sea_ray.artifacts import Artifact, Store
from sea_ray.errors import BudgetError, SeaRayError
from sea_ray.execution import Outcome, Proposal, Search, Stage, Trial
from sea_ray.launch.run_queue import find_queue
from sea_ray.launch.trial_book import TrialBook, rung_value
from sea_ray.launch.worker_group import RAY_IMPORTS, raise_outcome
from sea_ray.leases import once

LOST_CLIENTS = 3
"""How often a trial that goes with its node is started again: it holds no work, and finds the result or waits for it."""
SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # figures go through our own tracker
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # how a trial ended is no look
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "60",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # else Ctrl-C ends the sweep and the run goes on without its trials
}


class PrunedError(Exception):
    """The scheduler ended a trial at a rung."""


def run_sweep(name: str, search: Search, store: Store, queue_name: str, start: Callable[[], Path],
              begin: Callable[[Proposal], None], end: Callable[[Trial, bool], None], *, max_concurrent: int) -> list[Trial]:
    """Run what a search proposes with Ray Tune; what is finished, or was pruned by this same sweep, is not run again.

    Args:
        name: sweep, such as "neurons"; Tune's experiment name.
        search: proposes trials and hears of them.
        store: where the stages commit.
        queue_name: the worker group's queue.
        start: brings up Ray and the queue, and returns a folder for Tune's own files; called only if something is to be run.
        begin: hears of each trial that is to be run, before it is.
        end: hears how each of these ended, when it does, and whether this submitter computed it.
        max_concurrent: trials that wait in the group's queue at one time.

    Returns:
        The trials in the order in which they were proposed. A failed one carries its error and never sinks the sweep.
    """
    sweep = _Sweep(search, store, end)
    search.remember(store.board)
    if (missing := sweep.next_missing()) is not None:
        _tune(name, sweep, missing, queue_name, start(), begin, max_concurrent)
    if sweep.failure is not None:
        raise sweep.failure
    return sweep.trials


class _Sweep:
    """The trials of a sweep: what is known of each is told to the search before the next one is asked for."""

    def __init__(self, search: Search, store: Store, end: Callable[[Trial, bool], None]) -> None:
        self.search, self.store, self.book, self._end = search, store, TrialBook(store), end
        self._trials: list[tuple[Proposal, Trial]] = []
        self.failure: Exception | None = None
        """What went wrong in recording an end: Tune would swallow it and run the trial again."""

    @property
    def trials(self) -> list[Trial]:
        """Those that have ended, in the order in which they were proposed."""
        return [trial for _, trial in sorted(self._trials, key=lambda pair: (pair[0].number, pair[0].repetition))]

    def next_missing(self) -> Proposal | None:
        """Return the next trial that has neither finished nor been pruned by this sweep; None after the last."""
        while (proposal := self.search.ask()) is not None:
            key = proposal.stage.key
            ending = self.book.ending(key)
            if (found := self.store.find(key)) is not None:
                self._tell(proposal, proposal.ended(found, reused=True))
            elif ending is not None and ending.outcome == "pruned" and ending.sweep == self.search.identity:
                self._tell(proposal, proposal.ended(None, ending.reason, reused=True, outcome="pruned"))
            else:
                return proposal
        return None

    def ended(self, proposal: Proposal, outcome: Outcome, error: str | None, *, own: bool = True) -> None:
        """Record how a trial ended that was run, by this submitter or by another."""
        try:
            self._record(proposal, outcome, error, own)
        except Exception as failure:
            self.failure = self.failure or failure

    def _record(self, proposal: Proposal, outcome: Outcome, error: str | None, own: bool) -> None:
        key = proposal.stage.key
        artifact = self.store.find(key)
        trial = proposal.ended(artifact, None if artifact else error or "the trial did not report",
                               outcome="finished" if artifact else outcome)
        self.book.close(key, trial, self.search.identity)
        self._end(trial, own)
        self._tell(proposal, trial)

    def _tell(self, proposal: Proposal, trial: Trial) -> None:
        self._trials.append((proposal, trial))
        self.search.tell(proposal, trial)


def _tune(name: str, sweep: _Sweep, first: Proposal, queue_name: str, folder: Path,
          begin: Callable[[Proposal], None], max_concurrent: int) -> None:
    for variable, value in SETTINGS.items():
        os.environ.setdefault(variable, value)
    with RAY_IMPORTS:
        from ray import tune
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search import Searcher

    queue, store, rungs = find_queue(queue_name), sweep.store, sweep.search.rungs
    proposals: dict[str, Proposal] = {}

    class Proposals(Searcher):
        """Gives Tune what the search proposes."""

        def suggest(self, trial_id: str) -> Any:
            proposal = first if not proposals else sweep.next_missing()
            if proposal is None or sweep.failure is not None:
                return Searcher.FINISHED
            proposals[trial_id] = proposal
            begin(proposal)
            ray.get(queue.offer.remote(proposal.stage))
            return {"stage": proposal.stage.key.fingerprint}

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            proposal, result = proposals[trial_id], result or {}
            if "outcome" not in result and not error:
                reason = f"behind at look {result['looks']}: {rungs.figure} {result['rung']:.4f}"
                ray.get(queue.end.remote(proposal.stage.key.fingerprint, pickle.dumps(PrunedError(reason))))
                sweep.ended(proposal, "pruned", reason)
            else:
                sweep.ended(proposal, result.get("outcome", "failed"), result.get("error"), own=result.get("own", True))

        def __reduce__(self) -> tuple[type, tuple[()]]:
            """Leave nothing in the snapshot that Tune makes of itself: the store and its board know everything."""
            return Searcher, ()

        def save(self, checkpoint_path: str) -> None:
            """Keep nothing, for the same reason."""

        def restore(self, checkpoint_path: str) -> None:
            """Never happens."""

    def trial(space: dict[str, Any]) -> None:
        """Wait for one stage; Tune ends this thread with SystemExit where the scheduler ends the trial."""
        stage = ray.get(find_queue(queue_name).stage.remote(space["stage"]))
        outcome: Outcome = "finished"
        error, own = None, True
        try:
            own = follow(stage, Store(store.url), queue_name, rungs.figure if rungs else None,
                         lambda looks, value: tune.report({"looks": looks, "rung": value}))
        except BudgetError as reason:
            outcome, error = "stopped", str(reason)
        except Exception as reason:  # reported: one failed trial never sinks the sweep
            outcome, error = "failed", str(reason)
        tune.report({"outcome": outcome, "error": error, "own": own})

    scheduler = None
    if rungs is not None:
        scheduler = ASHAScheduler(time_attr="looks", metric="rung", mode="min", max_t=1_000_000, grace_period=rungs.first,
                                  reduction_factor=rungs.reduction)
    tune.Tuner(
        tune.with_resources(trial, {"CPU": 0.01}),  # Tune refuses an empty request; the group holds the real resources
        tune_config=tune.TuneConfig(num_samples=sweep.search.num_trials, search_alg=Proposals(), scheduler=scheduler,
                                    max_concurrent_trials=max_concurrent, reuse_actors=True),
        run_config=tune.RunConfig(name=name.replace("/", "-"), storage_path=str(folder), verbose=0,
                                  failure_config=tune.FailureConfig(max_failures=LOST_CLIENTS)),
    ).fit()


def follow(stage: Stage, store: Store, queue_name: str, figure: str | None, report: Callable[[int, float], None]) -> bool:
    """Run a stage in a worker group, unless another submitter does, and report its looks at held-out text as they come.

    Args:
        stage: what to run.
        store: where it commits.
        queue_name: of the group's queue.
        figure: that the looks are judged by; None: nothing is reported.
        report: gets the number of looks so far and the figure then, for an unfinished run's earlier looks too; may end this
            process' part by any exception.

    Returns:
        Whether it was run here; else another has.

    Raises:
        SeaRayError: what the stage raised.
    """
    book, own = TrialBook(store), False
    looks = book.looks(stage.key) if figure else []
    for number in range(1, len(looks) + 1):
        report(number, rung_value(looks[:number], figure or ""))

    def compute() -> Artifact:
        nonlocal own
        own, queue = True, find_queue(queue_name)
        outcome, seen = queue.submit.remote(stage), 0
        while figure and (news := ray.get(queue.follow.remote(stage.key.fingerprint, seen))) is not None:
            for look in news:
                before, seen = len(looks), seen + 1
                book.add(stage.key, looks, look)
                if len(looks) > before:
                    report(len(looks), rung_value(looks, figure))
        return finished(stage, store, ray.get(outcome))

    once(store, stage.key, compute)
    return own


def run_in_group(stage: Stage, store: Store, queue_name: str) -> Artifact:
    """Run one stage in a worker group and wait for its result.

    Raises:
        SeaRayError: what the stage raised.
    """
    return finished(stage, store, ray.get(find_queue(queue_name).submit.remote(stage)))


def finished(stage: Stage, store: Store, outcome: bytes | None) -> Artifact:
    """Return the result of a stage that has ended in a group.

    Raises:
        SeaRayError: what the stage raised.
    """
    raise_outcome(outcome)
    artifact = store.find(stage.key)
    if artifact is None:
        raise SeaRayError(f"{stage.name}: the worker group reported success but the store {store.url!r} holds no result; "
                          "workers and driver must see the same store")
    return artifact
