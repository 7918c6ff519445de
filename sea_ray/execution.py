"""How a stage runs, wherever it runs: unpack, call the stage's function, commit what it made.

A stage names its function ("sea_ray.stages:train_base") instead of holding it, so that planning, the command line and the
trials of a sweep never import torch; the process that computes resolves the name. `Platform` is what the pipeline needs of
the machine below: `SoloPlatform` is this process, `sea_ray.launch.ray_platform` is a Ray cluster.
"""

from __future__ import annotations

import contextlib
import importlib
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from sea_ray.artifacts import Artifact, StageKey, Store, Unfinished
from sea_ray.board import Board
from sea_ray.errors import SeaRayError
from sea_ray.leases import once
from sea_ray.streams import Streams, in_process
from sea_ray.tracking import NullTracker, Tracker

if TYPE_CHECKING:
    from sea_ray.training.engine import Worker


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One result to compute: its identity, its parents and the function that makes it."""

    kind: str
    """Stage, such as "base"; the folder of the store."""
    name: str
    """Readable name, such as "neurons/top_frac=0.02"."""
    function: str
    """"module:function" that takes a StageContext and returns facts (a mapping of plain figures)."""
    config: Any
    """All values that decide the result (dataclass or mapping of them)."""
    parents: Mapping[str, Artifact] = field(default_factory=dict)
    """Role -> artifact that it is made from."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name -> content digest of files from outside the store."""
    version: int = 1
    """Raised when the function computes something else."""
    place: Literal["group", "task"] = "task"
    """Where it runs: in the training worker group, on all ranks together or, if it is a map, with its shards shared out over
    them; or in processes of its own, one for each shard. Never part of the identity."""
    combine: str | None = None
    """"module:function" that joins the shards' folders; set for a stage that is a map over shards and a reduce."""
    num_shards: int = 1
    """Shards of the map; never part of the identity of the whole."""
    shard: int | None = None
    """Which shard of the map this stage is, from 0; None for a whole stage."""
    streams: bool = False
    """Whether its input is so large that its streams are to be spread over the cluster; never part of the identity."""
    endpoint: Mapping[str, str] | None = None
    """url, key and model of a served checkpoint that the stage talks to; never part of the identity."""

    @property
    def key(self) -> StageKey:
        """Identity in the store."""
        config = self.config
        if self.shard is not None:
            config = {"shard": self.shard, "num_shards": self.num_shards, "of": self.config}
        return StageKey(kind=self.kind, name=self.name, config=config, inputs=self.inputs, version=self.version,
                        parents={role: parent.fingerprint for role, parent in self.parents.items()})

    def shards(self) -> list[Stage]:
        """Return the stages whose results `combine` joins; none for a stage that is no map.

        Each is a result of its own in the store until the whole is finished, so that a lost worker or an interrupted run
        costs its shard only, and nodes need not share a disk.
        """
        if self.combine is None:
            return []
        return [replace(self, kind=f"{self.kind}-shard", combine=None, shard=number) for number in range(self.num_shards)]


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """What a stage's function is given."""

    config: Any
    """The stage's config."""
    parents: Mapping[str, Path]
    """Role -> folder of the parent."""
    folder: Path
    """Empty folder for the result, the same on all ranks; rank 0 writes."""
    worker: Worker
    """This process's place among the ranks."""
    tracker: Tracker
    """Receives figures while the stage runs."""
    shard: int = 0
    """Number of this shard, from 0."""
    num_shards: int = 1
    """Shards in all."""
    shards: tuple[Path, ...] = ()
    """Folders of the finished shards, in order, for the function that joins them."""
    shard_addresses: tuple[str, ...] = ()
    """The same as every node reaches them."""
    streams: Streams = in_process
    """Where large inputs are worked on."""
    unfinished: Unfinished
    """What is put by while the stage runs, for the one that goes on after a loss; cleared when the stage is committed."""
    endpoint: Mapping[str, str] | None = None
    """url, key and model of a served checkpoint, if the stage talks to one."""


StageFunction = Callable[[StageContext], Mapping[str, Any]]


def resolve(function: str) -> StageFunction:
    """Return the function of a "module:function" name."""
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)


def peak_memory_bytes() -> int:
    """Return the largest resident memory that this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_stage(stage: Stage, store: Store, worker: Worker, tracker: Tracker, *, began: float | None = None,
              streams: Streams = in_process) -> Artifact:
    """Compute a stage on all ranks and commit it from rank 0; called by every rank alike.

    Args:
        stage: what to compute; the shards of a map that are not in the store are computed first, shared out over the ranks.
        store: where it is committed.
        worker: this rank.
        tracker: receives figures; of a stage that is no map rank 0's are shown.
        began: time.time() at which work for it began, if that was before this call.
        streams: where its streams are computed.

    Returns:
        The artifact, on every rank.
    """
    began = time.time() if began is None else began
    if stage.combine is None:
        return _build(stage, (), store, worker, tracker, began, streams)
    return _run_map(stage, store, worker, tracker, began, streams)


def _run_map(stage: Stage, store: Store, worker: Worker, tracker: Tracker, began: float, streams: Streams) -> Artifact:
    """Compute the shards that the store lacks, each on one rank that is alone with it, and join all of them on rank 0.

    A lost rank costs its unfinished shards. What one rank refuses, all raise when each has done what it could.
    """
    from sea_ray.training.engine import PreemptedError, SoloWorker, together

    alone, shards, lacking = SoloWorker(str(worker.device), worker.execution), stage.shards(), list[Stage]()
    if worker.rank == 0 and store.find(stage.key) is None:
        lacking = [shard for shard in shards if store.find(shard.key) is None]
    lacking = worker.gather(lacking)[0]
    with together(worker):
        for shard in lacking[worker.rank::worker.world_size]:
            if worker.preempted:
                raise PreemptedError("of its finished shards")
            _build(shard, (), store, alone, tracker, time.time(), streams)
    with together(worker):
        if worker.rank == 0 and store.find(stage.key) is None:  # else another run was first, and has discarded the shards
            parts = [store.find(shard.key) or _build(shard, (), store, alone, tracker, time.time(), streams) for shard in shards]
            _build(stage, parts, store, alone, tracker, began, streams, computed_by=worker)
    return _found(stage, store)


def _build(stage: Stage, shards: Sequence[Artifact], store: Store, worker: Worker, tracker: Tracker, began: float,
           streams: Streams, *, computed_by: Worker | None = None) -> Artifact:
    """Call a stage's function, or what joins its shards, on all ranks of `worker` and commit its result from rank 0."""
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(store.building(stage.key)) if worker.rank == 0 else None
        folder = Path(worker.broadcast(str(own)))
        facts = resolve(stage.combine or stage.function)(StageContext(
            config=stage.config, parents={role: store.open(parent) for role, parent in stage.parents.items()},
            folder=folder, worker=worker, tracker=tracker, shard=stage.shard or 0, num_shards=stage.num_shards,
            shards=tuple(shard.folder for shard in shards), shard_addresses=tuple(map(store.address, shards)),
            streams=streams, unfinished=store.unfinished(stage.key), endpoint=stage.endpoint))
        if worker.rank == 0:
            peaks = [shard.record["execution"]["peak_memory_bytes"] for shard in shards]
            execution = {**(computed_by or worker).describe(), "peak_memory_bytes": max([peak_memory_bytes(), *peaks])}
            if shards:
                execution["num_shards"] = len(shards)
            store.commit(stage.key, folder, facts, execution, time.time() - began)
            store.unfinished(stage.key).clear()
            for shard in shards:
                store.discard(shard)
        worker.barrier()
    return _found(stage, store)


def _found(stage: Stage, store: Store) -> Artifact:
    artifact = store.find(stage.key)
    assert artifact is not None, "rank 0 committed it before the others went on"
    return artifact


Outcome = Literal["finished", "pruned", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of a sweep and how it ended."""

    point: Mapping[str, Any]
    """Dotted config path -> value."""
    artifact: Artifact | None
    """The result, or None if the trial did not finish."""
    error: str | None = None
    """Why it did not finish."""
    name: str = ""
    """Of its stage."""
    reused: bool = False
    """Whether it was finished before this run."""
    repetition: int = 0
    """Number among the trials of the same point, from 0."""
    outcome: Outcome = "finished"
    """How it ended: pruned trials were behind at a rung, stopped ones ended with the budget; both can be gone on with."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A trial that a search wants to be run."""

    number: int
    """Of its point, from 0."""
    point: Mapping[str, Any]
    """Dotted config path -> value."""
    repetition: int
    """Number among the trials of the same point, from 0."""
    stage: Stage
    """What it computes."""

    def ended(self, artifact: Artifact | None, error: str | None = None, *, reused: bool = False, outcome: Outcome | None = None
              ) -> Trial:
        """Return the trial with how it ended; without an outcome a result has finished and an error failed."""
        return Trial(point=self.point, repetition=self.repetition, name=self.stage.name, artifact=artifact, error=error,
                     reused=reused, outcome=outcome or ("finished" if artifact else "failed"))


class Search(Protocol):
    """Proposes the trials of a sweep, and may learn from how they end."""

    @property
    def num_trials(self) -> int:
        """Trials that will be proposed."""

    @property
    def identity(self) -> str:
        """Of all that decides which points there are and which trials end early."""

    @property
    def rungs(self) -> Any:
        """Which trials end early (an objective.RungsConfig); None: none."""

    def remember(self, board: Board) -> None:
        """Use a board for what is proposed; before the first question."""

    def ask(self) -> Proposal | None:
        """Return the next trial, or None after the last."""

    def tell(self, proposal: Proposal, trial: Trial) -> None:
        """Hear how a proposed trial ended."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A served checkpoint."""

    url: str
    """Root of the OpenAI-compatible API, such as "http://127.0.0.1:8000/v1"."""
    api_key: str
    """Key that the server asks for."""
    model: str
    """Model name that it answers to."""


class Platform(Protocol):
    """What the pipeline needs of the machine below."""

    @property
    def store(self) -> Store:
        """Holds the results."""

    @property
    def tracker(self) -> Tracker:
        """Receives figures."""

    def run(self, stage: Stage) -> Artifact:
        """Return the stage's result, reused if it is finished."""

    def sweep(self, name: str, search: Search) -> list[Trial]:
        """Run what a search proposes; a trial that fails is reported, it never sinks the sweep."""

    def serving(self, checkpoint: Artifact, config: Any) -> contextlib.AbstractContextManager[Endpoint]:
        """Serve a checkpoint while the context is open."""


class SoloPlatform:
    """Everything in this process, one after the other: what runs on Ray also runs as a plain call."""

    def __init__(self, store: Store, tracker: Tracker | None = None) -> None:
        """Args: store: holds the results; tracker: receives figures."""
        from sea_ray.training.engine import SoloWorker

        self.store, self.tracker, self._worker = store, tracker or NullTracker(), SoloWorker()

    def run(self, stage: Stage) -> Artifact:
        """Return the stage's result, reused if it is finished."""
        return once(self.store, stage.key, lambda: run_stage(stage, self.store, self._worker, self.tracker))

    def sweep(self, name: str, search: Search) -> list[Trial]:
        """Run the trials in order, all of them to their end."""
        search.remember(self.store.board)
        done = []
        while (proposal := search.ask()) is not None:
            reused, artifact, error = self.store.find(proposal.stage.key) is not None, None, None
            try:
                artifact = self.run(proposal.stage)
            except SeaRayError as reason:
                error = str(reason)
            trial = proposal.ended(artifact, error, reused=reused)
            search.tell(proposal, trial)
            done.append(trial)
        return done

    @contextlib.contextmanager
    def serving(self, checkpoint: Artifact, config: Any):  # type: ignore[no-untyped-def]
        """Serve a checkpoint from a thread of this process, on loopback."""
        from sea_ray.serving.local import serve_in_thread

        with serve_in_thread(checkpoint.folder, config) as endpoint:
            yield Endpoint(**endpoint)
