"""Rows of text out of files: plain text, JSON Lines, CSV, TSV, Parquet and XML, compressed or not.

Readers never raise on a bad row: they yield a `BadRow` that says what and where, and the caller decides.
"""

from __future__ import annotations

import csv
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO
from xml.etree import ElementTree

import pyarrow
import pyarrow.parquet

from sea_ray.corpus.config import FileSource
from sea_ray.errors import MachineError

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}
_MOST_FIELD_CHARACTERS = 1 << 26
"""Of a CSV or TSV; where a field has more, a quotation mark is missing."""
_MOST_NAMES = 20
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""What decompressors raise on truncated or damaged files."""


_NUL = "NUL characters are in it, as in UTF-16; re-encode the file as UTF-8"


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

    Raises:
        MachineError: the network or the disk failed, which is no fault of the file.
    """
    reader = READERS[file_format(name)]
    try:
        yield from reader(stream, source)
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise MachineError(f"{name}: the network or the disk failed ({error}); try again") from error
        yield BadRow(f"truncated or damaged: the rest cannot be read ({error or type(error).__name__})", None)


def file_format(name: str) -> str:
    """Return the ending that says a file's format, without a compression's ending; "" if it is not a known one."""
    suffixes = [suffix for suffix in PurePosixPath(name).suffixes if suffix not in COMPRESSIONS]
    return suffixes[-1] if suffixes and suffixes[-1] in READERS else ""


def _lines(stream: BinaryIO) -> Iterator[tuple[int, str | BadRow]]:
    for number, raw in enumerate(stream, 1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            reason = f"byte 0x{raw[error.start]:02x} at column {error.start + 1} is not UTF-8; re-encode the file"
            yield number, BadRow(reason, number, len(raw))
        else:
            yield number, BadRow(_NUL, number, len(raw)) if "\0" in line else line


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
            except (ValueError, RecursionError) as error:
                yield BadRow(f"not valid JSON, of which every line needs an object ({error})", number, len(line.encode()))
                continue
            if not isinstance(row, dict):
                yield BadRow(f"a JSON object is needed, found {type(row).__name__}", number, len(line.encode()))
            else:
                yield _field(row, source.field, number, len(line.encode()))


def _field(row: Mapping[str, object], field: str, line: int, num_bytes: int = 0) -> str | BadRow:
    text = row.get(field)
    if isinstance(text, str):
        return text
    if field in row:
        return BadRow(f"field {field!r} holds {type(text).__name__}, text is needed", line, num_bytes)
    return BadRow(f"no field {field!r}; the row has {_some(row)}: set `field`", line, num_bytes)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return str(names[:_MOST_NAMES]) + (f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else "")


def _read_table(stream: BinaryIO, source: FileSource, *, tabs: bool) -> Iterator[str | BadRow]:
    csv.field_size_limit(_MOST_FIELD_CHARACTERS)
    # Surrogates carry undecodable bytes through the CSV parser, to be found in the field that they are in.
    decoded = (line.decode("utf-8", "surrogateescape").removeprefix("\ufeff") for line in stream)
    if tabs:
        reader = csv.DictReader(decoded, strict=True, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.DictReader(decoded, strict=True)
    try:
        header = list(reader.fieldnames or ())
    except csv.Error as error:
        yield BadRow(f"not readable as a table ({error})", 1)
        return
    if header.count(source.field) != 1:
        yield _no_column(source.field, header, 1)
        return
    while True:
        line = reader.reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # the parser goes on with the next line
            yield BadRow(f"not readable as a row of a table ({error})", line)
        else:
            yield _cell(row, source.field, reader.line_num)


def _no_column(field: str, header: list[str], line: int | None) -> BadRow:
    if any(map(_is_undecoded, header)):
        return BadRow("the header is not UTF-8; re-encode the file", line)
    count = header.count(field)
    return BadRow(f"{count or 'no'} column{'s' if count else ''} {field!r}; the header has {_some(header)}: set `field`", line)


def _cell(row: dict[str, str], field: str, line: int) -> str | BadRow:
    text = _field(row, field, line)
    if isinstance(text, BadRow):
        return text
    if any(row.get(None, ())):  # type: ignore[call-overload]
        return BadRow("more fields than the header has; a text with the delimiter in it needs quotation marks", line, len(text))
    if _is_undecoded(text):
        return BadRow(f"column {field!r} is not UTF-8; re-encode the file", line, len(text))
    return BadRow(_NUL, line, len(text)) if "\0" in text else text


def _is_undecoded(text: str) -> bool:
    return any("\udc80" <= letter <= "\udcff" for letter in text)


def _read_csv(stream: BinaryIO, source: FileSource) -> Iterator[str | BadRow]:
    return _read_table(stream, source, tabs=False)


def _read_tsv(stream: BinaryIO, source: FileSource) -> Iterator[str | BadRow]:
    return _read_table(stream, source, tabs=True)


def _read_parquet(stream: BinaryIO, source: FileSource) -> Iterator[str | BadRow]:
    try:
        file = pyarrow.parquet.ParquetFile(stream)
        if file.schema_arrow.names.count(source.field) != 1:
            yield _no_column(source.field, file.schema_arrow.names, None)
            return
        number = 0
        for batch in file.iter_batches(columns=[source.field], batch_size=1024):
            for value in batch.column(0):
                number += 1
                yield _value(value, source.field, number)
    except pyarrow.ArrowException as error:
        yield BadRow(f"not readable as Parquet ({error})", None)


def _value(value: pyarrow.Scalar, field: str, number: int) -> str | BadRow:
    try:
        return _field({field: value.as_py()}, field, number)
    except UnicodeDecodeError as error:
        return BadRow(f"column {field!r} is not UTF-8 ({error.reason})", number)


def _read_xml(stream: BinaryIO, source: FileSource) -> Iterator[str | BadRow]:
    found, depth, around = False, 0, list[ElementTree.Element]()
    try:
        for event, element in ElementTree.iterparse(stream, ("start", "end")):
            is_document = element.tag.rpartition("}")[2] == source.field
            if event == "start":
                around.append(element)
                depth += is_document
                continue
            around.pop()
            depth -= is_document
            if depth:  # a part of the document around it
                continue
            if is_document:
                found = True
                yield "".join(element.itertext())
            if around:
                around[-1].clear()  # what has been read is not held in memory
    except ElementTree.ParseError as error:
        yield BadRow(f"not well-formed XML ({error})", error.position[0])
    except (LookupError, ValueError) as error:
        yield BadRow(f"not readable as XML ({error}); re-encode the file as UTF-8", 1)
    else:
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
