"""What conf/evaluation/tasks/*.yaml name: data, filters and scores of this project's tasks for lm-evaluation-harness."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from sea_ray.errors import DataError
from sea_ray.evaluation.benchmark_rows import LETTERS, Asked
from sea_ray.evaluation.benchmark_sources import HUB, published
from sea_ray.evaluation.number_reading import read_number
from sea_ray.languages import language

SPLITS = ("train", "validation", "test")


def documents(*, benchmark: str, code: str, place: str = HUB, source: str = "", shots: int = 0, **_: Any) -> dict[str, Any]:
    """Return split -> documents of a task (`custom_dataset` of lm-evaluation-harness).

    Examples stand in the document itself, before its prompt: the harness' samplers don't know the subject of the question.

    Args:
        benchmark: a key of BENCHMARKS.
        code: language of the answers.
        place: folder of the files, or "hub", or "hub@COMMIT".
        source: of translations, the language that is translated.
        shots: examples of the question's subject, the first ones there are.

    Raises:
        DataError: a wrong row, with file and line; or no row.
    """
    import datasets

    asked = published(benchmark, code, place)
    if source:
        rows = _pairs(asked["test"], published(benchmark, source, place)["test"], source, code)
    else:
        rows = [{**one.fields, "language": code, "shots": _shots(one, asked["shots"], shots)} for one in asked["test"]]
    if not rows:
        raise DataError(f"there is nothing in {code!r} to ask", file=place)
    return {split: datasets.Dataset.from_list(rows if split == "test" else []) for split in SPLITS}


def _pairs(targets: Sequence[Asked], sources: Sequence[Asked], source: str, target: str) -> list[dict[str, Any]]:
    if len(targets) != len(sources):
        raise DataError(f"{len(sources)} sentences in {source!r} and {len(targets)} in {target!r}: a line of the one must be the "
                        "same line of the other")
    names = {"source_name": language(source).name, "target_name": language(target).name}
    return [{**names, "source": there.fields["text"], "target": here.fields["text"], "language": target}
            for there, here in zip(sources, targets, strict=True)]


def _shots(asked: Asked, examples: Sequence[Asked], count: int) -> str:
    chosen = [one for one in examples if one.subject == asked.subject][:count]
    return "".join(f"{one.fields['prompt']} {_answer(one)}\n\n" for one in chosen)


def _answer(asked: Asked) -> str:
    return asked.fields["solution"] if "solution" in asked.fields else LETTERS[asked.fields["answer"]]


def numbers(responses: Sequence[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the last number of each response as its language writes numbers (a filter of lm-evaluation-harness).

    The harness' exact match drops dots and signs, so what is no natural number is spelt as what can match none.
    """
    return [[_natural(text, doc["language"]) for text in some] for some, doc in zip(responses, docs, strict=True)]


def _natural(text: str, code: str) -> str:
    value = read_number(text, code)
    if value is None:
        return "no number"
    return str(int(value)) if value >= 0 and value == value.to_integral_value() else f"not natural: {value}"


def math_results(doc: Mapping[str, Any], responses: Sequence[str]) -> dict[str, int]:
    """Return whether a solution's answer is that of the worked solution, by math-verify (`process_results` of the harness)."""
    from math_verify import parse, verify

    limit = 5 if threading.current_thread() is threading.main_thread() else None  # its time limits are signals
    gold, found = (parse(text, parsing_timeout=limit) for text in (doc["solution"], responses[0]))
    return {"math_verify": int(verify(gold, found, timeout_seconds=limit))}
