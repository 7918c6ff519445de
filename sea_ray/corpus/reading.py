"""Rows of text out of files: plain text, JSON Lines, CSV, TSV, Parquet and XML, compressed or not.

Readers never raise on a bad row: they yield a `BadRow` that says what and where, and the caller decides.
"""

from __future__ import annotations

import csv
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO
from xml.etree import ElementTree

import pyarrow
import pyarrow.parquet

from sea_ray.corpus.config import FileSource

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""What decompressors raise on truncated or damaged files."""


@dataclass(frozen=True)
class BadRow:
    """A row that is no document: why, its line (None: the whole file), and its size where known."""

    reason: str
    line: int | None
    num_bytes: int = 0


def read_rows(stream: BinaryIO, name: str, source: FileSource) -> Iterator[str | BadRow]:
    """Yield the documents of one decompressed file, and what is wrong in it.

    Args:
        stream: bytes of the file, already decompressed.
        name: its name, whose ending says the format.
        source: field and unit.

    Returns:
        Document texts, uncleaned, in file order; a damaged file ends with a BadRow.
    """
    reader = READERS[file_format(name)]
    try:
        yield from reader(stream, source)
    except DAMAGED as error:
        yield BadRow(f"truncated or damaged: the rest cannot be read ({error or type(error).__name__})", None)


def file_format(name: str) -> str:
    """Return the ending that says a file's format, without a compression's ending; "" if it is not a known one."""
    suffixes = [suffix for suffix in PurePosixPath(name).suffixes if suffix not in COMPRESSIONS]
    return suffixes[-1] if suffixes and suffixes[-1] in READERS else ""


def _lines(stream: BinaryIO) -> Iterator[tuple[int, str | BadRow]]:
    for number, raw in enumerate(stream, 1):
        try:
            yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            reason = f"byte 0x{raw[error.start]:02x} at column {error.start + 1} is not UTF-8; re-encode the file"
            yield number, BadRow(reason, number, len(raw))


def _read_text(stream: BinaryIO, source: FileSource) -> Iterator[str | BadRow]:
    if source.unit == "line":
        yield from (line for _, line in _lines(stream))
        return
    lines: list[str | BadRow] = []
    for _, line in _lines(stream):
        if source.unit == "paragraph" and isinstance(line, str) and not line.strip():
            yield from _join(lines)
            lines = []
        else:
            lines.append(line)
    yield from _join(lines)


def _join(lines: list[str | BadRow]) -> Iterator[str | BadRow]:
    """Yield the lines as one document, or, since a document with a hole is none, what is wrong with them."""
    bad = [line for line in lines if isinstance(line, BadRow)]
    if bad:
        yield from bad
    elif lines:
        yield "\n".join(str(line) for line in lines)


def _read_jsonl(stream: BinaryIO, source: FileSource) -> Iterator[str | BadRow]:
    for number, line in _lines(stream):
        if isinstance(line, BadRow):
            yield line
        elif line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                yield BadRow(f"not valid JSON ({error})", number, len(line.encode()))
                continue
            if not isinstance(row, dict):
                yield BadRow(f"a JSON object is needed, found {type(row).__name__}", number, len(line.encode()))
            else:
                yield _field(row, source.field, number, len(line.encode()))


def _field(row: dict[str, object], field: str, line: int, num_bytes: int = 0) -> str | BadRow:
    text = row.get(field)
    if isinstance(text, str):
        return text
    if field in row:
        return BadRow(f"field {field!r} holds {type(text).__name__}, text is needed", line, num_bytes)
    return BadRow(f"no field {field!r}; the row has {sorted(row)}: set `field`", line, num_bytes)


def _read_table(stream: BinaryIO, source: FileSource, *, tabs: bool) -> Iterator[str | BadRow]:
    # Surrogates carry undecodable bytes through the CSV parser, to be found in the field that they are in.
    decoded = (line.decode("utf-8", "surrogateescape").removeprefix("\ufeff") for line in stream)
    if tabs:
        reader = csv.DictReader(decoded, strict=True, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.DictReader(decoded, strict=True)
    if source.field not in (reader.fieldnames or ()):
        yield BadRow(f"no column {source.field!r}; the header has {list(reader.fieldnames or ())}: set `field`", 1)
        return
    try:
        for row in reader:
            text = _field(row, source.field, reader.line_num)
            if isinstance(text, str) and any("\udc80" <= letter <= "\udcff" for letter in text):
                text = BadRow(f"column {source.field!r} is not UTF-8; re-encode the file", reader.line_num, len(text))
            yield text
    except csv.Error as error:
        yield BadRow(f"the rest cannot be read as a table ({error})", reader.line_num)


def _read_csv(stream: BinaryIO, source: FileSource) -> Iterator[str | BadRow]:
    return _read_table(stream, source, tabs=False)


def _read_tsv(stream: BinaryIO, source: FileSource) -> Iterator[str | BadRow]:
    return _read_table(stream, source, tabs=True)


def _read_parquet(stream: BinaryIO, source: FileSource) -> Iterator[str | BadRow]:
    try:
        file = pyarrow.parquet.ParquetFile(stream)
        if source.field not in file.schema_arrow.names:
            yield BadRow(f"no column {source.field!r}; the file has {file.schema_arrow.names}: set `field`", None)
            return
        number = 0
        for batch in file.iter_batches(columns=[source.field], batch_size=1024):
            for text in batch.column(0).to_pylist():
                number += 1
                yield _field({source.field: text}, source.field, number)
    except pyarrow.ArrowException as error:
        yield BadRow(f"not readable as Parquet ({error})", None)


def _read_xml(stream: BinaryIO, source: FileSource) -> Iterator[str | BadRow]:
    found = False
    try:
        for _, element in ElementTree.iterparse(stream):
            if element.tag.rpartition("}")[2] == source.field:
                found = True
                yield "".join(element.itertext())
    except ElementTree.ParseError as error:
        yield BadRow(f"not well-formed XML ({error})", error.position[0])
        return
    if not found:
        yield BadRow(f"no element <{source.field}>; set `field`", None)


READERS: dict[str, Callable[[BinaryIO, FileSource], Iterator[str | BadRow]]] = {
    ".txt": _read_text,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
    ".xml": _read_xml,
}
"""Format by file ending."""
