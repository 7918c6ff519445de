"""Conversations from files people already have: Alpaca JSON, messages or prompts in JSONL, GSM8K, parallel text."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

from sea_ray.demo import load_lexicon
from sea_ray.errors import ConfigError, DataError
from sea_ray.languages import language as known_language
from sea_ray.sft.conversation import Conversation, Message, Role, conversation

_CALCULATION = re.compile(r"<<[^<>]*>>")
"""GSM8K marks what a calculator was called for, "<<48/2=24>>"; nobody writes so (arXiv 2110.14168, section 4.2)."""

_SPEAKERS: dict[str, Role] = {"human": "user", "gpt": "assistant"}
"""ShareGPT's names of the speakers that have another one here."""


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """A file of conversations."""

    path: str
    """File below sft.root."""
    language: str
    """Language of its conversations."""
    format: Literal["alpaca", "messages", "sharegpt", "gsm8k", "prompt_response", "answerability"]
    """alpaca: JSON list of instruction, input, output; messages: JSONL of OpenAI messages; sharegpt: JSON list of conversations,
    turns of from and value; gsm8k: JSONL of question and answer; prompt_response: JSONL of prompt and response; answerability:
    JSONL of prompt, response, kind ("fact" or "unanswerable") and, if unanswerable, the invented entity."""
    kind: str = "instruction"
    """What they teach, for the report and the baseline without safety; rows of answerability say it themselves."""
    skip: int = 0
    """Conversations left out at the beginning, such as those kept for evaluation."""
    max_conversations: int = 0
    """Largest number taken; 0 = all."""

    def __post_init__(self) -> None:
        """Check language and range."""
        _check(self.language, "language", self.skip, self.max_conversations)


@dataclass(frozen=True, kw_only=True)
class PairSource:
    """Parallel text that becomes translation requests in both directions, in turn."""

    source: str
    """Language of the other side, as a rule "en"."""
    target: str
    """Language whose data both directions are."""
    format: Literal["lines", "jsonl", "csv"]
    """lines: two aligned text files; jsonl and csv: one file with two fields or columns."""
    paths: tuple[str, ...]
    """File below sft.root, or for lines the source's file and the target's."""
    fields: tuple[str, ...] = ()
    """Names of the source's and the target's field or column; empty = the language codes."""
    skip: int = 0
    """Pairs left out at the beginning, such as those kept for evaluation."""
    max_conversations: int = 0
    """Largest number of pairs taken; 0 = all."""

    def __post_init__(self) -> None:
        """Check languages, number of files and fields, and range."""
        known_language(self.source, "source")
        _check(self.target, "target", self.skip, self.max_conversations)
        needed = 2 if self.format == "lines" else 1
        if len(self.paths) != needed:
            raise ConfigError("paths", f"{len(self.paths)} files for format {self.format}, {needed} are needed")
        if len(self.fields) not in (0, 2):
            raise ConfigError("fields", f"{list(self.fields)} are {len(self.fields)} names; two or none are needed")


def _check(code: str, path: str, skip: int, most: int) -> None:
    known_language(code, path)
    if skip < 0 or most < 0:
        raise ConfigError("skip" if skip < 0 else "max_conversations", f"{min(skip, most)} is negative")


def read_file(source: FileSource, root: Path) -> list[Conversation]:
    """Return the conversations of a file.

    Args:
        source: which file and how to read it.
        root: folder its path is below.

    Raises:
        DataError: the file is missing, or a row is malformed or has no answer; with file and line (row in a JSON list).
    """
    file = root / source.path
    rows = _json_list(file) if source.format in ("alpaca", "sharegpt") else read_jsonl(file)
    found: list[Conversation] = []
    for line, row in rows:
        if line <= source.skip:
            continue
        if source.max_conversations and len(found) == source.max_conversations:
            break
        try:
            found.append(_conversation(row, source))
        except KeyError as error:
            raise DataError(f"a row of format {source.format} needs the field {error}", file, line) from error
        except DataError as error:
            raise DataError(error.message, file, line) from error
        except (TypeError, AttributeError) as error:
            raise DataError(f"not a row of format {source.format} ({error})", file, line) from error
    if not found:
        raise DataError(f"no conversation is in it after the {source.skip:,} that are skipped", file)
    return found


def _conversation(row: Any, source: FileSource) -> Conversation:
    language, kind = source.language, source.kind
    if source.format == "messages":
        messages = tuple(Message(message["role"], message["content"]) for message in row["messages"])
        return Conversation(messages, language, kind)
    if source.format == "sharegpt":
        turns = tuple(Message(_SPEAKERS.get(turn["from"], turn["from"]), turn["value"]) for turn in row["conversations"])
        return Conversation(turns, language, kind)
    if source.format == "alpaca":
        prompt = "\n".join(part for part in (row["instruction"], row.get("input", "")) if part)
        return conversation(prompt, row["output"], language, kind)
    if source.format == "gsm8k":
        return conversation(row["question"], _CALCULATION.sub("", row["answer"]), language, kind)
    talk = conversation(row["prompt"], row["response"], language, kind)
    return _with_answerability(talk, row) if source.format == "answerability" else talk


def _with_answerability(talk: Conversation, row: Any) -> Conversation:
    """Return a conversation with the kind that its row says, and the invented entity of an unanswerable one."""
    if row["kind"] not in ("fact", "unanswerable"):
        raise DataError(f"kind is {row['kind']!r}; fact or unanswerable is needed")
    if row["kind"] == "fact":
        return replace(talk, kind="fact")
    if not row["entity"] or row["entity"] not in talk.messages[0].content:
        raise DataError(f"the prompt does not hold the entity {row['entity']!r}, which it is about")
    return replace(talk, kind="unanswerable", entity=row["entity"])


def read_pairs(source: PairSource, root: Path) -> list[Conversation]:
    """Return translation requests of parallel text, out of and into the source language in turn.

    Args:
        source: which files and how to read them.
        root: folder the paths are below.

    Raises:
        DataError: a file is missing or malformed, or aligned files differ in length.
    """
    requests: list[Conversation] = []
    file = root / source.paths[-1]
    for number, (line, *pair) in enumerate(_pairs(source, root)):
        if number < source.skip:
            continue
        if source.max_conversations and len(requests) == source.max_conversations:
            break
        own, other = (" ".join(text.split()) for text in pair)
        if bool(own) != bool(other):
            raise DataError(f"a text in {source.source if own else source.target!r} without its translation; leave the pair out",
                            file, line)
        if own and other:
            forward = (source.source, source.target, own, other)
            back = (source.target, source.source, other, own)
            requests.append(translation(*(forward if len(requests) % 2 == 0 else back), language=source.target))
    if not requests:
        raise DataError(f"no pair is in it after the {source.skip:,} that are skipped", file)
    return requests


def translation(source: str, target: str, text: str, translated: str, *, language: str) -> Conversation:
    """Return a request to translate, in the words of the source language.

    Args:
        source: language of the text.
        target: language to translate into.
        text: what to translate.
        translated: the answer.
        language: whose data it is.
    """
    lexicon = load_lexicon(source)
    words = {"language": lexicon.words["language"][target], "text": {"base": text}}
    return conversation(lexicon.render("prompts.translate", words), translated, language, "translate")


def _pairs(source: PairSource, root: Path) -> Iterator[tuple[int, str, str]]:
    files = [root / path for path in source.paths]
    fields = source.fields or (source.source, source.target)
    if source.format == "lines":
        own, other = (_text(file).split("\n") for file in files)
        if len(own) != len(other):
            raise DataError(f"{len(own)} lines, {files[1]} has {len(other)}; aligned files have equally many", files[0])
        yield from zip(count(1), own, other)
        return
    lines = _csv(files[0]) if source.format == "csv" else read_jsonl(files[0])
    for line, row in lines:
        if not isinstance(row, dict) or any(not isinstance(row.get(field), str) for field in fields):
            found = f"fields are {', '.join(map(str, row))}" if isinstance(row, dict) else f"it is {type(row).__name__}"
            raise DataError(f"{found}; texts in {' and '.join(fields)} are needed", files[0], line)
        yield line, row[fields[0]], row[fields[1]]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError("the file does not exist; check sft.root and the source's path", file) from error
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 at byte {error.start}", file) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}); check the file and your rights to it", file) from error


def read_jsonl(file: Path) -> Iterator[tuple[int, Any]]:
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


def _json_list(file: Path) -> Iterator[tuple[int, Any]]:
    try:
        rows = json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}", file) from error
    if not isinstance(rows, list):
        raise DataError(f"a list of rows is needed, this is {type(rows).__name__}", file)
    yield from enumerate(rows, start=1)


def _csv(file: Path) -> Iterator[tuple[int, Any]]:
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
