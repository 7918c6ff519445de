"""The page of `sea-ray evaluate`: the figures of one model, published ones beside, and whether it was trained on the test."""

from __future__ import annotations

from collections.abc import Sequence

from sea_ray.report.data import ReportData
from sea_ray.report.markup import Html, cell, details, element, join, number, number_heading, paragraph, table
from sea_ray.report.page import masthead, page
from sea_ray.report.provenance import repeat
from sea_ray.report.results import results

Row = tuple[str, str, int]
"""Item, file and row of training data."""
_SHOWN = 200


def evaluation_page(data: ReportData, trained_on: Sequence[Row], unknown: Sequence[str]) -> str:
    """Return the page as text.

    Args:
        data: the model's name as experiment, its figures, published ones, command, and settings as config.
        trained_on: items that stand in rows of its training data.
        unknown: in words: training data that could not be looked into.
    """
    sections = (("figures", "Results", results(data, is_open=True)),
                ("overlap", "Trained on the test?", _overlap(trained_on, unknown)),
                ("repeat", "How to repeat it", repeat(data)))
    return page(f"{data.title}: {data.experiment}", masthead(data.title, data.experiment, data.made_at),
                *(element("section", element("h2", title), body, id=anchor) for anchor, title, body in sections))


def _overlap(found: Sequence[Row], unknown: Sequence[str]) -> Html:
    said = "" if unknown else "No item stands in what it was trained on."
    if found:
        said = (f"Items that stand in what it was trained on: {len({item for item, _, _ in found}):,}. The figures of their "
                "benchmarks are not to be trusted.")
    rows = [[cell(item), element("td", element("code", file)), number(f"{row:,}")] for item, file, row in found[:_SHOWN]]
    more = f"The first {_SHOWN} of {len(found):,}; overlap.json has all." if len(found) > _SHOWN else None
    return join([paragraph(said, "bad" if found else None),
                 details("Each item and row", table(["Item", "file", number_heading("row")], rows, "compact", more),
                         is_open=len(found) <= 10) if found else None,
                 *(paragraph(f"Not looked into: {what}.", "absent") for what in unknown)])
