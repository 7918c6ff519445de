"""Small files in a store that every submitter sees at once: what leases are made of."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import fsspec

EXCLUSIVE_STORES = ("file", "local", "s3", "s3a", "gs", "gcs")
"""Protocols whose stores create a file only if it is not there, in one step: links of a local disk, conditional writes of S3 and
GCS. Generic fsspec looks first and writes then."""


class Board:
    """Small files in a store, never cached: what one process writes the others see."""

    def __init__(self, url: str) -> None:
        """Args: url: of the store."""
        self._protocol = fsspec.utils.get_protocol(url)
        self._fs, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)

    @property
    def is_exclusive(self) -> bool:
        """Whether of several who create one file only one can."""
        return self._protocol in EXCLUSIVE_STORES

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that is not there; return whether this call did."""
        place = f"{self._root}/{name}"
        self._fs.makedirs(place.rpartition("/")[0], exist_ok=True)
        if self._protocol in ("file", "local"):
            temporary = f"{place}.{uuid.uuid4().hex}"
            self._fs.pipe_file(temporary, content)
            try:
                os.link(temporary, place)  # appears whole, or fails
            except FileExistsError:
                return False
            finally:
                os.unlink(temporary)
            return True
        try:
            self._fs.pipe_file(place, content, mode="create")
        except FileExistsError:
            return False
        return True

    def replace(self, name: str, content: bytes) -> None:
        """Write a file, whatever was there."""
        place = f"{self._root}/{name}"
        self._fs.makedirs(place.rpartition("/")[0], exist_ok=True)
        if self._protocol in ("file", "local"):
            temporary = f"{place}.{uuid.uuid4().hex}"
            self._fs.pipe_file(temporary, content)
            os.replace(temporary, place)  # nobody reads half of it
        else:
            self._fs.pipe_file(place, content)

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None if it is not there."""
        try:
            return bytes(self._fs.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            return None

    def files(self) -> dict[str, tuple[int, float]]:
        """Return every file of the store: its name from the store's root on -> bytes, and the time of its last change in seconds
        since 1970 (now, where the store does not tell).
        """
        self._fs.invalidate_cache()
        root = self._root.rstrip("/")
        try:
            found = self._fs.find(root, detail=True)
        except FileNotFoundError:
            return {}
        return {name[len(root) + 1:]: (int(info["size"]), _changed(info)) for name, info in found.items()}

    def remove(self, folder: str) -> None:
        """Remove a folder with its files, if it is there."""
        self._fs.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(f"{self._root}/{folder}", recursive=True)

    def names(self, folder: str) -> list[str]:
        """Return the names of a folder's files, sorted."""
        self._fs.invalidate_cache()
        try:
            return sorted(file.rpartition("/")[2] for file in self._fs.ls(f"{self._root}/{folder}", detail=False))
        except FileNotFoundError:
            return []


def _changed(info: Mapping[str, Any]) -> float:
    """Return when a file was last changed; each kind of store has its own word for it."""
    for word in ("mtime", "LastModified", "updated", "last_modified", "created"):
        value = info.get(word)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return time.time()
