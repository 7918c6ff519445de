"""Rows of benchmark files, and the texts in them; what is missing or doubled is named with file and line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sea_ray.errors import DataError


@dataclass(frozen=True)
class Row:
    """A row of a benchmark and where it stands."""

    data: Mapping[str, Any]
    file: Path | str
    line: int

    def text(self, *keys: str | int) -> str:
        """Return the text at a nested place.

        Raises:
            DataError: there is none, or it is empty.
        """
        value: Any = self.data
        for key in keys:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                value = None
        if value is None or not str(value).strip():
            raise self.wrong(f"no text in field {'.'.join(map(str, keys))!r}")
        return str(value)

    def wrong(self, message: str) -> DataError:
        """Return the error that names this row."""
        return DataError(message, file=self.file, line=self.line)


def read_rows(path: Path, columns: Sequence[str] = (), unique: str = "") -> Iterator[Row]:
    """Yield the rows of a JSON, JSONL, CSV, TSV, Parquet or plain text file, each with its line (or place, from 1).

    Args:
        path: the suffix says the format; any other is one text per line.
        columns: of a file whose first line doesn't name them.
        unique: field, where a row has it, that no two rows share.

    Raises:
        DataError: it can't be read as what its suffix says, or a doubled value of `unique`; with file and line.
    """
    lines: dict[str, int] = {}
    for row in _rows(path, columns):
        if row.data.get(unique) is not None:
            first = lines.setdefault(str(row.data[unique]), row.line)
            if first != row.line:
                raise doubled(row, unique, str(row.data[unique]), first)
        yield row


def doubled(row: Row, name: str, value: str, first: int) -> DataError:
    """Return the error that names a row which has the same id as an earlier one."""
    return row.wrong(f"{name} {value!r} is that of line {first} too; remove or rename one")


def _rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            yield from (Row(data, path, place) for place, data in enumerate(pyarrow.parquet.read_table(path).to_pylist(), 1))
            return
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for line, data in _text_rows(path, stream, columns):
                if not isinstance(data, dict):
                    raise DataError(f"a row of named fields is needed, this is {type(data).__name__}", file=path, line=line)
                yield Row(data, path, line)
    except (ValueError, csv.Error, OSError) as error:
        raise DataError(f"not readable ({error})", file=path) from error


def _text_rows(path: Path, stream: Any, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    if path.suffix == ".json":
        whole = json.load(stream)
        yield from enumerate(whole if isinstance(whole, list) else [whole], 1)
    elif path.suffix == ".jsonl":
        yield from ((number, json.loads(line)) for number, line in enumerate(stream, 1) if line.strip())
    elif path.suffix == ".csv" or (path.suffix == ".tsv" and not columns):
        reader = csv.DictReader(stream, columns or None, delimiter="\t" if path.suffix == ".tsv" else ",",
                                quoting=csv.QUOTE_NONE if path.suffix == ".tsv" else csv.QUOTE_MINIMAL)  # fmt: skip
        yield from ((reader.line_num, row) for row in reader)
    elif path.suffix == ".tsv":  # the last column is the answer; a question may hold tabs
        for number, line in enumerate(stream.read().splitlines(), 1):
            yield number, dict(zip(columns, line.rpartition("\t")[::2], strict=True))
    else:
        yield from ((number, dict.fromkeys(columns, line)) for number, line in enumerate(stream.read().splitlines(), 1))
