"""What a store holds, and what of it nobody needs any more.

Needed is what a run's record names, what that was made from, and so on upwards. What no record needs may belong to a run that was
interrupted and is to go on: it stays until it has not been touched for some days, and so does what it was made from. Whatever a
lease holds is left alone, and while anything is under way no result goes at all.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from os import stat_result
from pathlib import Path
from typing import Literal

from sea_ray.artifacts import RECORD, Artifact, Store, Unfinished
from sea_ray.errors import DataError
from sea_ray.leases import LEASES, is_held

RUN = "run.json"
"""Record of a finished run, in the folder of its name."""
DAYS = 14.0
"""Age from which what no record needs may go."""
GRACE_S = 3600.0
"""Age from which a lease that is over, and a folder that nobody builds, may go."""
Part = Literal["artifacts", "unfinished", "leases", "building", "runs"]
_PARTS: dict[str, Part] = {"artifacts": "artifacts", "unfinished": "unfinished", "leases": "leases", "building": "building"}


@dataclass(frozen=True, kw_only=True)
class Holding:
    """A folder of a store."""

    part: Part
    """artifacts: a result; unfinished: states of one that is not finished; leases: who computes one; building: a folder that is
    being filled, on this machine; runs: what a named run says of itself, and what is kept of sweeps and trials."""
    place: str
    """From the store's root on."""
    num_bytes: int
    age_s: float
    """Since its last change."""
    why: str | None = None
    """Why nobody needs it; None: it stays."""

    @property
    def kind(self) -> str:
        """Kind of the result that it is of; for building and runs the folder's name."""
        return self.place.split("/")[1 if self.part not in ("building", "runs") else -1]

    @property
    def fingerprint(self) -> str:
        """Of the result that it is of."""
        return self.place.rpartition("/")[2]


def survey(store: Store, days: float = DAYS) -> list[Holding]:
    """Return everything that a store holds, and of what may go the reason.

    Args:
        store: is looked at, never changed.
        days: age from which results that no record needs, and states that nobody goes on with, may go.

    Raises:
        DataError: a run's record cannot be read, so that nobody knows what it needs.
    """
    return list(_Survey(store, days).holdings())


def remove(store: Store, chosen: Iterable[Holding], days: float = DAYS) -> list[Holding]:
    """Remove what was chosen and still may go, and return it.

    Args:
        store: is looked at again, for who has begun meanwhile.
        chosen: from `survey`.
        days: as there.
    """
    places = {holding.place for holding in chosen}
    gone = [holding for holding in survey(store, days) if holding.why is not None and holding.place in places]
    for holding in gone:
        folder = store.root / holding.place
        if holding.part == "artifacts":
            store.discard(Artifact(kind=holding.kind, name="", fingerprint=holding.fingerprint, folder=folder))
        elif holding.part == "unfinished":
            Unfinished(store, folder).clear()
        elif holding.part == "building":
            shutil.rmtree(folder, ignore_errors=True)
        else:
            store.board.remove(holding.place)
    return gone


class _Survey:
    """One look at a store."""

    def __init__(self, store: Store, days: float) -> None:
        self._store, self._now, self._old_s = store, time.time(), days * 24 * 3600
        files = store.board.files()
        self._runs = {name for name in files if name.endswith(f"/{RUN}")}
        folders: dict[tuple[Part, str], list[tuple[int, float]]] = defaultdict(list)
        for name, stat in files.items():
            first, *rest = name.split("/")
            part = _PARTS.get(first, "runs")
            if part != "runs":
                self._runs.discard(name)
            if rest and part != "building":
                folders[part, "/".join([first, *rest[:2]]) if part != "runs" else first].append(stat)
        self._folders: dict[Part, dict[str, Holding]] = {"artifacts": {}, "unfinished": {}, "leases": {}, "runs": {}}
        for (part, place), stats in folders.items():
            self._folders[part][place] = self._holding(part, place, stats)
        self._whole = {place for place in self._folders["artifacts"] if f"{place}/{RECORD}" in files}
        self._held = {place for place, lease in self._folders["leases"].items() if is_held(store, lease.kind, lease.fingerprint)}

    def _holding(self, part: Part, place: str, stats: list[tuple[int, float]]) -> Holding:
        age_s = self._now - max(changed for _, changed in stats) if stats else 0.0
        return Holding(part=part, place=place, num_bytes=sum(size for size, _ in stats), age_s=age_s)

    def holdings(self) -> Iterator[Holding]:
        states = [replace(state, why=self._why_state(state)) for state in self._folders["unfinished"].values()]
        under_way = bool(self._held) or any(state.why is None for state in states)
        needed = self._needed()
        for result in self._folders["artifacts"].values():
            why = None
            if not under_way and result.place not in needed and result.age_s >= self._old_s:
                why = "no run's record needs it" if result.place in self._whole else "it has no record"
            yield replace(result, why=why)
        yield from states
        for lease in self._folders["leases"].values():
            over = lease.place not in self._held and lease.age_s >= GRACE_S
            yield replace(lease, why="it is over" if over else None)
        for folder in self._building():
            gone = folder.age_s >= (self._old_s if self._held else GRACE_S)
            yield replace(folder, why="nobody builds it" if gone else None)
        yield from self._folders["runs"].values()

    def _why_state(self, state: Holding) -> str | None:
        if f"{LEASES}/{state.kind}/{state.fingerprint}" in self._held:
            return None
        if f"artifacts/{state.kind}/{state.fingerprint}" in self._whole:
            return "its result is finished"
        return f"nobody has gone on with it for {state.age_s / 24 / 3600:.0f} days" if state.age_s >= self._old_s else None

    def _needed(self) -> set[str]:
        """Return the results that a run's record names or that are young, with all that they were made from."""
        by_fingerprint: dict[str, list[str]] = defaultdict(list)
        for place in self._whole:
            by_fingerprint[place.rpartition("/")[2]].append(place)
        waiting = [place for place in self._whole if self._folders["artifacts"][place].age_s < self._old_s]
        waiting += [place for fingerprint in self._named() for place in by_fingerprint[fingerprint]]
        needed: set[str] = set()
        while waiting:
            place = waiting.pop()
            if place not in needed:
                needed.add(place)
                content = self._store.board.read(f"{place}/{RECORD}")
                parents = _json(place, content).get("parents", {}).values() if content else ()
                waiting += [found for parent in parents for found in by_fingerprint[parent]]
        return needed

    def _named(self) -> Iterator[str]:
        """Yield the fingerprints that runs' records name."""
        records = {name: self._store.board.read(name) for name in self._runs}
        if self._store.is_shared:  # a record that could not be published
            records |= {str(file): file.read_bytes() for file in self._store.root.glob(f"*/{RUN}")}
        for name, content in records.items():
            if content is not None:
                yield from _fingerprints(_json(name, content))

    def _building(self) -> Iterator[Holding]:
        for folder in sorted((self._store.root / "building").glob("*")):
            stats = [(stat.st_size if file.is_file() else 0, stat.st_mtime) for file in (folder, *folder.rglob("*"))
                     if (stat := _stat(file))]
            yield self._holding("building", f"building/{folder.name}", stats)


def _stat(file: Path) -> stat_result | None:
    try:
        return file.lstat()
    except FileNotFoundError:  # its builder is done with it
        return None


def _json(name: str, content: bytes) -> dict:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise DataError(f"cannot be read ({error}), so nobody knows what it needs; mend it or remove it", name) from error
    if not isinstance(value, dict):
        raise DataError("is no record, so nobody knows what it needs; mend it or remove it", name)
    return value


def _fingerprints(value: object) -> Iterator[str]:
    """Yield every fingerprint of a run's record, whatever role it has."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "fingerprint" and isinstance(item, str):
                yield item
            else:
                yield from _fingerprints(item)
    elif isinstance(value, list):
        for item in value:
            yield from _fingerprints(item)
