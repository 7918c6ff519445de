"""Raw documents out of the demo world, files or Hugging Face datasets, in batches; bad rows are refused or counted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import fsspec
import pyarrow

from sea_ray.corpus.config import CorpusConfig, FileSource, HubSource
from sea_ray.corpus.reading import COMPRESSIONS, READERS, BadRow, file_format, read_rows
from sea_ray.demo import Split, World
from sea_ray.errors import DataError
from sea_ray.hub import dataset_digests, dataset_rows

RAW = pyarrow.schema([("language", pyarrow.string()), ("source", pyarrow.int16()), ("place", pyarrow.string()),
                      ("split", pyarrow.string()), ("row", pyarrow.int64()), ("text", pyarrow.large_binary()),
                      ("num_bytes", pyarrow.int64())])
"""A batch of raw documents, each with its row among those of its file or dataset, from 1; a bad row has no text. Text is UTF-8
that may hold halves of surrogate pairs, which JSON can escape and cleaning mends."""
_BATCH_ROWS, _BATCH_BYTES = 1024, 1 << 22


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What one process reads in order: a file, a dataset, or a split of the demo world."""

    language: str
    source: int
    """Number of the source among the language's."""
    place: str
    """File, dataset, or name of the split."""


def pieces(config: CorpusConfig, code: str) -> list[Piece]:
    """Return what a language is read from, in the order of the configuration.

    Raises:
        DataError: a folder that is missing, or a glob that matches nothing.
    """
    if config.source == "demo":  # test first: of documents that two splits share, the held-out one stays
        return [Piece(language=code, source=0, place=split) for split in ("test", "validation", "train")]
    if config.source == "files":
        return [Piece(language=code, source=number, place=path) for number, source in enumerate(config.paths[code])
                for path in _match(config, source)]
    return [Piece(language=code, source=number, place=source.dataset) for number, source in enumerate(config.hub[code])]


def read_piece(config: CorpusConfig, piece: Piece) -> Iterator[pyarrow.Table]:
    """Yield the uncleaned documents of a piece in batches of the schema RAW.

    Raises:
        DataError: a dataset does not exist, or (on_bad_line "error") a row is bad.
    """
    place, split = piece.place, piece.place if config.source == "demo" else None
    if config.source == "files":
        _, root = _open_root(config)
        place = place.removeprefix(root).lstrip("/")
    constants = {"language": piece.language, "source": piece.source, "place": place, "split": split}
    batch: list[tuple[int, bytes | None, int]] = []
    filled_bytes = 0
    for number, row in enumerate(_rows(config, piece), 1):
        if isinstance(row, BadRow):
            batch.append((number, None, row.num_bytes))
        else:
            text = row.encode("utf-8", "surrogatepass")
            batch.append((number, text, len(text)))
        filled_bytes += batch[-1][2]
        if len(batch) == _BATCH_ROWS or filled_bytes >= _BATCH_BYTES:
            yield _table(constants, batch)
            batch, filled_bytes = [], 0
    if batch:
        yield _table(constants, batch)


def _table(constants: Mapping[str, Any], rows: list[tuple[int, bytes | None, int]]) -> pyarrow.Table:
    numbers, texts, sizes = zip(*rows, strict=True)
    same = {name: [value] * len(rows) for name, value in constants.items()}
    return pyarrow.table({**same, "row": numbers, "text": texts, "num_bytes": sizes}, schema=RAW)


def _rows(config: CorpusConfig, piece: Piece) -> Iterator[str | BadRow]:
    if config.source == "demo":
        return _read_demo(config, piece)
    if config.source == "files":
        return _read_file(config, config.paths[piece.language][piece.source], piece.place)
    return _read_dataset(config, config.hub[piece.language][piece.source])


def _read_demo(config: CorpusConfig, piece: Piece) -> Iterator[str]:
    counts: dict[str, int] = {"test": config.demo.test_documents, "validation": config.demo.validation_documents,
                              "train": config.demo.train_documents}
    split: Split = piece.place  # type: ignore[assignment]
    yield from _world(config.demo.world_seed, config.languages).documents(piece.language, split, counts[split])


@cache
def _world(seed: int, languages: tuple[str, ...]) -> World:
    return World(seed, languages)


def input_digests(config: CorpusConfig) -> dict[str, str]:
    """Return what a corpus is read from, for its identity: file below root -> SHA-256 of its bytes; of datasets, see
    `dataset_digests`."""
    if config.source == "demo":
        return {}
    if config.source == "hub":
        sources = [(code, number, source) for code in config.languages for number, source in enumerate(config.hub[code])]
        return {place: digest for code, number, source in sources
                for place, digest in dataset_digests(source.dataset, source.revision, f"dataset/{code}/{number}").items()}
    fs, root = _open_root(config)
    digests = {}
    for path in _all_files(config):
        with _open(fs, path) as stream:
            digests[path.removeprefix(root).lstrip("/")] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def input_bytes(config: CorpusConfig) -> int:
    """Return the size of the files that a corpus is read from, as they lie there; 0 for other sources."""
    if config.source != "files":
        return 0
    fs, _ = _open_root(config)
    return sum(int(fs.size(path)) for path in _all_files(config))


def _all_files(config: CorpusConfig) -> list[str]:
    return list(dict.fromkeys(piece.place for code in config.languages for piece in pieces(config, code)))


def _open_root(config: CorpusConfig) -> tuple[Any, str]:
    fs, root = fsspec.core.url_to_fs(config.root)
    return fs, root.rstrip("/")


def _match(config: CorpusConfig, source: FileSource) -> list[str]:
    fs, root = _open_root(config)
    if not fs.isdir(root):
        raise DataError("no such folder; set corpus.root to the folder with your text", file=config.root)
    found: list[str] = fs.glob(f"{root}/{source.glob}")
    paths = sorted(path for path in found if fs.isfile(path))
    if odd := [path for path in sorted({*found} - {*paths}) if not fs.isdir(path)]:
        raise DataError("it is no file, or a link that leads nowhere; mend or remove it, or narrow the glob", file=odd[0])
    if not paths:
        raise DataError(f"no file matches {source.glob!r}; correct the glob or corpus.root", file=config.root)
    for path in paths:
        if not file_format(path):
            endings = f"{' '.join(READERS)} (and {' '.join(COMPRESSIONS)})"
            raise DataError(f"unknown format; the file name must end in one of {endings}", file=path)
    return paths


def _open(fs: Any, path: str, **options: Any) -> Any:
    try:
        return fs.open(path, "rb", **options)
    except OSError as error:
        raise DataError(f"cannot be opened ({error.strerror or error}); check the file and your rights to it", path) from error


def _read_file(config: CorpusConfig, source: FileSource, path: str) -> Iterator[str | BadRow]:
    fs, _ = _open_root(config)
    suffix = path[path.rfind(".") :]
    with _open(fs, path, compression=COMPRESSIONS.get(suffix)) as stream:
        for row in read_rows(stream, path, source):
            yield _judge(config, row, path)


def _judge(config: CorpusConfig, row: str | BadRow, place: str) -> str | BadRow:
    if isinstance(row, BadRow) and config.on_bad_line == "error":
        raise DataError(f"{row.reason}, or set corpus.on_bad_line=skip", file=place, line=row.line)
    return row


def _read_dataset(config: CorpusConfig, source: HubSource) -> Iterator[str | BadRow]:
    place = f"dataset {source.dataset}"
    rows = dataset_rows(source.dataset, name=source.name, split=source.split, revision=source.revision, setting="corpus.hub")
    for number, row in rows:
        text = row.get(source.field)
        if not isinstance(text, str):
            found = f"columns are {sorted(row)}" if source.field not in row else f"it holds {type(text).__name__}"
            yield _judge(config, BadRow(f"no text in column {source.field!r}; {found}: set `field`", number), place)
        else:
            yield text
