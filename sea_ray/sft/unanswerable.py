"""Questions about what does not exist, each beside one that can be answered (SeaRefuse-H, arXiv 2504.13816, appendix F).

In an answerable question the entity is swapped for an invented one of its kind; the answer becomes a refusal. A model that saw
unanswerable questions alone would refuse all.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Literal, get_args

from sea_ray.demo import load_lexicon
from sea_ray.demo.dialogues import phrase_book
from sea_ray.errors import DataError, nearest
from sea_ray.near_duplicates import folded
from sea_ray.sft.files import read_jsonl
from sea_ray.sft.invented import counterparts

EntityKind = Literal["person", "place", "organisation", "event", "work"]
ENTITY_KINDS: tuple[EntityKind, ...] = get_args(EntityKind)
"""The kinds of SeaRefuse; a work is one of art."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """An answerable question about a named entity."""

    question: str
    answer: str
    entity: str
    """Name as the question writes it."""
    kind: EntityKind

    def __post_init__(self) -> None:
        """Refuse an empty text, an unknown kind and a question that is about something else."""
        for name, value in vars(self).items():
            if not isinstance(value, str) or not value.strip():
                raise DataError(f"{name} is {value!r}; a row needs the texts question, answer, entity and kind")
        if self.kind not in ENTITY_KINDS:
            raise DataError(f"unknown kind {self.kind!r}{nearest(self.kind, ENTITY_KINDS)}")
        if self.entity not in self.question:
            raise DataError(f"the question does not hold the entity {self.entity!r}; write it as it stands there")


Row = dict[str, str]
"""A line of a file of format answerability: prompt, response, kind and, if unanswerable, entity."""


def read_questions(file: Path) -> list[Question]:
    """Return the rows of a JSONL file of question, answer, entity and kind.

    Raises:
        DataError: no such file, a field that is missing or empty, an unknown kind, or a question that does not hold its entity;
            with file and line.
    """
    found = []
    for line, row in read_jsonl(file):
        if not isinstance(row, dict):
            raise DataError(f"a row is an object of question, answer, entity and kind; this is {row!r}", file, line)
        fields: dict[str, Any] = {name: row.get(name) for name in ("question", "answer", "entity", "kind")}
        try:
            found.append(Question(**fields))
        except DataError as error:
            raise DataError(str(error), file, line) from error
    return found


def invented_names(questions: Sequence[Question], code: str, seed: int) -> dict[EntityKind, dict[str, str]]:
    """Return kind -> entity of the questions -> invented name of that kind.

    Raises:
        DataError: too few names of a kind, see `counterparts`.
    """
    kinds = [kind for kind in ENTITY_KINDS if any(one.kind == kind for one in questions)]
    return {kind: counterparts([one.entity for one in questions if one.kind == kind], seed, f"{kind} in {code!r}")
            for kind in kinds}


def swap(questions: Mapping[str, Sequence[Question]], seed: int, folder: Path) -> dict[str, Counter[str]]:
    """Write CODE.jsonl of format answerability per language: each question as it is, then about an invented entity.

    Args:
        questions: language -> answerable questions.
        seed: decides the invented names and the wordings of the refusals.
        folder: holds the files.

    Returns:
        Language -> pairs, and repeated questions, which are left out.

    Raises:
        DataError: a language has too few names of a kind to make new ones from.
    """
    outcomes, files = dict[str, Counter[str]](), dict[str, list[Row]]()
    for code, asked in questions.items():
        names, refusals, seen = invented_names(asked, code, seed), Refusals(code, seed), set[str]()
        counts, rows = outcomes.setdefault(code, Counter(pairs=0)), files.setdefault(code, [])
        for one in asked:
            if folded(one.question) in seen:
                counts["repeated"] += 1
                continue
            seen.add(folded(one.question))
            name = names[one.kind][one.entity]
            rows += [fact(one.question, one.answer), refusals.row(one.question.replace(one.entity, name), name)]
            counts["pairs"] += 1
    for code, rows in files.items():
        write_rows(rows, folder / f"{code}.jsonl")
    return outcomes


class Refusals:
    """Refusals in the wordings of a language, all in turn, in an order of the seed."""

    def __init__(self, code: str, seed: int) -> None:
        """Args: code: language of the questions; seed: decides the order."""
        self._lexicon = load_lexicon(code)
        wordings = list(phrase_book(self._lexicon).refusals)
        random.Random(f"{seed}/{code}/refusals").shuffle(wordings)
        self._wordings: Iterator[str] = cycle(wordings)

    def row(self, prompt: str, name: str) -> Row:
        """Return a question about an invented name with the next refusal."""
        refusal = self._lexicon.capitalise(next(self._wordings).replace("{name}", name))
        return {"prompt": prompt, "response": refusal, "kind": "unanswerable", "entity": name}


def fact(prompt: str, response: str) -> Row:
    """Return an answerable question with its answer."""
    return {"prompt": prompt, "response": response, "kind": "fact"}


def write_rows(rows: Iterable[Row], file: Path) -> None:
    """Write a file of format answerability."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
