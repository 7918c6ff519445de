"""Items out of public benchmark files, in the formats in which they are published."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from sea_ray.artifacts import NOT_IDENTITY, digest_file
from sea_ray.errors import ConfigError, DataError, nearest
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.evaluation.items import (
    DialogueItem,
    ExamQuestion,
    Item,
    NumberItem,
    RefusalItem,
    SafetyItem,
    Suite,
    TextItem,
)
from sea_ray.evaluation.open_files import seabench, searefuse
from sea_ray.evaluation.rows import get_text, read_rows
from sea_ray.languages import language

_SAFE_LABELS = frozenset({"safe", "aman", "selamat", "ปลอดภัย", "an toàn", "ligtas"})
_UNSAFE_LABELS = frozenset({"unsafe", "berbahaya", "อันตราย", "có hại", "nakakapinsala"})
_MMLU_LABELS = {letter: place for letters in ("ABCD", "ကခဂဃ") for place, letter in enumerate(letters)}
"""The Burmese part labels its options with the first letters of the Burmese alphabet."""
_OPTION_MARK = re.compile(r"^\s*\(?(?:[A-E]|\d)(?:[.)]\s*|\s+)")
_M3EXAM_NAMES = {"en": "english", "zh": "chinese", "vi": "vietnamese", "th": "thai", "jv": "javanese"}


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Where benchmark files lie."""

    root: str = field(default="", metadata=NOT_IDENTITY)
    """Folder above `files`."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Benchmark (a key of BENCHMARKS) -> its folder or file below root."""

    def __post_init__(self) -> None:
        for name in self.files:
            if name not in BENCHMARKS:
                raise ConfigError(f"files.{name}", f"unknown benchmark{nearest(name, BENCHMARKS)}")


def input_digests(benchmarks: BenchmarkConfig) -> dict[str, str]:
    """Return path below the root -> SHA-256 of every benchmark file.

    Raises:
        DataError: a folder or file is missing.
    """
    root, digests = Path(benchmarks.root), {}
    for place in benchmarks.files.values():
        path = root / place
        if not path.exists():
            raise DataError("there is no such benchmark; correct benchmarks.root or benchmarks.files", file=path)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            digests[file.relative_to(root).as_posix()] = digest_file(file)
    return digests


def read_benchmarks(benchmarks: BenchmarkConfig, config: EvaluationConfig) -> Suite:
    """Read the first items of each benchmark in each configured language.

    Args:
        benchmarks: files.
        config: languages, and how many items (texts) of each benchmark, kind and language.

    Raises:
        DataError: a missing folder or file, a missing field, a wrong label; with file and line.
    """
    found: dict[str, list[Any]] = {part.name: [] for part in fields(Suite)}
    for name, place in benchmarks.files.items():
        part, reader = BENCHMARKS[name]
        path = Path(benchmarks.root) / place
        if not path.exists():
            raise DataError(f"benchmark {name!r} is not there; correct evaluation.benchmarks", file=path)
        limit = config.texts if part == "texts" else config.items
        for code in config.languages:
            found[part] += _first(reader(path, code), limit)
    return Suite(**{part: tuple(items) for part, items in found.items()})


def read_all(benchmarks: BenchmarkConfig, languages: tuple[str, ...]) -> Suite:
    """Read every item of each benchmark in some languages."""
    return read_benchmarks(benchmarks, EvaluationConfig(languages=languages, items=sys.maxsize, texts=sys.maxsize))


def _first(items: Iterator[Item], limit: int) -> list[Item]:
    """Return at most `limit` items; of two-sided ones at most half of each side, of dialogues as many of each type."""
    known = list(items)
    sides = dict.fromkeys(map(_side, known))
    room = {side: limit if side is None else max(1, limit // max(2, len(sides))) for side in sides}
    taken: list[Item] = []
    for item in known:
        if room[_side(item)] > 0 and len(taken) < limit:
            room[_side(item)] -= 1
            taken.append(item)
    return taken


def _side(item: Item) -> object:
    """Return which part of its benchmark an item belongs to, none of which may use up the room of the others."""
    if isinstance(item, SafetyItem):
        return item.unsafe
    if isinstance(item, RefusalItem):
        return item.answerable
    return item.kind if isinstance(item, DialogueItem) else None


def _sib200(folder: Path, code: str) -> Iterator[TextItem]:
    path = folder / f"{language(code).flores}.tsv"
    if path.exists():
        for line, row in read_rows(path):
            yield TextItem(language=code, text=get_text(row, path, line, "text"), task="sib200")


def _global_mmlu(folder: Path, code: str) -> Iterator[ExamQuestion]:
    for path in sorted(folder.glob(f"*_{code}_*.jsonl")):
        for line, row in read_rows(path):
            options = tuple(get_text(row, path, line, "prompts", 0, f"option_{letter}") for letter in "abcd")
            label = get_text(row, path, line, "label")
            if label not in _MMLU_LABELS:
                raise DataError(f"label {label!r} is none of {' '.join(_MMLU_LABELS)}", file=path, line=line)
            yield ExamQuestion(
                language=code, question=get_text(row, path, line, "prompts", 0, "question"), options=options,
                answer_index=_MMLU_LABELS[label], kind=str(row.get("metadata", {}).get("subject_category", "")),
                task="global_mmlu",
            )  # fmt: skip


def _m3exam(folder: Path, code: str) -> Iterator[ExamQuestion]:
    """Read M3Exam's test questions: the answer is a letter or number, which the options carry too ("A. ", "๑. ")."""
    path = folder / f"{_M3EXAM_NAMES.get(code, code)}-questions-test.json"
    if not path.exists():
        return
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"not readable ({error})", file=path) from error
    for number, row in enumerate(rows, 1):
        answer, options = get_text(row, path, number, "answer_text").strip(), row.get("options") or []
        place = (
            "ABCDE".find(answer)
            if len(answer) == 1 and answer in "ABCDE"
            else int(answer) - 1
            if answer.isdecimal()
            else -1
        )
        if not 0 <= place < len(options):
            raise DataError(f"answer {answer!r} names none of the {len(options)} options", file=path, line=number)
        bare = tuple(_OPTION_MARK.sub("", str(option)) for option in options)
        yield ExamQuestion(
            language=code, question=get_text(row, path, number, "question_text"), options=bare, answer_index=place,
            kind=str(row.get("subject", "")), task="m3exam",
        )  # fmt: skip


def _mgsm(folder: Path, code: str) -> Iterator[NumberItem]:
    """Read MGSM's headless rows: question TAB integer."""
    path = folder / f"mgsm_{code}.tsv"
    if not path.exists():
        return
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        question, _, answer = text.rpartition("\t")
        try:
            value = Decimal(answer.replace(",", "").strip())
        except InvalidOperation as error:
            raise DataError(f"{answer!r} is no number; a row is question TAB number", file=path, line=line) from error
        yield NumberItem(language=code, prompt=question, answer=value, task="mgsm")


def _multijail(path: Path, code: str) -> Iterator[SafetyItem]:
    for line, row in read_rows(path, unique="id"):
        if code in row and code != "id":  # there "id" is the number of a row; Indonesian is not in it
            yield SafetyItem(language=code, prompt=get_text(row, path, line, code), unsafe=True, kind="multijail")


def _xstest(path: Path, code: str) -> Iterator[SafetyItem]:
    if code == "en":
        for line, row in read_rows(path, unique="id"):
            unsafe = _is_unsafe(get_text(row, path, line, "label"), path, line)
            yield SafetyItem(language=code, prompt=get_text(row, path, line, "prompt"), unsafe=unsafe, kind="xstest")


def _culture_safety(folder: Path, code: str) -> Iterator[SafetyItem]:
    path = folder / f"{code}.jsonl"
    if path.exists():
        for line, row in read_rows(path):
            unsafe = _is_unsafe(get_text(row, path, line, "label"), path, line)
            prompt = get_text(row, path, line, "prompts", 0, "local_prompt")
            yield SafetyItem(language=code, prompt=prompt, unsafe=unsafe, kind="culture")


def _is_unsafe(label: str, path: Path, line: int) -> bool:
    folded = label.strip().casefold()
    if folded not in _SAFE_LABELS | _UNSAFE_LABELS:
        raise DataError(f"label {label!r} is neither safe nor unsafe", file=path, line=line)
    return folded in _UNSAFE_LABELS


Reader = Callable[[Path, str], Iterator[Any]]
BENCHMARKS: dict[str, tuple[str, Reader]] = {
    "sib200": ("texts", _sib200),
    "global_mmlu": ("exam", _global_mmlu),
    "m3exam": ("exam", _m3exam),
    "mgsm": ("arithmetic", _mgsm),
    "multijail": ("safety", _multijail),
    "xstest": ("safety", _xstest),
    "culture_safety": ("safety", _culture_safety),
    "searefuse_g": ("refusal", searefuse("searefuse_g")),
    "searefuse_h": ("refusal", searefuse("searefuse_h")),
    "seabench": ("dialogues", seabench),
}
"""Benchmark -> part of the suite and reader of one language; a language that a benchmark lacks has no items."""
