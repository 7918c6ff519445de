"""Artifacts: folders that appear whole, each with a record of what made it, found again by fingerprint.

A fingerprint says what a result *is* (configuration, parents, content of inputs, code version), never how it was computed
(paths, workers, machine), so that a finished stage is reused wherever it was run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec

from sea_ray.board import Board
from sea_ray.errors import DataError, MachineError

RECORD = "record.json"
NOT_IDENTITY = {"identity": False}
"""Metadata of a config field that says how or where, not what: it stays out of every fingerprint."""


def plain(value: object, *, identity: bool = False) -> Any:
    """Return a value as JSON types: dataclasses become mappings, tuples lists, sets sorted lists.

    Args:
        value: anything made of these.
        identity: leave out the dataclass fields that are marked NOT_IDENTITY.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), identity=identity) for field in dataclasses.fields(value)
                if not identity or field.metadata.get("identity", True)}
    if isinstance(value, Mapping):
        return {str(key): plain(item, identity=identity) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(plain(item, identity=identity) for item in value)
    if isinstance(value, list | tuple):
        return [plain(item, identity=identity) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value.item() if hasattr(value, "item") and not isinstance(value, str) else value


def fingerprint(value: object) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(plain(value, identity=True), sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_file(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}); check the file and your rights to it", file) from error


def write_json(file: Path, value: object) -> None:
    """Write a value as JSON so that the file appears whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    temporary.write_text(json.dumps(plain(value), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, file)


def read_json(file: Path) -> Any:
    """Return the value of a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageKey:
    """What a stage's result is, apart from how it is computed."""

    kind: str
    """Stage, such as "base" or "neurons"."""
    name: str
    """Readable name of this result, such as "neurons/top_frac=0.02"; not part of the fingerprint."""
    config: Any
    """Dataclass or mapping of all values that decide the result."""
    parents: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Role -> fingerprint of the artifacts it is made from."""
    inputs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Name -> content digest of files from outside the store."""
    version: int = 1
    """Raised when the stage's code computes something else."""

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits."""
        return fingerprint([self.kind, self.config, self.parents, self.inputs, self.version])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Artifact:
    """A finished result in the store."""

    kind: str
    name: str
    fingerprint: str
    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        """The record: key, parents, facts, execution, seconds, time of making."""
        return read_json(self.folder / RECORD)

    @property
    def facts(self) -> dict[str, Any]:
        """The figures that the stage reported about its result."""
        return self.record["facts"]


class Store:
    """Holds artifacts by fingerprint in a local folder, mirrored to any fsspec URL if the store is one.

    An artifact is built in a temporary folder and renamed when complete; on a remote store its record is uploaded last,
    and what has no record is never read. Of two builders of one fingerprint the first to finish wins.
    """

    def __init__(self, url: str, cache: Path | None = None) -> None:
        """Args: url: local folder or fsspec URL; cache: local folder that mirrors a remote store."""
        protocol = fsspec.utils.get_protocol(url)
        self.url = url
        self._remote: fsspec.AbstractFileSystem | None = None
        if protocol == "file":
            self.root = Path(url.removeprefix("file://")).expanduser().absolute()
            self.url = str(self.root)  # a worker in another folder must find the same place
        else:
            self._remote, self._remote_root = fsspec.core.url_to_fs(url)
            self.root = (cache or Path.home() / ".cache" / "sea_ray") / fingerprint(url)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(f"store.url={url!r} cannot be written ({error}); name a folder that you own") from error

    @property
    def is_shared(self) -> bool:
        """Whether several nodes can reach it."""
        return self._remote is not None

    def _folder(self, kind: str, key: str) -> Path:
        return self.root / "artifacts" / kind / key

    def find(self, key: StageKey) -> Artifact | None:
        """Return the finished artifact of a key, fetched from the remote store if need be, or None."""
        folder = self._folder(key.kind, key.fingerprint)
        if not (folder / RECORD).exists():
            self._fetch(folder)
        if not (folder / RECORD).exists():
            return None
        self._upload(folder)  # completes an upload that broke off
        return Artifact(kind=key.kind, name=key.name, fingerprint=key.fingerprint, folder=folder)

    def open(self, artifact: Artifact) -> Path:
        """Return the folder of an artifact on this machine, fetched if another one made it."""
        if (artifact.folder / RECORD).exists():
            return artifact.folder
        folder = self._folder(artifact.kind, artifact.fingerprint)
        if not (folder / RECORD).exists():
            self._fetch(folder)
        return folder

    def address(self, artifact: Artifact) -> str:
        """Return the folder of an artifact as every node that shares the store reaches it: a path or an fsspec URL."""
        return f"{self.url.rstrip('/')}/artifacts/{artifact.kind}/{artifact.fingerprint}"

    def discard(self, artifact: Artifact) -> None:
        """Remove an artifact that nothing is made from any more, here and in the remote store; its record goes first."""
        self._remove(self._folder(artifact.kind, artifact.fingerprint))

    def _remove(self, folder: Path) -> None:
        if self._remote is not None:
            with contextlib.suppress(FileNotFoundError):  # another may discard it too; what held the record alone is gone with it
                if self._remote.exists(self._remote_path(folder / RECORD)):
                    self._remote.rm_file(self._remote_path(folder / RECORD))
                self._remote.rm(self._remote_path(folder), recursive=True)
        (self.root / "building").mkdir(exist_ok=True)
        aside = self.root / "building" / f"discard-{uuid.uuid4().hex}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder, aside)  # at once, so that nobody finds half of it
            shutil.rmtree(aside, ignore_errors=True)

    @contextlib.contextmanager
    def building(self, key: StageKey) -> Iterator[Path]:
        """Yield an empty temporary folder for a result; it is removed unless `commit` renames it."""
        folder = self._temporary(f"{key.kind}-{key.fingerprint}-")
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _temporary(self, prefix: str) -> Path:
        """Return an empty folder of its own on the file system of the results."""
        (self.root / "building").mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=prefix, dir=self.root / "building"))

    def commit(self, key: StageKey, folder: Path, facts: object, execution: object, seconds: float) -> Artifact:
        """Give a built folder its record and its place; if another builder was first, its result stands.

        Args:
            key: what the result is.
            folder: from `building`, complete.
            facts: figures about the result.
            execution: how it was computed (engine, workers, versions).
            seconds: wall time.
        """
        record = {**plain(key), "fingerprint": key.fingerprint, "facts": plain(facts), "execution": plain(execution),
                  "seconds": round(seconds, 3), "made_at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        write_json(folder / RECORD, record)
        place = self._folder(key.kind, key.fingerprint)
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)  # mkdtemp's folders are private; a result is as readable as its neighbours
        self._fetch(place)  # another machine may have been first
        try:
            os.rename(folder, place)
        except OSError:
            if not (place / RECORD).exists():
                raise
        self._upload(place)
        found = self.find(key)
        assert found is not None
        return found

    def unfinished(self, key: StageKey) -> Unfinished:
        """Return what has been put by for a result that is not finished, such as the states of its trainings."""
        return Unfinished(self, self.root / "unfinished" / key.kind / key.fingerprint)

    @property
    def board(self) -> Board:
        """Small files that every submitter sees at once."""
        return Board(self.url)

    def run_folder(self, name: str) -> Path:
        """Return the (made) folder of a named run: its list of artifacts, events and report."""
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def publish(self, file: Path) -> None:
        """Copy a file of the run folder to the remote store, if there is one."""
        if self._remote is not None:
            self._remote.put_file(str(file), self._remote_path(file))

    def fetch(self, file: Path) -> None:
        """Copy a file of a run folder from the remote store, if it is there and not here."""
        if self._remote is not None and not file.exists() and self._remote.exists(self._remote_path(file)):
            file.parent.mkdir(parents=True, exist_ok=True)
            self._remote.get_file(self._remote_path(file), str(file))

    def _remote_path(self, file: Path) -> str:
        return f"{self._remote_root}/{file.relative_to(self.root).as_posix()}"

    def _upload(self, place: Path) -> None:
        if self._remote is None or self._remote.exists(self._remote_path(place / RECORD)):
            return
        files = sorted(file for file in place.rglob("*") if file.is_file() and file.name != RECORD)
        for file in [*files, place / RECORD]:
            self._remote.makedirs(self._remote_path(file.parent), exist_ok=True)
            self._remote.put_file(str(file), self._remote_path(file))

    def _fetch(self, place: Path) -> None:
        if self._remote is None or not self._remote.exists(self._remote_path(place / RECORD)):
            return
        temporary = self._temporary("fetch-")
        base = self._remote_path(place)
        for remote_file in self._remote.find(base):
            target = temporary / remote_file[len(base):].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            self._remote.get_file(remote_file, str(target))
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(temporary, place)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            if not (place / RECORD).exists():
                raise


class Unfinished:
    """Named folders that belong to a result while it is being made; each appears whole, with a record, or not at all.

    They outlive the process, and with a remote store the machine; when the result is committed they are cleared.
    """

    def __init__(self, store: Store, place: Path) -> None:
        """Args: store: where they lie; place: their own part of it."""
        self._store, self._place = store, place

    def part(self, name: str) -> Unfinished:
        """Return a part with names of its own."""
        return Unfinished(self._store, self._place / name)

    def names(self) -> list[str]:
        """Return the folders that are whole, sorted."""
        names = {file.parent.name for file in self._place.glob(f"*/{RECORD}")}
        if (remote := self._store._remote) is not None:
            remote.invalidate_cache()  # others may have written since
            with contextlib.suppress(FileNotFoundError):
                names |= {file.split("/")[-2] for file in remote.find(self._store._remote_path(self._place), maxdepth=2)
                          if file.endswith(f"/{RECORD}")}
        return sorted(names)

    def temporary(self) -> Path:
        """Return an empty folder to fill for `put`."""
        return self._store._temporary("unfinished-")

    def put(self, folder: Path, name: str, record: object) -> None:
        """Give a filled folder its record and its name; what had the name is replaced."""
        write_json(folder / RECORD, record)
        place = self._place / name
        if place.exists():
            self.remove(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder, place)
        self._store._upload(place)

    def get(self, name: str) -> Path:
        """Return a folder on this machine, fetched if another one made it.

        Raises:
            DataError: there is none of that name.
        """
        place = self._place / name
        if not (place / RECORD).exists():
            self._store._fetch(place)
        if not (place / RECORD).exists():
            raise DataError("there is no such folder, or it is not whole", place)
        return place

    def remove(self, name: str) -> None:
        """Remove a folder, here and in the remote store."""
        self._store._remove(self._place / name)

    def clear(self) -> None:
        """Remove all of them."""
        if self._place.exists() or self._store.is_shared:
            self._store._remove(self._place)
