"""What a person at the terminal sees: stages, training steps with loss and ETA, results. Plain lines, at a bearable rate."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from sea_ray.tracking import About, Made, Row

EVERY_S = 2.0
"""Training steps of one run are shown this often at most."""


class ConsoleTracker:
    """Prints figures of a run; the root prints for all its children."""

    def __init__(self, console: Console | None = None, run: str = "") -> None:
        """Args: console: where to print; run: name in front of each line."""
        self.console, self.run = console or Console(highlight=False, soft_wrap=True), run
        self._last = 0.0

    def log(self, step: int | None = None, **figures: float) -> None:
        """Print a training step at most every two seconds; other figures are for W&B and the report."""
        now = time.monotonic()
        if step is None or now - self._last < EVERY_S:
            return
        self._last = now
        parts = [f"{name} {_short(value)}" for name, value in figures.items() if name != "num_steps"]
        total = f"/{figures['num_steps']:.0f}" if "num_steps" in figures else ""
        self.console.print(Text(f"    {self.run}  step {step}{total}  {'  '.join(parts)}", style="dim"))

    def note(self, text: str) -> None:
        """Print a line of prose."""
        self.console.print(Text(f"    {self.run}  {text}" if self.run else text))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Do nothing: a long table is for files and W&B."""

    def made(self, result: Made) -> None:
        """Do nothing: the narrator tells of results."""

    def child(self, name: str, about: About | None = None) -> ConsoleTracker:
        """Return a tracker whose lines carry `name`."""
        return ConsoleTracker(self.console, f"{self.run}/{name}" if self.run else name)

    def finish(self, *, failed: bool = False) -> None:
        """Do nothing: lines are complete."""


def _short(value: Any) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def is_terminal() -> bool:
    """Return whether a person can be asked."""
    return sys.stdin.isatty()


def agreed(question: str, console: Console, *, yes: bool) -> bool:
    """Return whether a person agrees, or has agreed beforehand.

    Args:
        question: with its question mark.
        console: where a person looks.
        yes: agreed beforehand.
    """
    return yes or console.input(f"{question} \\[y/N] ").strip().lower() in ("y", "yes")
