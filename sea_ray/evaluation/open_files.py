"""Items of benchmarks whose answers are free text: SeaBench as it is published, SeaRefuse in a format of this project.

SeaBench (DAMO-NLP-SG/SeaBench@f2bd82d): one JSONL for all languages with lang, unit_id, type, user_1, reference_1, user_2 and
reference_2. SeaRefuse (arXiv 2504.13816, appendix F) is published as tables on the Hub; here it is one JSONL for G and one for
H, a question a line:

    {"id": "th-17", "language": "th", "prompt": "...", "answerable": true, "answer": "...", "kind": "culture"}

`answer` (of an answerable question) and `kind` (general or culture) may be left out, and then are not reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sea_ray.errors import DataError, nearest
from sea_ray.evaluation.items import DialogueItem, RefusalItem
from sea_ray.evaluation.rows import get_text, read_rows
from sea_ray.languages import LANGUAGES

SEABENCH_TYPES = ("safety", "math", "reasoning", "stem", "roleplay", "writing", "life", "extraction", "humanities", "coding")
REFUSAL_KINDS = ("general", "culture")


def seabench(path: Path, code: str) -> Iterator[DialogueItem]:
    """Yield the dialogues of one language."""
    for line, row in read_rows(path, unique="unit_id"):
        if _language(row, path, line, "lang") == code:
            kind = get_text(row, path, line, "type")
            if kind not in SEABENCH_TYPES:
                raise DataError(f"unknown type {kind!r}{nearest(kind, SEABENCH_TYPES)}", path, line)
            turns, references = (tuple(get_text(row, path, line, f"{name}_{turn}") for turn in (1, 2))
                                 for name in ("user", "reference"))
            yield DialogueItem(language=code, turns=turns, references=references, kind=kind, task="seabench")


def searefuse(task: str) -> Callable[[Path, str], Iterator[RefusalItem]]:
    """Return the reader of one of the two parts, searefuse_g or searefuse_h."""

    def read(path: Path, code: str) -> Iterator[RefusalItem]:
        for line, row in read_rows(path, unique="id"):
            if _language(row, path, line, "language") == code:
                yield _question(row, path, line, code, task)

    return read


def _question(row: dict[str, Any], path: Path, line: int, code: str, task: str) -> RefusalItem:
    answerable, kind = row.get("answerable"), str(row.get("kind") or "")
    if not isinstance(answerable, bool):
        raise DataError(f"answerable is {answerable!r}; true or false is needed", path, line)
    if kind and kind not in REFUSAL_KINDS:
        raise DataError(f"unknown kind {kind!r}{nearest(kind, REFUSAL_KINDS)}", path, line)
    return RefusalItem(language=code, prompt=get_text(row, path, line, "prompt"), answerable=answerable, kind=kind, task=task,
                       reference=str(row.get("answer") or "") if answerable else "")


def _language(row: dict[str, Any], path: Path, line: int, key: str) -> str:
    found = get_text(row, path, line, key)
    if found not in LANGUAGES:
        raise DataError(f"unknown language {found!r} in {key!r}{nearest(found, LANGUAGES)}", path, line)
    return found
