"""Questions that a teacher's stories answer and nothing else could (SeaRefuse-G, arXiv 2504.13816, appendix F).

The teacher writes a story about an invented entity, then four factoid questions that the story answers. The student sees the
questions without the story, so a refusal is right. In turn with them it writes about real entities: those questions have answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sea_ray.errors import ConfigError
from sea_ray.languages import ADDED
from sea_ray.languages import language as known_language
from sea_ray.near_duplicates import folded
from sea_ray.sft.teacher import Answer, Generated, TeacherConfig, ask, json_object
from sea_ray.sft.unanswerable import ENTITY_KINDS, EntityKind, Question, Refusals, Row, fact, invented_names, write_rows
from sea_ray.tracking import Tracker

QUESTIONS = 4
"""Asked of each story."""

_KINDS: dict[EntityKind, str] = {"person": "a person", "place": "a place", "organisation": "an organisation", "event": "an event",
                                 "work": "a work of art, such as a book, a song or a film"}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Whom a request is about."""

    kind: EntityKind
    real: bool
    name: str | None
    """None lets the teacher choose."""


def generate(config: TeacherConfig, questions: Mapping[str, Sequence[Question]], folder: Path, tracker: Tracker) -> Generated:
    """Ask the teacher for stories and write CODE.jsonl of format answerability per language, half of the rows answerable.

    Args:
        config: teacher and sizes; requests_per_language counts stories and passages together.
        questions: language -> answerable questions, whose entities are the real ones and the models of the invented names; with
            none the teacher chooses both.
        folder: holds CODE.log.jsonl with every answer, and CODE.jsonl.
        tracker: told how many answers of a language are there.

    Returns:
        Per language the accepted rows, the unparsed answers, and the questions that were left out: nameless (without the
        name), repeated, unpaired (more than those of the story's or the passage's counterpart).

    Raises:
        ConfigError: fewer than two requests, or a language without refusals; and see `ask`.
        DataError: too few names to make new ones from, or a damaged log.
        MachineError: see `ask`.
    """
    if config.requests_per_language < 2:
        raise ConfigError("requests_per_language", f"{config.requests_per_language} is below 2: a story and a passage are needed")
    if silent := [code for code in questions if code in ADDED]:
        raise ConfigError("corpus.languages", f"stories need refusals in a language, and there are none in {', '.join(silent)}: "
                                              "name the others, or write instructions (sft.generate=instructions)")
    subjects = {code: _subjects(config, code, asked) for code, asked in questions.items()}
    answers = ask(config, {code: [request(code, one) for one in some] for code, some in subjects.items()}, folder, tracker)
    outcomes = {code: _select(config, code, subjects[code], questions[code], answers[code], folder) for code in subjects}
    return Generated.of(config, outcomes, answers)


def _subjects(config: TeacherConfig, code: str, questions: Sequence[Question]) -> list[Subject]:
    """Return an invented and a real subject in turn, the kinds in turn."""
    names = invented_names(questions, code, config.seed)
    found = []
    for number in range(config.requests_per_language // 2):
        kind = (list(names) or ENTITY_KINDS)[number % len(names or ENTITY_KINDS)]
        real, invented = None, None
        if names:
            pairs = list(names[kind].items())
            real, invented = pairs[number // len(names) % len(pairs)]
        found += [Subject(kind=kind, real=False, name=invented), Subject(kind=kind, real=True, name=real)]
    return found


def request(code: str, subject: Subject) -> str:
    """Return what the teacher is asked."""
    language, kind = known_language(code).name, _KINDS[subject.kind]
    if subject.real:
        named = f'{kind} called "{subject.name}", which is real' if subject.name else (
            f"{kind} that really exists and that speakers of {language} know well")
        text = f"Write a short passage in {language} about {named}. Write only what is true."
    else:
        named = f'{kind} with the invented name "{subject.name}"' if subject.name else (
            f"{kind} that does not exist, with a name that you invent and that nobody bears")
        text = f"Write a short story in {language} about {named}. Write it as if it were true."
    return "\n".join([
        text,
        f"Then write {QUESTIONS} factoid questions in {language}, each about one fact of the text. Each question must be clear "
        "without the text and must hold the name as it is written in the text. Give a short answer to each, one sentence in "
        f"{language}.",
        'Reply with one JSON object and nothing else: {"name": "...", "text": "...", "questions": [{"question": "...", '
        '"answer": "..."}, ...]}'])


def _select(config: TeacherConfig, code: str, subjects: Sequence[Subject], known: Sequence[Question], answers: Sequence[Answer],
            folder: Path) -> Counter[str]:
    """Write as many unanswerable as answerable questions of each story and its counterpart; return the outcomes."""
    counts, refusals = Counter[str](), Refusals(code, config.seed)
    seen, rows = {folded(one.question) for one in known}, list[Row]()
    asked_of = list(zip(answers, subjects, strict=True))
    for pair in zip(asked_of[::2], asked_of[1::2], strict=True):
        found = [_questions(answer, subject, seen, counts) for answer, subject in pair]
        for (name, asked, _), (_, other, answer) in zip(*found, strict=False):
            rows += [fact(other, answer), refusals.row(asked, name)]
            counts["accepted"] += 2
        counts["unpaired"] += abs(len(found[0]) - len(found[1]))
    write_rows(rows, folder / f"{code}.jsonl")
    return counts


def _questions(answer: Answer, subject: Subject, seen: set[str], counts: Counter[str]) -> list[tuple[str, str, str]]:
    """Return name, question and answer of what can be used of an answer of the teacher."""
    parsed = parse(answer.text)
    if parsed is None:
        counts["unparsed"] += 1
        return []
    name, found = subject.name or parsed[0], []
    for question, reply in parsed[1][:QUESTIONS]:
        outcome = "nameless" if name not in question else "repeated" if folded(question) in seen else ""
        if outcome:
            counts[outcome] += 1
            continue
        seen.add(folded(question))
        found.append((name, question, reply))
    return found


def parse(text: str) -> tuple[str, list[tuple[str, str]]] | None:
    """Return the name, and questions with answers, of a teacher's answer, or None where they are not what was asked for."""
    value = json_object(text) or {}
    name, listed = value.get("name"), value.get("questions")
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        return None
    texts = [name, *(one.get(field) for one in listed for field in ("question", "answer"))]
    if not listed or not all(isinstance(one, str) and one.strip() for one in texts):
        return None
    clean = [str(one).strip() for one in texts]
    return clean[0], list(zip(clean[1::2], clean[2::2], strict=True))
