"""What the pages of all studies have in common: question and answer on top, how to repeat it at the end."""

from __future__ import annotations

from collections.abc import Sequence

from sea_ray.report import formats
from sea_ray.report.markup import Html, cell, details, element, heading, join, number, number_heading, paragraph, table
from sea_ray.report.page import masthead, page
from sea_ray.report.provenance import code_block
from sea_ray.report.study_data import StudyHead

Section = tuple[str, str, Html]
"""Anchor, title and body."""


def study_page(head: StudyHead, title: str, question: str, sections: Sequence[Section]) -> str:
    """Return the page of a study as text.

    Args:
        head: of the study.
        title: of the page.
        question: what is asked, in words.
        sections: between the answer and how to repeat it.
    """
    every = [*sections, ("repeat", "How to repeat it", _repeat(head))]
    return page(
        f"Study: {head.name}", masthead(title, head.name, head.made_at),
        element("dl", element("dt", "Question"), element("dd", question), element("dt", "Answer"),
                element("dd", *(paragraph(sentence) for sentence in head.answer)), class_="asked"),
        element("nav", *(element("a", name, href=f"#{anchor}") for anchor, name, _ in every), aria_label="Contents"),
        *(element("section", element("h2", name), body, id=anchor) for anchor, name, body in every))


def _repeat(head: StudyHead) -> Html:
    versions = " · ".join(f"{name} {version}" for name, version in head.versions.items())
    rows = [[heading(row.name), cell(row.kind), number(formats.duration(row.seconds)),
             element("td", element("code", row.fingerprint))] for row in head.stages]
    cost = head.cost
    reused = sum(row.reused for row in head.stages)
    told = paragraph(f"The whole study took {formats.duration(cost.wall_s)}{f', on {cost.machine}' if cost.machine else ''}; "
                     f"{formats.short_count(cost.tokens_trained)} tokens trained in {len(head.stages)} stages, {reused} of them "
                     "reused.") if cost else None
    return join([code_block(head.command), paragraph(versions, "versions"), told,
                 details("The whole configuration", code_block(head.config)),
                 details(f"All {len(head.stages)} stages",
                         table(["Stage", "kind", number_heading("time"), "fingerprint"], rows, "compact"))])
