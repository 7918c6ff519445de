"""Rows of benchmark files, and the texts in them; what is missing or doubled is named with file and line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sea_ray.errors import DataError


def read_rows(path: Path, unique: str = "") -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and row of a JSONL, CSV or TSV file.

    Args:
        path: the suffix says which.
        unique: field, where a row has it, that no two rows share.

    Raises:
        DataError: not readable, no row, or a doubled value of `unique`; with file and line.
    """
    lines: dict[str, int] = {}
    for line, row in _rows(path):
        if not isinstance(row, dict):
            raise DataError(f"a row of named fields is needed, this is {type(row).__name__}", path, line)
        if row.get(unique) is not None:
            first = lines.setdefault(str(row[unique]), line)
            if first != line:
                raise DataError(f"{unique} {row[unique]!r} is that of line {first} too; remove or rename one", path, line)
        yield line, row


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        try:
            if path.suffix == ".jsonl":
                for number, line in enumerate(stream, 1):
                    if line.strip():
                        yield number, json.loads(line)
            else:
                tabs = path.suffix == ".tsv"
                reader = csv.DictReader(stream, delimiter="\t" if tabs else ",",
                                        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL)  # fmt: skip
                for row in reader:
                    yield reader.line_num, row
        except ValueError as error:
            raise DataError(f"not readable ({error})", file=path) from error


def get_text(row: Any, path: Path, line: int, *keys: str | int) -> str:
    """Return the non-empty text at a nested place of a row.

    Raises:
        DataError: there is none.
    """
    value = row
    for key in keys:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            value = None
    if value is None or not str(value).strip():
        raise DataError(f"no text in field {'.'.join(map(str, keys))!r}", file=path, line=line)
    return str(value)
