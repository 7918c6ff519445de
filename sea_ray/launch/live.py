"""What a terminal shows below the lines while a run goes on: the stage, the trials of a sweep, a bar for each training."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sea_ray.board import Board
from sea_ray.execution import Proposal, Search, Trial
from sea_ray.launch.console import ConsoleTracker
from sea_ray.search_space import label
from sea_ray.tracking import About

MOST_ROWS = 16
"""Trials and trainings that are shown; of more the last ones."""


@dataclass
class View:
    """What is going on; figures come from another thread than stages and trials."""

    stage: str = ""
    began: float = 0.0
    """Of the stage, seconds of the monotonic clock."""
    trainings: dict[str, dict[str, float]] = field(default_factory=dict)
    """Run -> its last figures, with "step" and "seconds" since its first one."""
    trials: dict[str, Trial | None] = field(default_factory=dict)
    """Name of a trial of the present sweep -> how it ended; None: it runs."""
    figures: tuple[str, ...] = ()
    """Of a trial, shown when it has finished."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, stage: str) -> None:
        """Name what runs now; what ran before has ended."""
        with self.lock:
            self.stage, self.began = stage, time.monotonic()
            self.trainings.clear()
            self.trials.clear()

    def step(self, run: str, step: int, figures: dict[str, float]) -> None:
        """Take the figures of a training's step."""
        now = time.monotonic()
        with self.lock:
            first = self.trainings.get(run, {}).get("first", now)
            self.trainings[run] = {**self.trainings.get(run, {}), **figures, "step": step, "first": first, "seconds": now - first}

    def end(self, run: str) -> None:
        """Take away what belongs to a run that has ended."""
        with self.lock:
            for name in [name for name in self.trainings if name == run or name.startswith(f"{run}/")]:
                del self.trainings[name]

    def watch(self, search: Search) -> Search:
        """Return a search that does the same and shows its trials."""
        return _Watched(search, self)

    def render(self) -> RenderableType:
        """Return all of it."""
        with self.lock:
            parts: list[RenderableType] = []
            if self.stage:
                parts.append(Text(f"{self.stage}  {time.monotonic() - self.began:.0f} s", style="bold"))
            if self.trials:
                parts.append(self._trials())
            if self.trainings:
                parts.append(self._bars())
            return Group(*parts)

    def _trials(self) -> Table:
        table = Table("trial", *self.figures, "", box=None, pad_edge=False)
        for name, trial in list(self.trials.items())[-MOST_ROWS:]:
            facts = trial.artifact.facts if trial and trial.artifact else {}
            shown = [f"{facts[figure]:.4g}" if figure in facts else "" for figure in self.figures]
            table.add_row(name, *shown, trial.outcome if trial else "runs or waits")
        return table

    def _bars(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for run, figures in list(self.trainings.items())[-MOST_ROWS:]:
            left = figures.get("eta_s", 0.0)
            bar = ProgressBar(total=figures["seconds"] + left or 1.0, completed=figures["seconds"], width=24)
            losses = ", ".join(f"{name} {value:.3f}" for name, value in figures.items() if name == "loss" or "held_out" in name)
            table.add_row(run, bar, f"step {figures['step']:.0f}", f"{left:.0f} s left", losses)
        return table


@contextlib.contextmanager
def live_view(console: Console) -> Iterator[View | None]:
    """Yield a view that is kept on the terminal below the lines while the context is open; None where nobody looks at a terminal:
    a log holds lines alone."""
    if not console.is_interactive:
        yield None
        return
    view = View()
    with Live(get_renderable=view.render, console=console, refresh_per_second=2, transient=True):
        yield view


class LiveTracker(ConsoleTracker):
    """Shows the steps of trainings in a view instead of in lines."""

    def __init__(self, view: View, console: Console, run: str = "") -> None:
        """Args: view: shows them; console: where prose is printed; run: name of the training."""
        super().__init__(console, run)
        self._view = view

    def log(self, step: int | None = None, **figures: float) -> None:
        """Show a training step; other figures are for W&B and the report."""
        if step is not None:
            self._view.step(self.run, step, figures)

    def child(self, name: str, about: About | None = None) -> LiveTracker:
        """Return a tracker of a part of this run."""
        return LiveTracker(self._view, self.console, f"{self.run}/{name}" if self.run else name)

    def finish(self, *, failed: bool = False) -> None:
        """Take the run's bars away."""
        self._view.end(self.run)


class _Watched:
    """A search whose trials a view shows."""

    def __init__(self, search: Search, view: View) -> None:
        self._search, self._view = search, view
        config: Any = getattr(search, "config", None)
        view.figures = tuple(config.objectives) if config else ()

    @property
    def num_trials(self) -> int:
        return self._search.num_trials

    @property
    def identity(self) -> str:
        return self._search.identity

    @property
    def rungs(self) -> Any:
        return self._search.rungs

    def remember(self, board: Board) -> None:
        self._search.remember(board)

    def ask(self) -> Proposal | None:
        proposal = self._search.ask()
        if proposal is not None:
            with self._view.lock:
                self._view.trials[_name(proposal)] = None
        return proposal

    def tell(self, proposal: Proposal, trial: Trial) -> None:
        with self._view.lock:
            self._view.trials[_name(proposal)] = trial
        self._search.tell(proposal, trial)


def _name(proposal: Proposal) -> str:
    return label(proposal.point) + (f" seed+{proposal.repetition}" if proposal.repetition else "")
