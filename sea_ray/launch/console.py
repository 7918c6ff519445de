"""What a person sees in lines: stages, training steps with loss and ETA, results; and what a machine reads. Lines are all that a
log gets; a terminal has a view below them (`live.py`)."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from sea_ray.artifacts import plain
from sea_ray.tracking import About, Made, Row

_OUTPUT: ContextVar[TextIO | None] = ContextVar("output", default=None)
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
        parts = [f"{name} {_short(value)}" for name, value in figures.items()]
        self.console.print(Text(f"    {self.run}  step {step}  {'  '.join(parts)}", style="dim"))

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


def show_rows(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print rows of the same columns, numbers to the right; a yes is a star, and what has parts is for --json alone."""
    columns = [name for name, value in (rows[0] if rows else {}).items() if not isinstance(value, dict)]
    lines = [columns, *([_cell(row[name]) for name in columns] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    numeric = [any(isinstance(row[name], int | float) for row in rows) for name in columns]
    for number, line in enumerate(lines):
        text = "  ".join(cell.rjust(width) if right else cell.ljust(width)
                         for cell, width, right in zip(line, widths, numeric, strict=True))
        console.print(Text(text.rstrip(), style="" if number else "bold"))


def _cell(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "*" if value else ""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@contextlib.contextmanager
def for_machines() -> Iterator[None]:
    """Keep standard output for print_json while the context is open: what else is written there, as libraries do, goes to
    standard error."""
    token = _OUTPUT.set(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _OUTPUT.reset(token)


def print_json(value: object) -> None:
    """Print a command's result for machines: one line of JSON on standard output."""
    print(json.dumps(plain(value), ensure_ascii=False), file=_OUTPUT.get(), flush=True)


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
