"""Review by native speakers: sheets to fill in, decisions read back, agreement of two reviewers.

A sheet is written as CSV, which spreadsheets and Label Studio open, and as JSONL, which Argilla and `datasets` load. A reviewer
writes accept, fix or reject into `decision`, and for fix the better answer into `fixed_answer`.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from sea_ray.agreement import Agreement
from sea_ray.agreement import agreement as cohen
from sea_ray.artifacts import fingerprint
from sea_ray.errors import DataError, nearest
from sea_ray.near_duplicates import is_blank
from sea_ray.sft.conversation import Conversation, Message

Choice = Literal["accept", "fix", "reject"]
FIELDS = ("id", "language", "kind", "prompt", "answer", "decision", "fixed_answer", "comment")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a reviewer decided about one conversation."""

    choice: Choice
    fixed_answer: str = ""
    """The better last answer, of a fix."""


def review_id(conversation: Conversation) -> str:
    """Return what names a conversation in a sheet: "r" and 16 hexadecimal digits of its content.

    The letter keeps spreadsheets from taking an id for a number, of which they keep 15 digits.
    """
    return "r" + fingerprint(conversation)


def sample(conversations: Iterable[Conversation], per_kind: int, seed: int) -> list[Conversation]:
    """Return distinct conversations to review, at most `per_kind` of each language and kind."""
    groups: dict[tuple[str, str], dict[str, Conversation]] = {}
    for one in conversations:
        groups.setdefault((one.language, one.kind), {})[review_id(one)] = one
    chosen = []
    for (language, kind), group in groups.items():
        draw = random.Random(f"{seed}/{language}/{kind}")
        chosen += draw.sample([group[number] for number in sorted(group)], min(per_kind, len(group)))
    return chosen


def write_sheets(conversations: Sequence[Conversation], folder: Path) -> list[Path]:
    """Write one sheet per language, as CODE.csv and CODE.jsonl, and return the CSV files.

    Raises:
        DataError: a sheet is there already; decisions in it are never overwritten.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for code in dict.fromkeys(one.language for one in conversations):
        file = folder / f"{code}.csv"
        if file.exists():
            raise DataError("this sheet is there already and may hold decisions: move it away first", file)
        rows = [_row(one) for one in conversations if one.language == code]
        with file.open("w", encoding="utf-8-sig", newline="") as stream:  # spreadsheets know UTF-8 by its mark
            writer = csv.DictWriter(stream, FIELDS)
            writer.writeheader()
            writer.writerows(rows)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        file.with_suffix(".jsonl").write_text(lines, encoding="utf-8")
        files.append(file)
    return files


def _row(conversation: Conversation) -> dict[str, str]:
    *before, last = conversation.messages
    prompt = before[0].content if len(before) == 1 else "\n".join(f"{turn.role}: {turn.content}" for turn in before)
    return {"id": review_id(conversation), "language": conversation.language, "kind": conversation.kind, "prompt": prompt,
            "answer": last.content, "decision": "", "fixed_answer": "", "comment": ""}


def read_sheet(file: Path, known: Iterable[str]) -> dict[str, Decision]:
    """Return the decisions of a sheet; rows without a decision are not decided yet.

    Args:
        file: CSV or JSONL.
        known: ids of the conversations that there are.

    Raises:
        DataError: a missing file or column, an unknown or doubled id, an unknown decision, a fix without an answer; with
            file and line.
    """
    known, seen, decisions = set(known), set[str](), dict[str, Decision]()
    for line, row in _rows(file):
        number, choice = str(row.get("id", "")), str(row.get("decision") or "").strip().lower()
        if number not in known:
            raise DataError(f"no conversation has the id {number!r}: the data have changed since this sheet was written, or the "
                            "id was edited", file, line)
        if number in seen:
            raise DataError(f"the id {number!r} is there twice; leave one of the rows", file, line)
        seen.add(number)
        fixed = str(row.get("fixed_answer") or "").strip()
        if fixed and choice != "fix":
            raise DataError(f"there is a fixed_answer and the decision is {choice!r}: write fix, or leave the answer out", file,
                            line)
        if not choice:
            continue
        if choice not in get_args(Choice):
            raise DataError(f"unknown decision {choice!r}{nearest(choice, get_args(Choice))}", file, line)
        if choice == "fix" and is_blank(fixed):
            raise DataError("a fix needs the better answer in fixed_answer", file, line)
        decisions[number] = Decision(choice=choice, fixed_answer=fixed)  # type: ignore[arg-type]
    return decisions


def _rows(file: Path) -> Iterable[tuple[int, Mapping[str, object]]]:
    if not file.is_file():
        raise DataError("there is no such review sheet; correct sft.data.reviews", file)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("it is not UTF-8; save it as CSV UTF-8", file) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}); check the file and your rights to it", file) from error
    if file.suffix == ".jsonl":
        for line, content in enumerate(text.split("\n"), 1):
            if not content.strip():
                continue
            try:
                row = json.loads(content)
            except (ValueError, RecursionError) as error:
                raise DataError(f"not valid JSON ({error})", file, line) from error
            if not isinstance(row, dict):
                raise DataError("a JSON object is needed", file, line)
            yield line, row
        return
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)  # spreadsheets write that of their country
    csv.field_size_limit(1 << 26)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = list(reader.fieldnames or ())
        if missing := {"id", "decision", "fixed_answer"} - {*header}:
            raise DataError(f"the column {', '.join(sorted(missing))} is missing; the header has {header}", file, 1)
        for row in reader:
            if None in row or None in row.values():
                raise DataError(f"the row has not the {len(header)} fields of the header", file, reader.line_num)
            if any(row.values()):  # spreadsheets leave empty rows at the end
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"not readable as a row of a table ({error})", file, reader.line_num + 1) from error


def join(sheets: Iterable[Mapping[str, Decision]]) -> dict[str, Decision]:
    """Return one decision per conversation: rejected if anyone rejects it, else fixed if anyone fixes it.

    Raises:
        DataError: two reviewers fix one conversation differently.
    """
    joined: dict[str, Decision] = {}
    order = {choice: place for place, choice in enumerate(get_args(Choice))}
    for sheet in sheets:
        for number, decision in sheet.items():
            before = joined.get(number, decision)
            if before.choice == decision.choice == "fix" and before != decision:
                raise DataError(f"two reviewers fix {number!r} differently; agree on one answer")
            joined[number] = max(before, decision, key=lambda one: order[one.choice])
    return joined


def agreement(first: Mapping[str, Decision], second: Mapping[str, Decision]) -> Agreement:
    """Return how far two sheets agree.

    Raises:
        DataError: they have no item in common.
    """
    both = [(first[number].choice, second[number].choice) for number in first if number in second]
    if not both:
        raise DataError("the two sheets have no decided item in common")
    return cohen(both)


def reviewed(conversations: Sequence[Conversation], decisions: Mapping[str, Decision], *, require: bool
             ) -> tuple[list[Conversation], Counter[str]]:
    """Return the conversations that pass, fixed where a reviewer fixed them, and how many were decided how.

    Args:
        conversations: before the review.
        decisions: by id.
        require: drop what nobody decided; it passes otherwise.
    """
    kept, counts = [], Counter[str]()
    for one in conversations:
        decision = decisions.get(review_id(one))
        choice = "undecided" if decision is None else decision.choice
        counts[choice] += 1
        if choice == "accept" or (choice == "undecided" and not require):
            kept.append(one)
        elif decision is not None and choice == "fix":
            kept.append(replace(one, messages=(*one.messages[:-1], Message("assistant", decision.fixed_answer))))
    return kept, counts
