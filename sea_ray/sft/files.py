"""Rows of files: JSON lists, JSONL, CSV and aligned lines, each with the number of its line or row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sea_ray.errors import DataError

Rows = Iterator[tuple[int, Any]]
"""Number, for messages, and value."""


def read_jsonl(file: Path) -> Rows:
    """Yield line number and value of each line of a JSONL file that is not blank.

    Raises:
        DataError: no such file, not UTF-8, or not JSON; with file and line.
    """
    for line, text in enumerate(_text(file).split("\n"), start=1):
        if text.strip():
            try:
                yield line, json.loads(text)
            except (ValueError, RecursionError) as error:
                raise DataError(f"not JSON: {error}", file, line) from error


def read_json_list(file: Path) -> Rows:
    """Yield number and value of each row of a JSON list.

    Raises:
        DataError: no such file, not UTF-8, not JSON, or no list.
    """
    try:
        rows = json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}", file) from error
    if not isinstance(rows, list):
        raise DataError(f"a list of rows is needed, this is {type(rows).__name__}", file)
    yield from enumerate(rows, start=1)


def read_csv(file: Path) -> Rows:
    """Yield last line and columns of each row of a CSV file with a header.

    Raises:
        DataError: no such file, not UTF-8, or a row that is none of the table.
    """
    csv.field_size_limit(1 << 26)
    reader = csv.DictReader(io.StringIO(_text(file), newline=""), strict=True)
    try:
        for row in reader:
            if None in row:
                raise DataError("more fields than the header has; a text with a comma in it needs quotation marks", file,
                                reader.line_num)
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"not readable as a row of a table ({error})", file, reader.line_num + 1) from error


def read_lines(files: Sequence[Path], names: Sequence[str]) -> Rows:
    """Yield number and texts, by name, of the lines of two aligned files.

    Raises:
        DataError: no such file, not UTF-8, or files of different length.
    """
    own, other = (_text(file).split("\n") for file in files)
    if len(own) != len(other):
        raise DataError(f"{len(own)} lines, {files[1]} has {len(other)}; aligned files have equally many", files[0])
    for line, texts in enumerate(zip(own, other, strict=True), start=1):
        yield line, dict(zip(names, texts, strict=True))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError("the file does not exist; check sft.root and the source's path", file) from error
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 at byte {error.start}", file) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}); check the file and your rights to it", file) from error
