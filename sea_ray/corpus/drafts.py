"""Refined documents of one language on disk, until it is known which of them repeat others."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray
from pyarrow import compute

from sea_ray.corpus.config import CorpusConfig
from sea_ray.corpus.documents import OverlapRow
from sea_ray.corpus.refining import BANDS, REFINED, Counts
from sea_ray.near_duplicates import near_duplicates
from sea_ray.streams import parted

Mask = NDArray[np.bool_]
MOST_OVERLAPS = 1000
"""Documents of a language that are named; all are counted."""


class Drafts:
    """Collects the refined documents of a language and drops what must be compared with all others; holds no text in memory."""

    def __init__(self, file: Path, config: CorpusConfig) -> None:
        """Args: file: made; config: the rules."""
        self._file, self._config = file, config
        unused = {"language", "counts", *(() if config.near_duplicate_jaccard else BANDS),
                  *(() if config.quality else ("bits_per_byte",))}
        self._schema = pyarrow.schema([field for field in REFINED if field.name not in unused])
        self._writer = pyarrow.parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._seen: set[bytes] = set()
        self._num_documents = self._num_bytes = 0
        self.counts: Counts = {"read": [0] * 5}
        self.overlaps: list[OverlapRow] = []

    def append(self, refined: pyarrow.Table) -> None:
        """Add rows of the schema REFINED, all of the language and without its name."""
        is_text = compute.is_valid(refined.column("text"))
        for tally in refined.filter(compute.invert(is_text)).column("counts").to_pylist():
            told = json.loads(tally)
            for step, row in told["steps"].items():
                self.counts[step] = [a + b for a, b in zip(self.counts.get(step, [0] * 5), row, strict=True)]
            self.overlaps += [OverlapRow(**one) for one in told["overlaps"][: MOST_OVERLAPS - len(self.overlaps)]]
        documents = refined.filter(is_text).select(self._schema.names)
        if not documents.num_rows:
            return
        self._writer.write_table(documents)
        if self._config.is_limited:
            for key, size in zip(documents.column("key").to_pylist(), documents.column("num_bytes").to_pylist(), strict=True):
                if not (self._config.deduplicate and key in self._seen):
                    self._seen.add(key)
                    self._num_documents += 1
                    self._num_bytes += size

    @property
    def is_full(self) -> bool:
        """Whether the configured limit is reached, so that no more need be read."""
        documents, size = self._config.max_documents_per_language, self._config.max_bytes_per_language
        return bool((documents and self._num_documents >= documents) or (size and self._num_bytes >= size))

    def chosen(self) -> Iterator[tuple[int, str, pyarrow.Array]]:
        """Yield (source, split, texts) of the documents that stay, in order, and count what the last steps took."""
        self._writer.close()
        stays, start = self._choose(), 0
        with contextlib.closing(pyarrow.parquet.ParquetFile(self._file)) as parquet:
            for number in range(parquet.num_row_groups):
                table = parquet.read_row_group(number, columns=["source", "split", "text"])
                kept = table.filter(pyarrow.array(stays[start : start + table.num_rows]))
                start += table.num_rows
                for (source, split), rows in parted(kept, "source", "split"):
                    yield source, split, rows.column("text").combine_chunks()

    def _choose(self) -> Mask:
        """Return which documents pass the steps that compare them with each other, [N], and count."""
        sizes = self._column("num_bytes").to_numpy()
        stays = np.ones(len(sizes), np.bool_)
        if self._config.deduplicate:
            stays = self._pass("deduplicate", sizes, stays, np.flatnonzero(_repeats(_words(self._column("key")))))
        if self._config.is_limited:
            stays = self._pass("limit", sizes, stays, np.flatnonzero(self._beyond_limit(sizes, stays)))
        rows = np.flatnonzero(stays)
        if self._config.near_duplicate_jaccard:
            found = near_duplicates(lambda band: _words(self._column(BANDS[band]))[rows], self._config.near_duplicate_jaccard)
            stays = self._pass("near_deduplicate", sizes, stays, rows[found])
        if self._config.quality is not None:
            rows = np.flatnonzero(stays)
            worst = np.argsort(-self._column("bits_per_byte").to_numpy()[rows], kind="stable")
            stays = self._pass("quality", sizes, stays, rows[worst[: int(self._config.quality.drop_frac * len(rows))]])
        return stays

    def _column(self, name: str) -> pyarrow.ChunkedArray:
        return pyarrow.parquet.read_table(self._file, columns=[name]).column(name)

    def _beyond_limit(self, sizes: NDArray[np.int64], stays: Mask) -> Mask:
        documents, size = self._config.max_documents_per_language, self._config.max_bytes_per_language
        too_many = np.cumsum(stays) > documents if documents else np.False_
        too_much = np.cumsum(np.where(stays, sizes, 0)) > size if size else np.False_
        return stays & (too_many | too_much)

    def _pass(self, name: str, sizes: NDArray[np.int64], stays: Mask, dropped: NDArray[np.int64]) -> Mask:
        after = stays.copy()
        after[dropped] = False
        self.counts[name] = [int(stays.sum()), int(after.sum()), int(sizes[stays].sum()), int(sizes[after].sum()), 0]
        return after


def _words(column: pyarrow.ChunkedArray) -> NDArray[np.uint32]:
    """Return a column of 16 bytes per document as numbers, [N, 4]."""
    parts = [np.frombuffer(chunk.buffers()[1], np.uint32).reshape(-1, 4)[chunk.offset : chunk.offset + len(chunk)]
             for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.zeros((0, 4), np.uint32)


def _repeats(keys: NDArray[np.uint32]) -> Mask:
    """Return which keys, [N, 4], occurred before, [N]."""
    order = np.lexsort(keys.T)  # stable: the first of several comes first
    repeats = np.zeros(len(keys), np.bool_)
    repeats[order[1:]] = (keys[order[1:]] == keys[order[:-1]]).all(axis=1)
    return repeats
