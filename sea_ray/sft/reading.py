"""Conversations out of rows, whatever holds them: Alpaca, messages, ShareGPT, GSM8K, prompts and responses, parallel text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from sea_ray.demo import load_lexicon
from sea_ray.errors import DataError
from sea_ray.hub import dataset_rows
from sea_ray.languages import ADDED
from sea_ray.sft.conversation import Conversation, Message, Role, conversation
from sea_ray.sft.files import Rows, read_csv, read_json_list, read_jsonl, read_lines
from sea_ray.sft.sources import DatasetSource, FileSource, PairSource, Source

_CALCULATION = re.compile(r"<<[^<>]*>>")
"""GSM8K marks what a calculator was called for, "<<48/2=24>>"; nobody writes so (arXiv 2110.14168, section 4.2)."""

_SPEAKERS: dict[str, Role] = {"human": "user", "gpt": "assistant"}
"""ShareGPT's names of the speakers that have another one here."""

_MAX_NAMED = 30
"""Values of a column that a message names."""


def read_source(source: Source, root: Path) -> list[Conversation]:
    """Return the conversations of a source; of parallel text requests out of and into the other language, in turn.

    Args:
        source: where its rows are and how to read them.
        root: folder that its paths are below.

    Raises:
        DataError: a file or dataset is missing, aligned files differ in length, a row is malformed or has no answer (with file
            or dataset, and line or row), no row matches `where`, or none is left after `skip`.
    """
    place, rows = _rows(source, root)
    found: list[Conversation] = []
    for number, row in islice(_matching(rows, source, place), source.skip, None):
        if source.max_conversations and len(found) == source.max_conversations:
            break
        try:
            talk = _conversation(row, source, len(found))
        except KeyError as error:
            raise DataError(f"a row of format {source.format} needs the field {error}; there are {_names(row)}", place,
                            number) from error
        except DataError as error:
            raise DataError(error.message, place, number) from error
        except (TypeError, AttributeError) as error:
            raise DataError(f"not a row of format {source.format} ({error})", place, number) from error
        if talk is not None:
            found.append(replace(talk, file=_name(source), row=number))
    if not found:
        raise DataError(f"no conversation is left after skip={source.skip}; lower skip, or look at the rows", place)
    return found


def _name(source: Source) -> str:
    if isinstance(source, DatasetSource):
        return source.dataset
    return source.path if isinstance(source, FileSource) else source.paths[0]


def local_folder(source: DatasetSource, root: Path) -> Path | None:
    """Return the folder that a dataset is, or None if it is an id on the Hub."""
    return root / source.dataset if (root / source.dataset).is_dir() else None


def _rows(source: Source, root: Path) -> tuple[object, Rows]:
    """Return where rows are, for messages, and the rows."""
    if isinstance(source, DatasetSource):
        dataset = str(local_folder(source, root) or source.dataset)
        return f"dataset {dataset}", dataset_rows(dataset, name=source.name, split=source.split, revision=source.revision,
                                                  setting="sft.data")
    if isinstance(source, FileSource):
        file = root / source.path
        return file, read_json_list(file) if source.format in ("alpaca", "sharegpt") else read_jsonl(file)
    files = [root / path for path in source.paths]
    if source.format == "lines":
        return files[0], read_lines(files, source.fields or (source.source, source.target))
    return files[0], read_csv(files[0]) if source.format == "csv" else read_jsonl(files[0])


def _matching(rows: Rows, source: Source, place: object) -> Iterator[tuple[int, Any]]:
    """Yield the rows that match `where`."""
    others: dict[str, None] = {}
    matched = False
    for number, row in rows:
        try:
            values = {column: _value(row, column) for column in source.where}
        except KeyError as error:
            raise DataError(f"where names {', '.join(source.where)}; there are {_names(row)}", place, number) from error
        if values == source.where:
            matched = True
            yield number, row
        elif len(others) < _MAX_NAMED:
            others[", ".join(f"{column}={value}" for column, value in values.items())] = None
    if source.where and not matched:
        asked = ", ".join(f"{column}={value}" for column, value in source.where.items())
        raise DataError(f"no row has {asked}; there are {'; '.join(others) or 'no rows'}", place)


def _conversation(row: Any, source: Source, turn: int) -> Conversation | None:
    """Return a row's conversation, or None for a pair of empty texts, and of a dataset, which nobody can mend, for a pair that
    lacks one; `turn` counts those before it."""
    if isinstance(source, PairSource):
        return _request(row, source.source, source.target, source.fields or (source.source, source.target), turn)
    language, kind, names = source.language, source.kind, source.fields
    if source.format == "parallel":
        codes = (source.source, language)
        return _request(row, *codes, tuple(names.get(code, code) for code in codes), turn, lacking_ok=True)

    def value(field: str) -> Any:
        return _value(row, names.get(field, field))

    if source.format == "messages":
        return Conversation(tuple(Message(said["role"], said["content"]) for said in value("messages")), language, kind)
    if source.format == "sharegpt":
        said = tuple(Message(_SPEAKERS.get(one["from"], one["from"]), one["value"]) for one in value("conversations"))
        return Conversation(said, language, kind)
    if source.format == "alpaca":
        has_input = "input" in names or "input" in row
        prompt = "\n".join(part for part in (value("instruction"), value("input") if has_input else "") if part)
        return conversation(prompt, value("output"), language, kind)
    if source.format == "gsm8k":
        return conversation(value("question"), _CALCULATION.sub("", value("answer")), language, kind)
    talk = conversation(value("prompt"), value("response"), language, kind)
    if source.format == "prompt_response":
        return talk
    kind = value("kind")
    return _with_answerability(talk, kind, value("entity") if kind == "unanswerable" else None)


def _with_answerability(talk: Conversation, kind: str, entity: str | None) -> Conversation:
    """Return a conversation with the kind that its row says, and the invented entity of an unanswerable one."""
    if kind not in ("fact", "unanswerable"):
        raise DataError(f"kind is {kind!r}; fact or unanswerable is needed")
    if kind == "unanswerable" and (not entity or entity not in talk.messages[0].content):
        raise DataError(f"the prompt does not hold the entity {entity!r}, which it is about")
    return replace(talk, kind=kind, entity=entity)


def _request(row: Any, source: str, target: str, columns: tuple[str, ...], turn: int, *,
             lacking_ok: bool = False) -> Conversation | None:
    try:
        own, other = (" ".join(_value(row, column).split()) for column in columns)
    except (KeyError, AttributeError) as error:
        raise DataError(f"fields are {_names(row)}; {' and '.join(columns)} are needed, with text") from error
    if (not own and not other) or (lacking_ok and not (own and other)):
        return None
    if not own or not other:
        raise DataError(f"a text in {source if own else target!r} without its translation; leave the pair out")
    forward, back = (source, target, own, other), (target, source, other, own)
    return translation(*(forward if turn % 2 == 0 else back), language=target)


def translation(source: str, target: str, text: str, translated: str, *, language: str) -> Conversation:
    """Return a request to translate, in the words of the source language; an added language has none, so there in the other's.

    Args:
        source: language of the text.
        target: language to translate into.
        text: what to translate.
        translated: the answer.
        language: whose data it is.
    """
    lexicon = load_lexicon(target if source in ADDED else source)
    named = {"base": ADDED[target].name} if target in ADDED else lexicon.words["language"][target]
    words = {"language": named, "text": {"base": text}}
    return conversation(lexicon.render("prompts.translate", words), translated, language, "translate")


def _value(row: Any, column: str) -> Any:
    """Return a column's value; "a.b" is b within a, unless a column has that name.

    Raises:
        KeyError: the column is missing, with its whole name.
    """
    if not isinstance(row, dict):
        raise KeyError(column)
    if column in row:
        return row[column]
    outer, _, inner = column.partition(".")
    if not inner or not isinstance(row.get(outer), dict) or inner not in row[outer]:
        raise KeyError(column)
    return row[outer][inner]


def _names(row: Any) -> str:
    """Return the columns of a row, and what they hold inside, for messages."""
    if not isinstance(row, dict):
        return f"none, the row is {type(row).__name__}"
    inside = (f"{name}.{inner}" for name, value in row.items() if isinstance(value, dict) for inner in value)
    return ", ".join([*map(str, row), *inside])
