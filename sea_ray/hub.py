"""Rows of Hugging Face datasets, streamed: of an id on the Hub, or of a local folder in the same layout."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sea_ray.artifacts import digest_file
from sea_ray.errors import DataError, MachineError

_NETWORK_PACKAGES = {"aiohttp", "http", "httpcore", "httpx", "httpx2", "requests", "ssl", "urllib3"}
"""Whose errors say that the network failed. Not all of them are an OSError, some are a ValueError or RuntimeError too, and which
package the Hub's client calls differs by its version."""
_NOT_THERE = {401, 403, 404, 410}
"""Status of an answer that came, but says that the dataset does not exist or is not for this user."""
_BROKEN = (FileNotFoundError, ValueError, RuntimeError, EOFError, zlib.error, gzip.BadGzipFile)
"""What the library and the readers below it raise for a name that leads nowhere or a file that is not what it should be."""


def dataset_rows(dataset: str, *, name: str | None, split: str, revision: str | None,
                 setting: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number, from 1 on, and columns of each row of a dataset, in its order.

    Args:
        dataset: id such as "wikimedia/wikipedia", or a folder.
        name: configuration of the dataset; None: its default.
        split: split of the dataset.
        revision: commit, tag or branch; None: the newest.
        setting: dotted path of the setting that names the dataset, for messages.

    Raises:
        DataError: there is no such dataset, configuration, split or revision (the message says which there are), or a file of it
            is broken.
        MachineError: the network or the disk failed; the message says at which row.
    """
    import datasets  # 2 s to import, and only these sources need it

    place = f"dataset {dataset}"
    number = None
    try:
        rows = datasets.load_dataset(dataset, name, split=split, revision=revision, streaming=True)
        number = 1
        for row in rows:
            yield number, row
            number += 1
    except Exception as error:  # of a package that may be another tomorrow: see _NETWORK_PACKAGES
        at = "" if number is None else f" at row {number:,}"
        if is_networks(error) or (isinstance(error, OSError) and not isinstance(error, _BROKEN)):
            said = f"{type(error).__name__}: {error}"  # some say nothing
            raise MachineError(f"{place}: the network or the disk failed{at} ({said}); try again") from error
        if not isinstance(error, (*_BROKEN, datasets.exceptions.DatasetsError)):
            raise
        raise DataError(f"cannot be opened or read{at} ({error}); check {setting} and your access to it", file=place) from error


def is_networks(error: BaseException | None) -> bool:
    """Return whether an error, or the one that it was raised from, is the network's."""
    if error is None or getattr(getattr(error, "response", None), "status_code", None) in _NOT_THERE:
        return False
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return bool(packages & _NETWORK_PACKAGES) or is_networks(error.__cause__)


def dataset_digests(dataset: str, revision: str | None, place: str) -> dict[str, str]:
    """Return what a dataset is, for the identity of a result: {place: id@revision}, or of a folder its files' digests.

    Args:
        dataset: id on the Hub, or a folder.
        revision: commit, tag or branch of the id; a folder has none.
        place: where the configuration names it; a folder's path is no part of the identity.
    """
    folder = Path(dataset)
    if not folder.is_dir():
        return {place: f"{dataset}@{revision}"}
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {f"{place}/{file.relative_to(folder).as_posix()}": digest_file(file) for file in files}
