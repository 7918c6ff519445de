"""Examples of answers, side by side in their own scripts."""

from __future__ import annotations

from collections.abc import Sequence

from sea_ray.report import formats
from sea_ray.report.data import Example, ReportData
from sea_ray.report.labels import in_order, language_heading, language_name, language_tag
from sea_ray.report.markup import Html, cell, details, element, heading, join, table
from sea_ray.report.names import task_name

_LONGEST = 600
"""Characters of a text that are shown."""


def examples(data: ReportData) -> Html:
    """Return one example of each language, then all of them per language."""
    models = list(dict.fromkeys(model for row in data.examples for model in row.answers))
    by_language = {code: [row for row in data.examples if row.language == code]
                   for code in in_order(row.language for row in data.examples)}
    kinds = list(dict.fromkeys(row.kind for row in data.examples))
    first = [element("tr", language_heading(code), *_cells(_chosen(rows, kinds[number % len(kinds)]), models, data.examples),
                     data_language=code) for number, (code, rows) in enumerate(by_language.items())]
    return join([table(["Language", *_head(data.examples, models)], first, "texts"),
                 *(_all_of(code, rows, models) for code, rows in by_language.items() if len(rows) > 1)])


def _chosen(rows: Sequence[Example], kind: str) -> Example:
    return next((row for row in rows if row.kind == kind), rows[0])


def _head(shown: Sequence[Example], models: Sequence[str]) -> list[str]:
    return ["prompt", *(["expected"] if any(row.reference for row in shown) else []), *models]


def _all_of(code: str, rows: Sequence[Example], models: Sequence[str]) -> Html:
    lines = [[heading(task_name(row.kind)), *_cells(row, models, rows, False)] for row in rows]
    return element("div", details(f"{language_name(code)}: {len(rows)} examples",
                                  table(["kind", *_head(rows, models)], lines, "texts")), data_language=code)


def _cells(example: Example, models: Sequence[str], beside: Sequence[Example], with_kind: bool = True) -> list[Html]:
    kind = element("small", task_name(example.kind), lang="en") if with_kind else None
    tag = language_tag(example.language)
    cells = [element("td", kind, _clip(example.prompt), lang=tag)]
    if any(row.reference for row in beside):
        cells.append(element("td", _clip(example.reference) or "–", lang=tag))
    return [*cells, *(_answer(example, model, tag) for model in models)]


def _answer(example: Example, model: str, tag: str) -> Html:
    if model not in example.answers:
        return cell("not run", "absent")
    right = example.right.get(model)
    verdict = None if right is None else element(
        "small", "✓ right" if right else "✗ wrong", class_="good" if right else "bad", lang="en")
    return element("td", verdict, _clip(example.answers[model]) or element("em", "empty answer", lang="en"), lang=tag)


def _clip(text: str) -> str:
    left = len(text) - _LONGEST
    return text if left <= 0 else f"{text[:_LONGEST]}… (and {formats.count(left)} more characters)"
