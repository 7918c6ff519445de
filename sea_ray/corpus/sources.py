"""Raw documents of one language out of files or Hugging Face datasets, with bad rows refused or counted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain
from typing import Any

import fsspec

from sea_ray.corpus.config import CorpusConfig, FileSource, HubSource
from sea_ray.corpus.reading import COMPRESSIONS, READERS, BadRow, file_format, read_rows
from sea_ray.errors import DataError, MachineError


def read_language(config: CorpusConfig, code: str) -> Iterator[str | BadRow]:
    """Yield the uncleaned documents of a language from its files or datasets, in the order of the configuration.

    Args:
        config: with source "files" or "hub".
        code: language.

    Returns:
        Document texts; and BadRows if config.on_bad_line is "skip".

    Raises:
        DataError: a glob matches nothing, a dataset does not exist, or (on_bad_line "error") a row is bad.
    """
    if config.source == "files":
        return chain.from_iterable(_read_files(config, source) for source in config.paths[code])
    return chain.from_iterable(_read_dataset(config, source) for source in config.hub[code])


def input_digests(config: CorpusConfig) -> dict[str, str]:
    """Return what a corpus of files is read from, for its identity: file below root -> SHA-256 of its bytes."""
    if config.source != "files":
        return {}
    fs, root = _open_root(config)
    digests = {}
    for code in config.languages:
        for path in chain.from_iterable(_match(config, source) for source in config.paths[code]):
            name = path.removeprefix(root).lstrip("/")
            if name not in digests:
                with fs.open(path, "rb") as stream:
                    digests[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def _open_root(config: CorpusConfig) -> tuple[Any, str]:
    fs, root = fsspec.core.url_to_fs(config.root)
    return fs, root.rstrip("/")


def _match(config: CorpusConfig, source: FileSource) -> list[str]:
    fs, root = _open_root(config)
    if not fs.isdir(root):
        raise DataError("no such folder; set corpus.root to the folder with your text", file=config.root)
    paths: list[str] = sorted(path for path in fs.glob(f"{root}/{source.glob}") if fs.isfile(path))
    if not paths:
        raise DataError(f"no file matches {source.glob!r}; correct the glob or corpus.root", file=config.root)
    for path in paths:
        if not file_format(path):
            endings = f"{' '.join(READERS)} (and {' '.join(COMPRESSIONS)})"
            raise DataError(f"unknown format; the file name must end in one of {endings}", file=path)
    return paths


def _read_files(config: CorpusConfig, source: FileSource) -> Iterator[str | BadRow]:
    fs, _ = _open_root(config)
    for path in _match(config, source):
        suffix = path[path.rfind(".") :]
        with fs.open(path, "rb", compression=COMPRESSIONS.get(suffix)) as stream:
            for row in read_rows(stream, path, source):
                yield _judge(config, row, path)


def _judge(config: CorpusConfig, row: str | BadRow, place: str) -> str | BadRow:
    if isinstance(row, BadRow) and config.on_bad_line == "error":
        raise DataError(f"{row.reason}, or set corpus.on_bad_line=skip", file=place, line=row.line)
    return row


def _read_dataset(config: CorpusConfig, source: HubSource) -> Iterator[str | BadRow]:
    import datasets  # 2 s to import, and only this source needs it

    place = f"dataset {source.dataset}"
    try:
        rows = datasets.load_dataset(
            source.dataset, source.name, split=source.split, revision=source.revision, streaming=True
        )
    except (FileNotFoundError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"cannot be opened ({error}); check corpus.hub and your access to it", file=place) from error
    except OSError as error:
        raise MachineError(f"{place}: the network or the disk failed ({error}); try again") from error
    for number, row in enumerate(rows, 1):
        text = row.get(source.field)
        if not isinstance(text, str):
            found = f"columns are {sorted(row)}" if source.field not in row else f"it holds {type(text).__name__}"
            yield _judge(config, BadRow(f"no text in column {source.field!r}; {found}: set `field`", number), place)
        else:
            yield text
