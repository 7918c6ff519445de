"""The border to whatever shows a run: rooms log figures here and know nothing of W&B or terminals."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Row = Sequence[str | float | None]
"""Of a table; None where there is nothing."""
Line = Mapping[str, Any]
"""Of the mirror: one call of a tracker."""
PUBLISH_S = 30.0
"""The mirror is copied to a remote store this often at most."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What a run is, beside its name."""

    key: str
    """Identity, such as a stage's fingerprint: a later process that names the same one goes on with the run."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What sets it apart from the others of its sweep: dotted config path, or a word of a study such as "arm" -> value."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A result that a run made."""

    kind: str
    """Stage, such as "neurons"."""
    fingerprint: str
    """Identity of the result."""
    address: str
    """Folder, as every node that shares the store reaches it: a path or an fsspec URL."""
    record: Path
    """Its record, on this machine."""
    parents: tuple[Made, ...] = ()
    """What it is made from; of these the parents are not told again."""


class Tracker(Protocol):
    """Receives the figures of one run (a stage, a trial, a training)."""

    def log(self, step: int | None = None, **figures: float) -> None:
        """Record figures, at a training step if there is one."""

    def note(self, text: str) -> None:
        """Record one line of prose."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Record a table."""

    def made(self, result: Made) -> None:
        """Record a result with what it was made from."""

    def child(self, name: str, about: About | None = None) -> Tracker:
        """Return a tracker for a part of this run; with `about` the part is a run of its own, which may be gone on with."""

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

    def made(self, result: Made) -> None:
        """Ignore the result."""

    def child(self, name: str, about: About | None = None) -> Tracker:
        """Return itself."""
        return self

    def finish(self, *, failed: bool = False) -> None:
        """Do nothing."""


class JsonlTracker:
    """Mirrors a run to a JSON Lines file: one object per log call, always written, whatever else is configured."""

    def __init__(self, file: Path, run: str = "", *, key: str = "", part: str = "",
                 publish: Callable[[Path], None] | None = None) -> None:
        """Make a mirror.

        Args:
            file: appended to, made with its folder.
            run: name that each line carries.
            key: identity of the run that may be gone on with; its lines carry it.
            part: of that run.
            publish: copies the file to where a later process looks for it; called now and then, and at the end of each run.
        """
        self.file, self.run, self.key, self.part = file, run, key, part
        file.parent.mkdir(parents=True, exist_ok=True)
        if not run and file.exists() and file.read_bytes()[-1:] not in (b"", b"\n"):
            with file.open("a", encoding="utf-8") as stream:
                stream.write("\n")  # a killed process left half a line: the next one must not be lost with it
        self._lock, self._publish, self._published = threading.Lock(), publish, time.monotonic()

    def _write(self, **fields: object) -> None:
        keyed = {"key": self.key, "part": self.part} if self.key else {}
        line = json.dumps({"time": round(time.time(), 3), "run": self.run, **keyed, **fields}, ensure_ascii=False)
        with self._lock, self.file.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        if time.monotonic() - self._published > PUBLISH_S:
            self._copy()

    def _copy(self) -> None:
        self._published = time.monotonic()
        if self._publish is not None:
            try:
                self._publish(self.file)
            except Exception as error:  # each kind of store raises its own; a mirror that is late ends no run
                self._write(note=f"the mirror could not be copied to the store: {type(error).__name__}: {error}")

    def log(self, step: int | None = None, **figures: float) -> None:
        """Append one line with the figures."""
        self._write(**({} if step is None else {"step": step}), **figures)

    def note(self, text: str) -> None:
        """Append one line of prose."""
        self._write(note=text)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Append one line with the whole table."""
        self._write(table=name, columns=list(columns), rows=[list(row) for row in rows])

    def made(self, result: Made) -> None:
        """Append one line with the result's place and its parents."""
        self._write(made=result.fingerprint, kind=result.kind, address=result.address,
                    parents=[parent.fingerprint for parent in result.parents])

    def child(self, name: str, about: About | None = None) -> Tracker:
        """Return a tracker into the same file whose run name is extended by `name`."""
        key = about.key if about else self.key
        part = "" if about else "/".join(filter(None, (self.part, name)))
        return JsonlTracker(self.file, f"{self.run}/{name}" if self.run else name, key=key, part=part if key else "",
                            publish=self._publish)

    def finish(self, *, failed: bool = False) -> None:
        """Append how the run ended."""
        self._write(finished=not failed)
        self._copy()


def read_mirror(file: Path) -> dict[str, list[Line]]:
    """Return the lines that earlier processes wrote of runs that may be gone on with: key -> lines, in order.

    A last line that a killed process left half written is left out.
    """
    found: dict[str, list[Line]] = {}
    if file.exists():
        for text in file.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if key := line.get("key"):
                found.setdefault(key, []).append(line)
    return found


def figures_of(line: Line) -> dict[str, float]:
    """Return the figures of a line; none of prose, a table, a result or an end."""
    if not {"note", "table", "made", "finished"}.isdisjoint(line):
        return {}
    return {name: value for name, value in line.items() if name not in ("time", "run", "key", "part", "step")}


class Once:
    """Passes on each figure of a training step once, though a training that goes on from its last saved state repeats steps."""

    def __init__(self, inner: Tracker, before: Mapping[str, Iterable[Line]], key: str = "", part: str = "") -> None:
        """Make it.

        Args:
            inner: receives what is new.
            before: lines of earlier processes, by the run's key.
            key: identity of this run; without one everything is passed on.
            part: of it.
        """
        self._inner, self._before, self._key, self._part = inner, before, key, part
        self._shown = {(line["step"], name) for line in before.get(key, ())
                       if line.get("part") == part and "step" in line for name in figures_of(line)} if key else set()

    def log(self, step: int | None = None, **figures: float) -> None:
        """Pass on the figures that were not shown at this step."""
        if step is not None and self._key:
            figures = {name: value for name, value in figures.items() if (step, name) not in self._shown}
            self._shown.update((step, name) for name in figures)
            if not figures:
                return
        self._inner.log(step, **figures)

    def note(self, text: str) -> None:
        """Pass on."""
        self._inner.note(text)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Pass on."""
        self._inner.table(name, columns, rows)

    def made(self, result: Made) -> None:
        """Pass on."""
        self._inner.made(result)

    def child(self, name: str, about: About | None = None) -> Tracker:
        """Return the inner tracker's child, each of whose figures is passed on once, too."""
        key = about.key if about else self._key
        part = "" if about else "/".join(filter(None, (self._part, name)))
        return Once(self._inner.child(name, about), self._before, key, part)

    def finish(self, *, failed: bool = False) -> None:
        """Pass on."""
        self._inner.finish(failed=failed)


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

    def made(self, result: Made) -> None:
        """Pass on to each part."""
        for part in self.parts:
            part.made(result)

    def child(self, name: str, about: About | None = None) -> Tracker:
        """Return the parts' children as one."""
        return Trackers([part.child(name, about) for part in self.parts])

    def finish(self, *, failed: bool = False) -> None:
        """Finish each part."""
        for part in self.parts:
            part.finish(failed=failed)
