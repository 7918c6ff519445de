"""Examples of answers, side by side in their own scripts, and the verdict of the safety gate."""

from __future__ import annotations

from collections.abc import Sequence

from sea_ray.report import formats
from sea_ray.report.data import Example, ReportData
from sea_ray.report.labels import in_order, language_heading, language_name, language_tag
from sea_ray.report.markup import Html, cell, details, element, heading, join, number, number_heading, paragraph, table

_LONGEST = 600
"""Characters of a text that are shown."""


def examples(data: ReportData) -> Html:
    """Return one example of each language, then all of them per language."""
    models = list(dict.fromkeys(model for row in data.examples for model in row.answers))
    by_language = {code: [row for row in data.examples if row.language == code]
                   for code in in_order(row.language for row in data.examples)}
    head = ["prompt", "expected", *models]
    first = [[language_heading(code), *_cells(rows[position % len(rows)], models)]
             for position, (code, rows) in enumerate(by_language.items())]
    return join([table(["Language", *head], first, "texts"),
                 *(_all_of(code, rows, head, models) for code, rows in by_language.items() if len(rows) > 1)])


def _all_of(code: str, rows: Sequence[Example], head: Sequence[str], models: Sequence[str]) -> Html:
    kinds = formats.listing(list(dict.fromkeys(row.kind for row in rows)))
    return details(f"{language_name(code)}: {len(rows)} examples ({kinds})",
                   table(["kind", *head], [[heading(row.kind), *_cells(row, models, False)] for row in rows], "texts"))


def _cells(example: Example, models: Sequence[str], with_kind: bool = True) -> list[Html]:
    kind = element("small", example.kind) if with_kind else None
    tag = language_tag(example.language)
    prompt = element("td", kind, _clip(example.prompt), lang=tag)
    reference = element("td", _clip(example.reference) or "–", lang=tag)
    answers = [element("td", _clip(example.answers[model]) or element("em", "empty answer"), lang=tag)
               if model in example.answers else cell("not run", "absent") for model in models]
    return [prompt, reference, *answers]


def _clip(text: str) -> str:
    left = len(text) - _LONGEST
    return text if left <= 0 else f"{text[:_LONGEST]}… (and {formats.count(left)} more characters)"


def gate(data: ReportData) -> Html:
    """Return the verdict of the safety gate, its reasons and its limits."""
    verdict = data.gate
    assert verdict is not None
    word = element("strong", "passed" if verdict.passed else "failed", class_="good" if verdict.passed else "bad")
    told = "the winner may be served." if verdict.passed else "the winner is not served unless told otherwise."
    reasons = element("ul", *(element("li", reason) for reason in verdict.reasons)) if verdict.reasons else None
    rows = [[heading(name.replace("_", " ")), number(formats.general(value))] for name, value in verdict.limits.items()]
    limits = table(["limit", number_heading("value")], rows, "compact") if rows else None
    return join([paragraph(join(["The gate ", word, f": {told}"])), reasons, limits])
