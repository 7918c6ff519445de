"""An actor that hands stages to the worker group and carries figures back to whoever shows them.

The worker group is expensive to start (20 s on two cores) and a run in it is cheap (under a second), so on one machine one
group takes all trainings, those of Tune trials too, from this queue. It holds no torch and starts in a second.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sea_ray.errors import MachineError
from sea_ray.execution import Stage
from sea_ray.tracking import About, Made, Row

NAMESPACE = "sea_ray"
Event = tuple[str, str, int | None, dict[str, float] | str | tuple[str, Sequence[str], Sequence[Row]]]
"""Run (a stage's name), part of it ("" for the whole), training step; figures, prose, or a table (name, columns, rows)."""
Look = tuple[str, int, dict[str, float]]
"""Part of a run, training step, losses on held-out text."""
HELD_OUT = "held_out_mean"
"""Figure by which a look is known."""
IDLE_S = 20.0
"""After this long without work the ranks are sent round the loop once, so that no collective waits for ever."""


@dataclass
class _Group:
    """What the queue knows of a worker group."""

    num_workers: int = 0
    running: str = ""
    asked: int = 0
    """How often it has asked for work: an answer to an earlier call than the last would reach nobody."""


class RunQueue:
    """Async actor: submitters wait for an outcome, the rank 0 of each group waits for work, the driver drains events."""

    def __init__(self, num_groups: int, max_losses: int) -> None:
        """Args: num_groups: worker groups that ask for work; max_losses: how often one stage may lose its processes and go on."""
        self._groups = {number: _Group() for number in range(num_groups)}
        self._max_losses, self._losses, self._preempted = max_losses, dict[str, int](), set[str]()
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._stages: dict[str, Stage] = {}
        self._outcomes: dict[str, asyncio.Future[bytes | None]] = {}
        self._events: list[Event] = []
        self._looks: dict[str, list[Look]] = {}
        self._news = asyncio.Condition()
        self._ending: dict[str, bytes] = {}
        self._halted: bytes | None = None
        self._resting = False
        self._closed: str | None = None

    async def submit(self, stage: Stage) -> bytes | None:
        """Queue a stage and wait for it; a second submitter of the same fingerprint waits for the same run.

        Returns:
            None when it is committed, or the pickled exception that ended it.
        """
        name = stage.key.fingerprint
        if self._closed is not None:
            return pickle.dumps(RuntimeError(self._closed))
        if self._halted is not None:
            return self._halted
        if name not in self._outcomes:
            self._stages[name] = stage
            self._ending.pop(name, None)
            self._outcomes[name] = asyncio.get_running_loop().create_future()
            await self._waiting.put(name)
        outcome = await asyncio.shield(self._outcomes[name])
        if outcome is not None:
            self._outcomes.pop(name, None)  # a failed stage may be tried again
        return outcome

    async def next(self, number: int, num_workers: int) -> Stage | str:
        """Return the next stage for a group, "idle" when there is none for a while, or "stop".

        Rank 0 asks again only after it has told how the last stage ended. If it has not, its group was started anew: it goes on
        with the same stage from its newest saved state. If the group was neither moved by a preemption nor grew, a process was
        lost; `max_losses` losses of one stage are made up for.

        Args:
            number: of the group.
            num_workers: it has now.
        """
        if self._closed is not None or self._resting:
            return "stop"
        group = self._groups[number]
        grew, group.num_workers = num_workers > group.num_workers, num_workers
        if group.running:
            name, stage = group.running, self._stages[group.running]
            if not grew and name not in self._preempted:
                self._losses[name] = self._losses.get(name, 0) + 1
            self._preempted.discard(name)
            if self._losses.get(name, 0) <= self._max_losses:
                self._events.append((stage.name, "", None, f"{stage.name}: a new group of {num_workers} workers goes on from the "
                                                           "newest saved state"))
                return stage
            await self.finished(name, pickle.dumps(MachineError(
                f"{stage.name}: a process of the worker group died while it ran, {self._losses[name]} times; look at its memory, "
                "then run again: what is finished is reused, what was under way goes on from its newest saved state")))
        group.asked += 1
        call = group.asked
        try:
            name = await asyncio.wait_for(self._waiting.get(), IDLE_S)
        except TimeoutError:
            return "idle"
        if name and group.asked != call:  # the group was started anew meanwhile
            await self._waiting.put(name)
            return "idle"
        if not name:
            await self._waiting.put("")  # for the other groups
            return "stop"
        group.running = name
        if (error := self._halted or self._ending.get(name)) is not None:
            await self.finished(name, error)
            return "idle"
        return self._stages[name]

    async def offer(self, stage: Stage) -> None:
        """Keep a stage for a trial that will fetch it."""
        self._stages[stage.key.fingerprint] = stage

    async def stage(self, name: str) -> Stage:
        """Return a stage that was offered."""
        return self._stages[name]

    async def follow(self, name: str, seen: int) -> list[Look] | None:
        """Wait for looks at held-out text beyond the first `seen` of a stage that was submitted; None when it has ended."""
        while True:
            if len(looks := self._looks.get(name, [])) > seen:
                return looks[seen:]
            if (future := self._outcomes.get(name)) is None or future.done():
                return None
            async with self._news:
                await self._news.wait()

    async def end(self, name: str, error: bytes) -> None:
        """End a stage early: what it has trained is saved, and its submitter gets the error."""
        self._ending[name] = error

    async def halt(self, error: bytes) -> None:
        """End everything early: what trains is saved, nothing more begins, and every submitter gets the error."""
        self._halted = error

    async def ending(self, name: str) -> bytes | None:
        """Return the error with which a running stage is to end now; None: it goes on."""
        return self._halted or self._ending.get(name)

    async def preempted(self, name: str) -> None:
        """Record that a stage has saved its state because a machine goes away: its loss is not counted."""
        self._preempted.add(name)

    async def finished(self, name: str, error: bytes | None) -> None:
        """Record how a running stage ended. The first word counts: every rank may say it, and a later one must not end what its
        submitter has tried again meanwhile."""
        running = [group for group in self._groups.values() if group.running == name]
        if not running:
            return
        for group in running:
            group.running = ""
        future = self._outcomes.get(name)
        if future is not None and not future.done():
            future.set_result(error)
        async with self._news:
            self._news.notify_all()

    async def rest(self, resting: bool) -> None:
        """Send the groups home when they next ask, without an end of what waits; they may come again when the rest is over."""
        self._resting = resting

    async def leave(self, number: int, reason: str) -> None:
        """Record that a group has ended for good: its stage ends with `reason`, and with the last group all that waits."""
        if self._resting and not self._groups[number].running:
            return
        if running := self._groups[number].running:
            await self.finished(running, pickle.dumps(RuntimeError(reason)))
        del self._groups[number]
        if not self._groups and self._closed is None:
            await self.close(reason)

    async def close(self, reason: str) -> None:
        """Send the ranks home and end whatever still waits with `reason`; what trains is saved."""
        self._closed = reason
        self._halted = self._halted or pickle.dumps(RuntimeError(reason))
        await self._waiting.put("")
        for future in self._outcomes.values():
            if not future.done():
                future.set_result(pickle.dumps(RuntimeError(reason)))
        async with self._news:
            self._news.notify_all()

    async def log(self, event: Event) -> None:
        """Keep figures (or a line of prose) of a run until they are drained; those of a look also for whoever follows it."""
        self._events.append(event)
        run, part, step, figures = event
        if isinstance(figures, dict) and HELD_OUT in figures and step is not None:
            for group in self._groups.values():
                if group.running and self._stages[group.running].name == run:
                    self._looks.setdefault(group.running, []).append((part, step, figures))
            async with self._news:
                self._news.notify_all()

    async def drain(self) -> list[Event]:
        """Return and forget the events since the last call."""
        events, self._events = self._events, []
        return events


def open_queue(name: str, num_groups: int, max_losses: int) -> Any:
    """Start the actor under a name that tasks, trials and workers of this cluster find; it lives where the driver lives."""
    actor = ray.remote(num_cpus=0, max_concurrency=1000)(RunQueue)
    return actor.options(name=name, namespace=NAMESPACE, scheduling_strategy=here()).remote(num_groups, max_losses)


def here() -> NodeAffinitySchedulingStrategy:
    """Return what places a task or an actor on the node of this process."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def find_queue(name: str) -> Any:
    """Return the handle of the actor of that name."""
    return ray.get_actor(name, namespace=NAMESPACE)


class QueueTracker:
    """A tracker in a worker process: sends figures to the queue without waiting."""

    def __init__(self, queue: Any, run: str, part: str = "") -> None:
        """Args: queue: actor handle; run: name of the stage or trial; part: of the run."""
        self.queue, self.run, self.part = queue, run, part

    def log(self, step: int | None = None, **figures: float) -> None:
        """Send figures."""
        self.queue.log.remote((self.run, self.part, step, figures))

    def note(self, text: str) -> None:
        """Send a line of prose."""
        self.queue.log.remote((self.run, self.part, None, text))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Send a table."""
        self.queue.log.remote((self.run, self.part, None, (name, columns, rows)))

    def made(self, result: Made) -> None:
        """Do nothing: the driver tells of results."""

    def child(self, name: str, about: About | None = None) -> QueueTracker:
        """Return a tracker for a part of this run."""
        return QueueTracker(self.queue, self.run, f"{self.part}/{name}" if self.part else name)

    def finish(self, *, failed: bool = False) -> None:
        """Do nothing: the driver closes runs."""
