"""Documents: cleaned text per language and split, with the funnel that says what each step took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet

from sea_ray.artifacts import plain, read_json, write_json

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class FunnelRow:
    """What one step did to one language."""

    language: str
    step: str
    """read, zawgyi, clean, mask, deduplicate, near_deduplicate, identify or decontaminate, in this order; "read" takes bad
    rows."""
    documents_in: int
    documents_out: int
    bytes_in: int
    """UTF-8 bytes, counted before the step."""
    bytes_out: int
    documents_changed: int = 0
    """Documents that go on with another text."""


@dataclass(frozen=True)
class Documents:
    """The text of a corpus."""

    texts: Mapping[str, Mapping[str, Sequence[str]]]
    """Language -> split ("train", "validation", "test") -> documents in reading order."""
    funnel: tuple[FunnelRow, ...]
    """One row per language and step."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes in the order of the configuration."""
        return tuple(self.texts)

    def save(self, folder: Path) -> None:
        """Write documents.parquet (language, split, text) and funnel.json."""
        rows = [(code, split, text) for code, parts in self.texts.items() for split in SPLITS for text in parts[split]]
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        table = pyarrow.table(dict(zip(("language", "split", "text"), map(list, columns), strict=True)))
        folder.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(table, folder / "documents.parquet", compression="zstd")
        write_json(folder / "funnel.json", {"languages": list(self.texts), "rows": plain(self.funnel)})

    @classmethod
    def load(cls, folder: Path) -> Documents:
        """Read what `save` wrote."""
        head = read_json(folder / "funnel.json")
        texts: dict[str, dict[str, list[str]]] = {code: {split: [] for split in SPLITS} for code in head["languages"]}
        for batch in pyarrow.parquet.ParquetFile(folder / "documents.parquet").iter_batches():
            for code, split, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                texts[code][split].append(text)
        return cls(texts=texts, funnel=tuple(FunnelRow(**row) for row in head["rows"]))
