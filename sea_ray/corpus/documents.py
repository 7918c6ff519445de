"""Documents: cleaned text per language and split in Parquet files, with the funnel that says what each step took."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow
import pyarrow.parquet
from pyarrow import compute

from sea_ray.artifacts import read_json, write_json

SPLITS = ("train", "validation", "test")
_SCHEMA = pyarrow.schema([("text", pyarrow.large_string())])
_INDEX = "funnel.json"
_SHOWN = 60
"""Characters of a shared passage that are kept."""
_GROUP_DOCUMENTS, _GROUP_BYTES = 4096, 1 << 22


@dataclass(frozen=True, kw_only=True)
class FunnelRow:
    """What one step did to one language."""

    language: str
    step: str
    """One of `gather.STEPS`; "read" takes bad rows."""
    documents_in: int
    documents_out: int
    bytes_in: int
    """UTF-8 bytes, counted before the step."""
    bytes_out: int
    documents_changed: int = 0
    """Documents that go on with another text."""


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """What one source gave to one language."""

    language: str
    source: str
    """Its files or dataset."""
    documents: int
    """Documents that are in the corpus."""
    bytes: int
    """UTF-8 bytes of them."""


Shared = tuple[object, str]
"""An item that nothing may be trained on (`str` says which), and the passage that a text shares with it."""


@dataclass(frozen=True, kw_only=True)
class OverlapRow:
    """A document or conversation that is left out, since it repeats what nothing may be trained on."""

    language: str
    file: str
    """File below the root, dataset, or part of the demo world."""
    row: int
    """Of the text in it, from 1."""
    item: str
    """Which item, such as "mgsm/th item 12"."""
    passage: str
    """What both share: letters, vowel signs and digits; its beginning."""

    @classmethod
    def of(cls, language: str, file: str, row: int, shared: Shared) -> OverlapRow:
        """Return the row of a text with what it shares."""
        item, passage = shared
        return cls(language=language, file=file, row=row, item=str(item), passage=passage[:_SHOWN])


class Documents:
    """The text of a corpus, read from its files as a stream."""

    def __init__(self, folder: Path, addresses: Mapping[str, str], funnel: Sequence[FunnelRow],
                 sources: Sequence[SourceRow], overlaps: Sequence[OverlapRow]) -> None:
        """Args: folder: holds the files; addresses: language -> folder of its files as every node reaches it, in the order of
        the configuration; funnel: one row per language and step; sources: one row per source; overlaps: what was left out as
        repeating what is held out, the first of each language."""
        self._folder, self._addresses = folder, addresses
        self.funnel, self.sources, self.overlaps = tuple(funnel), tuple(sources), tuple(overlaps)

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes in the order of the configuration."""
        return tuple(self._addresses)

    def file(self, language: str, split: str) -> Path:
        """Return the Parquet file of a split: one column, "text"."""
        return documents_file(self._folder, language, split)

    def url(self, language: str, split: str) -> str:
        """Return the address of that file as every node reaches it."""
        return f"{self._addresses[language]}/{self.file(language, split).name}"

    def texts(self, language: str, split: str) -> Iterator[str]:
        """Yield the documents of a split ("train", "validation", "test") in reading order."""
        with contextlib.closing(pyarrow.parquet.ParquetFile(self.file(language, split))) as parquet:
            for batch in parquet.iter_batches(batch_size=1024):
                yield from batch.column(0).to_pylist()

    @classmethod
    def load(cls, folder: Path, address: str | None = None) -> Documents:
        """Open what a DocumentWriter wrote.

        Args:
            folder: on this machine.
            address: of the same folder as every node reaches it; None: nobody else needs it.
        """
        index = read_json(folder / _INDEX)
        return cls(folder, dict.fromkeys(index["languages"], address or str(folder)),
                   [FunnelRow(**row) for row in index["funnel"]], [SourceRow(**row) for row in index["sources"]],
                   [OverlapRow(**row) for row in index.get("overlaps", ())])  # corpora before 2026-11-28 only counted them

    @classmethod
    def join(cls, parts: Sequence[Documents], languages: Sequence[str], folder: Path) -> Documents:
        """Bring the files of several corpora of different languages into one folder, which is made."""
        folder.mkdir(parents=True)
        owners = {code: part for part in parts for code in part.languages}
        for code in languages:
            for split in SPLITS:
                _link(owners[code].file(code, split), documents_file(folder, code, split))
        joined = cls(folder, {code: owners[code]._addresses[code] for code in languages},
                     [row for code in languages for row in owners[code].funnel if row.language == code],
                     [row for code in languages for row in owners[code].sources if row.language == code],
                     [row for code in languages for row in owners[code].overlaps if row.language == code])
        joined.save_index()
        return joined

    def save_index(self) -> None:
        """Write what makes the files a corpus."""
        write_json(self._folder / _INDEX, {"languages": self.languages, "funnel": self.funnel, "sources": self.sources,
                                           "overlaps": self.overlaps})


def _link(file: Path, target: Path) -> None:
    try:
        target.hardlink_to(file)
    except OSError:  # a file system without links
        shutil.copyfile(file, target)


def documents_file(folder: Path, language: str, split: str) -> Path:
    """Return the file of a split."""
    return folder / f"{language}.{split}.parquet"


def num_row_groups(file: Path) -> int:
    """Return into how many groups the rows of a Parquet file are parted."""
    return int(pyarrow.parquet.read_metadata(file).num_row_groups)


class DocumentWriter:
    """Writes documents as they come; a context that closes the files."""

    def __init__(self, folder: Path, languages: Sequence[str]) -> None:
        """Args: folder: made if need be; languages: all that will be written."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._languages = folder, tuple(languages)
        self.counts = {code: dict.fromkeys(SPLITS, 0) for code in languages}
        self._parts = {(code, split): _PartWriter(documents_file(folder, code, split)) for code in languages for split in SPLITS}

    def append(self, language: str, split: str, texts: pyarrow.Array | Sequence[str]) -> None:
        """Add documents to the end of a split."""
        self.counts[language][split] += len(texts)
        self._parts[language, split].append(pyarrow.array(texts, pyarrow.large_string()))

    def close(self, language: str) -> None:
        """Write what waits of a language that is complete, so that no more than one language waits in memory."""
        for split in SPLITS:
            self._parts[language, split].close()

    def finish(self, funnel: Sequence[FunnelRow], sources: Sequence[SourceRow] = (), overlaps: Sequence[OverlapRow] = ()
               ) -> Documents:
        """Write the index, which makes the files a corpus."""
        self.__exit__(None, None, None)
        documents = Documents(self._folder, dict.fromkeys(self._languages, str(self._folder)), funnel, sources,
                              overlaps)
        documents.save_index()
        return documents

    def __enter__(self) -> DocumentWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for part in self._parts.values():
            part.close()


class _PartWriter:
    """Writes the documents of one split in row groups whose borders depend on the documents alone, not on how they come."""

    def __init__(self, file: Path) -> None:
        self._file = pyarrow.parquet.ParquetWriter(file, _SCHEMA, compression="zstd")
        self._waiting: list[pyarrow.Array] = []
        self._num_documents = self._num_bytes = 0

    def append(self, texts: pyarrow.Array) -> None:
        total_N = np.cumsum(compute.binary_length(texts).to_numpy())
        start = 0
        while start < len(texts):
            before = total_N[start - 1] if start else 0
            full = int(np.searchsorted(total_N, before + _GROUP_BYTES - self._num_bytes)) + 1
            end = min(full, start + _GROUP_DOCUMENTS - self._num_documents, len(texts))
            self._waiting.append(texts.slice(start, end - start))
            self._num_documents += end - start
            self._num_bytes += int(total_N[end - 1] - before)
            start = end
            if self._num_documents >= _GROUP_DOCUMENTS or self._num_bytes >= _GROUP_BYTES:
                self._flush()

    def _flush(self) -> None:
        if self._num_documents:
            self._file.write_table(pyarrow.table([pyarrow.concat_arrays(self._waiting)], schema=_SCHEMA))  # chunks would show
        self._waiting, self._num_documents, self._num_bytes = [], 0, 0

    def close(self) -> None:
        """Write what waits; a second time does nothing."""
        if self._file.is_open:
            self._flush()
            self._file.close()
