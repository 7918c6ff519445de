"""Tells a person which stage runs, which is reused and what it took, and keeps the list for the report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from sea_ray.artifacts import Artifact, Store
from sea_ray.execution import Endpoint, Platform, Search, Stage, Trial
from sea_ray.launch.live import View
from sea_ray.tracking import Tracker


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """One result that this run used."""

    kind: str
    name: str
    fingerprint: str
    seconds: float
    """Wall time of making it, in whichever run that was."""
    reused: bool


@dataclass
class Narrator:
    """A platform that passes everything on to another one and tells about it."""

    platform: Platform
    console: Console
    view: View | None = None
    """What a terminal shows below the lines."""
    rows: list[StageRow] = field(default_factory=list)

    @property
    def store(self) -> Store:
        """The inner platform's store."""
        return self.platform.store

    @property
    def tracker(self) -> Tracker:
        """The inner platform's tracker."""
        return self.platform.tracker

    def _done(self, name: str, artifact: Artifact, reused: bool) -> None:
        seconds = artifact.record["seconds"]
        self.rows.append(StageRow(kind=artifact.kind, name=name, fingerprint=artifact.fingerprint, seconds=seconds,
                                  reused=reused))
        what = "reused" if reused else f"{seconds:.1f} s"
        self.console.print(f"[green]done[/]  {name:<34} {what:>9}  {artifact.fingerprint}")

    def run(self, stage: Stage) -> Artifact:
        """Run a stage and tell."""
        reused = self.store.find(stage.key) is not None
        if not reused:
            self.console.print(f"[bold]start[/] {stage.name}")
            if self.view is not None:
                self.view.begin(stage.name)
        artifact = self.platform.run(stage)
        self._done(stage.name, artifact, reused)
        return artifact

    def sweep(self, name: str, search: Search) -> list[Trial]:
        """Run a sweep and tell of each trial."""
        self.console.print(f"[bold]sweep[/] {name}: {search.num_trials} trials")
        start = time.monotonic()
        if self.view is not None:
            self.view.begin(f"sweep {name}, {search.num_trials} trials")
            search = self.view.watch(search)
        results = self.platform.sweep(name, search)
        for trial in results:
            if trial.artifact is not None:
                self._done(trial.name, trial.artifact, trial.reused)
            else:
                color = "red" if trial.outcome == "failed" else "yellow"
                self.console.print(f"[{color}]{trial.outcome}[/] {trial.name}: {trial.error}")
        if not all(trial.reused for trial in results):
            self.console.print(f"      sweep {name} took {time.monotonic() - start:.1f} s")
        return results

    @contextlib.contextmanager
    def serving(self, checkpoint: Artifact, config: Any) -> Iterator[Endpoint]:
        """Serve and tell where."""
        with self.platform.serving(checkpoint, config) as endpoint:
            self.console.print(f"[bold]serve[/] {checkpoint.name} at {endpoint.url} (loopback, key required)")
            yield endpoint
        self.console.print("      the server has stopped; `sea-ray serve run=NAME` brings the winner up again")
