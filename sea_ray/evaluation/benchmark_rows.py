"""What is asked of one published row of each benchmark, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from sea_ray.evaluation.rows import Row

_OPTION_MARK = re.compile(r"^\s*\(?(?:[A-E]|\d)(?:[.)]\s*|\s+)")
_LABELS = {letter: place for letters in ("ABCD", "ကခဂဃ") for place, letter in enumerate(letters)}
"""The Burmese part of Global-MMLU labels its options with the first letters of the Burmese alphabet."""
LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One item as a task reads it."""

    fields: Mapping[str, Any]
    """What the prompt, the options and the answer are made of."""
    passages: tuple[str, ...]
    """Texts that no model may be trained on."""
    subject: str = ""
    """Examples before a question are of its subject."""
    identity: str = ""
    """What no two rows share; empty if the benchmark gives none."""


def exam_prompt(question: str, options: Sequence[str]) -> str:
    """Return a question with its lettered options, as lm-evaluation-harness words it for MMLU."""
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question.strip(), *lines, "Answer:"])


def _exam(question: str, options: Sequence[str], answer: int, subject: str, identity: str) -> Asked:
    prompt = exam_prompt(question, options)
    fields = {"prompt": prompt, "options": list(options), "letters": list(LETTERS[:len(options)]), "answer": answer,
              "subject": subject}
    listed = prompt.removesuffix("\nAnswer:")
    return Asked(fields=fields, passages=(question, listed), subject=subject, identity=identity)


def m3exam(row: Row) -> Asked | None:
    """Read M3Exam: the answer is the letter or number of an option ("A. ", "๑. "); what needs a picture is left out."""
    if str(row.data.get("need_image", "")).lower() == "yes":
        return None
    answer, options = row.text("answer_text").strip(), row.data.get("options") or []
    place = "ABCDE".find(answer) if len(answer) == 1 and answer in "ABCDE" else int(answer) - 1 if answer.isdecimal() else -1
    if not 0 <= place < len(options):
        raise row.wrong(f"answer {answer!r} names none of the {len(options)} options")
    background = row.data.get("background_description") or ()
    lines = [background] if isinstance(background, str) else list(background)
    question = "\n".join([*lines, row.text("question_text")])
    bare = [_OPTION_MARK.sub("", str(option)) for option in options]
    return _exam(question, bare, place, str(row.data.get("subject_category") or row.data.get("subject") or ""), "")


def mmlu(row: Row) -> Asked:
    """Read MMLU: files of question, A, B, C, D, answer, named by their subject, or the Hub's columns."""
    if "choices" in row.data:
        options = [row.text("choices", place) for place in range(4)]
        answer, subject = row.text("answer"), row.text("subject")
    else:
        options = [row.text(letter) for letter in "ABCD"]
        answer, subject = row.text("answer"), Path(row.file).stem.rpartition("_")[0]
    if answer not in (*"ABCD", *"0123"):
        raise row.wrong(f"label {answer!r} is none of A B C D")
    place = int(answer) if answer.isdecimal() else "ABCD".index(answer)
    return _exam(row.text("question"), options, place, subject.replace("_", " "), "")


def global_mmlu(row: Row) -> Asked:
    """Read Global-MMLU as the Hub has it, or with `prompts`, `label` and `metadata` as SEA-HELM publishes it."""
    path: tuple[str | int, ...] = ("prompts", 0) if "prompts" in row.data else ()
    options = [row.text(*path, f"option_{letter}") for letter in "abcd"]
    label = row.text("label" if path else "answer")
    if label not in _LABELS:
        raise row.wrong(f"label {label!r} is none of {' '.join(_LABELS)}")
    about: Mapping[str, Any] = (row.data.get("metadata") or {}) if path else row.data
    return _exam(row.text(*path, "question"), options, _LABELS[label], str(about.get("subject", "")),
                 str(about.get("sample_id", "")))


def xcopa(row: Row) -> Asked:
    """Read XCOPA."""
    label, question = row.text("label"), row.text("question")
    if label not in ("0", "1"):
        raise row.wrong(f"label {label!r} is neither 0 nor 1")
    if question not in ("cause", "effect"):
        raise row.wrong(f"question {question!r} is neither cause nor effect")
    fields = {key: row.text(key) for key in ("premise", "choice1", "choice2")}
    return Asked(fields={**fields, "question": question, "label": int(label)}, identity=str(row.data.get("idx", "")),
                 passages=(" ".join(fields.values()),))


def belebele(row: Row) -> Asked:
    """Read Belebele: four options, the right one by number."""
    fields = {key: row.text(key) for key in ("flores_passage", "question", *(f"mc_answer{number}" for number in "1234"))}
    answer = row.text("correct_answer_num")
    if answer not in ("1", "2", "3", "4"):
        raise row.wrong(f"correct_answer_num {answer!r} is none of 1 2 3 4")
    identity = f"{row.data['link']} {row.data.get('question_number')}" if "link" in row.data else ""
    return Asked(fields={**fields, "correct_answer_num": answer}, identity=identity,
                 passages=(fields["flores_passage"], fields["question"]))


def mgsm(row: Row) -> Asked:
    """Read MGSM: headless rows of question TAB whole number, or the Hub's columns; test rows have no worked answer."""
    question, answer = row.text("question"), row.text("answer_number")
    try:
        value = Decimal(answer.replace(",", "").strip())
    except InvalidOperation as error:
        raise row.wrong(f"{answer!r} is no number; a row is question TAB number") from error
    if value != value.to_integral_value():
        raise row.wrong(f"{answer!r} is no whole number, as every answer of MGSM is")
    return Asked(fields={"question": question, "answer": None, "answer_number": int(value)}, passages=(question,))


def math(row: Row) -> Asked:
    """Read MATH: problem and worked solution, whose answer stands in a box."""
    problem, solution = row.text("problem"), row.text("solution")
    if "\\boxed" not in solution and "\\fbox" not in solution:
        raise row.wrong("the solution boxes no answer (\\boxed{...}): nothing can be compared with it")
    return Asked(fields={"prompt": f"Problem:\n{problem}\n\nSolution:", "solution": solution}, passages=(problem,),
                 subject=str(row.data.get("type") or row.data.get("subject") or ""), identity=str(row.data.get("unique_id", "")))


def flores(row: Row) -> Asked:
    """Read Flores-200: one sentence per line; the same line is the same sentence in every language."""
    return Asked(fields={"text": row.text("text")}, passages=(row.text("text"),))


def sib200(row: Row) -> Asked:
    """Read SIB-200: sentences, here for the text alone."""
    return Asked(fields={"text": row.text("text")}, passages=(row.text("text"),), identity=str(row.data.get("index_id", "")))
