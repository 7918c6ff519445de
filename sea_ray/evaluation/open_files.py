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

from sea_ray.errors import nearest
from sea_ray.evaluation.items import DialogueItem, RefusalItem
from sea_ray.evaluation.rows import Row, read_rows
from sea_ray.languages import LANGUAGES

SEABENCH_TYPES = ("safety", "math", "reasoning", "stem", "roleplay", "writing", "life", "extraction", "humanities", "coding")
REFUSAL_KINDS = ("general", "culture")


def seabench(path: Path, code: str) -> Iterator[DialogueItem]:
    """Yield the dialogues of one language."""
    for row in read_rows(path, unique="unit_id"):
        if _language(row, "lang") == code:
            kind = row.text("type")
            if kind not in SEABENCH_TYPES:
                raise row.wrong(f"unknown type {kind!r}{nearest(kind, SEABENCH_TYPES)}")
            turns, references = (tuple(row.text(f"{name}_{turn}") for turn in (1, 2)) for name in ("user", "reference"))
            yield DialogueItem(language=code, turns=turns, references=references, kind=kind, task="seabench")


def searefuse(task: str) -> Callable[[Path, str], Iterator[RefusalItem]]:
    """Return the reader of one of the two parts, searefuse_g or searefuse_h."""

    def read(path: Path, code: str) -> Iterator[RefusalItem]:
        for row in read_rows(path, unique="id"):
            if _language(row, "language") == code:
                yield _question(row, code, task)

    return read


def _question(row: Row, code: str, task: str) -> RefusalItem:
    answerable, kind = row.data.get("answerable"), str(row.data.get("kind") or "")
    if not isinstance(answerable, bool):
        raise row.wrong(f"answerable is {answerable!r}; true or false is needed")
    if kind and kind not in REFUSAL_KINDS:
        raise row.wrong(f"unknown kind {kind!r}{nearest(kind, REFUSAL_KINDS)}")
    return RefusalItem(language=code, prompt=row.text("prompt"), answerable=answerable, kind=kind, task=task,
                       reference=str(row.data.get("answer") or "") if answerable else "")


def _language(row: Row, key: str) -> str:
    found = row.text(key)
    if found not in LANGUAGES:
        raise row.wrong(f"unknown language {found!r} in {key!r}{nearest(found, LANGUAGES)}")
    return found
