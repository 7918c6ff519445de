"""The border to whatever shows a run: rooms log figures here and know nothing of W&B or terminals."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

Row = Sequence[str | float | None]
"""Of a table; None where there is nothing."""


class Tracker(Protocol):
    """Receives the figures of one run (a stage, a trial, a training)."""

    def log(self, step: int | None = None, **figures: float) -> None:
        """Record figures, at a training step if there is one."""

    def note(self, text: str) -> None:
        """Record one line of prose."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Record a table."""

    def child(self, name: str) -> Tracker:
        """Return a tracker for a part of this run."""

    def finish(self, *, failed: bool = False) -> None:
        """Close the run; called on every exit path."""


class NullTracker:
    """Shows nothing."""

    def log(self, step: int | None = None, **figures: float) -> None:
        """Ignore the figures."""

    def note(self, text: str) -> None:
        """Ignore the line."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Ignore the table."""

    def child(self, name: str) -> Tracker:
        """Return itself."""
        return self

    def finish(self, *, failed: bool = False) -> None:
        """Do nothing."""


class JsonlTracker:
    """Mirrors a run to a JSON Lines file: one object per log call, always written, whatever else is configured."""

    def __init__(self, file: Path, run: str = "") -> None:
        """Args: file: appended to, made with its folder; run: name that each line carries."""
        self.file, self.run = file, run
        file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()

    def _write(self, **fields: object) -> None:
        line = json.dumps({"time": round(time.time(), 3), "run": self.run, **fields}, ensure_ascii=False)
        with self._lock, self.file.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def log(self, step: int | None = None, **figures: float) -> None:
        """Append one line with the figures."""
        self._write(**({} if step is None else {"step": step}), **figures)

    def note(self, text: str) -> None:
        """Append one line of prose."""
        self._write(note=text)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Append one line with the whole table."""
        self._write(table=name, columns=list(columns), rows=[list(row) for row in rows])

    def child(self, name: str) -> Tracker:
        """Return a tracker into the same file whose run name is extended by `name`."""
        return JsonlTracker(self.file, f"{self.run}/{name}" if self.run else name)

    def finish(self, *, failed: bool = False) -> None:
        """Append how the run ended."""
        self._write(finished=not failed)


class Trackers:
    """Several trackers as one."""

    def __init__(self, parts: Sequence[Tracker]) -> None:
        """Args: parts: receive every call, in order."""
        self.parts = tuple(parts)

    def log(self, step: int | None = None, **figures: float) -> None:
        """Pass on to each part."""
        for part in self.parts:
            part.log(step, **figures)

    def note(self, text: str) -> None:
        """Pass on to each part."""
        for part in self.parts:
            part.note(text)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Pass on to each part."""
        for part in self.parts:
            part.table(name, columns, rows)

    def child(self, name: str) -> Tracker:
        """Return the parts' children as one."""
        return Trackers([part.child(name) for part in self.parts])

    def finish(self, *, failed: bool = False) -> None:
        """Finish each part."""
        for part in self.parts:
            part.finish(failed=failed)
