"""The page: its parts in reading order, one file without outside requests."""

from __future__ import annotations

import base64
import hashlib
import os
import uuid
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from sea_ray.report.bits import bits_per_byte
from sea_ray.report.data import Part, ReportData
from sea_ray.report.examples import examples
from sea_ray.report.formats import moment
from sea_ray.report.headline import summary
from sea_ray.report.labels import in_order, language_name
from sea_ray.report.markup import Html, element, join, paragraph
from sea_ray.report.neuron_maps import interference, neuron_maps, overlap
from sea_ray.report.provenance import corpus, repeat, stages
from sea_ray.report.results import results
from sea_ray.report.safety import safety
from sea_ray.report.sweeps import sweeps
from sea_ray.report.trainings import trainings

_SECTIONS: tuple[tuple[Part, str, Callable[[ReportData], Html]], ...] = (
    ("figures", "Results", results),
    ("bits", "Bits per byte", bits_per_byte),
    ("gate", "Safety and over-refusal", safety),
    ("examples", "Answers side by side", examples),
    ("sweeps", "Sweeps", sweeps),
    ("neurons", "Neurons of each language", neuron_maps),
    ("overlap", "Overlap of languages", overlap),
    ("interference", "Interference of packs", interference),
    ("trainings", "Trainings", trainings),
    ("corpus", "Corpus", corpus),
    ("stages", "Stages and cost", stages),
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
"""Nothing is loaded and no script but ours runs, whatever text the page carries."""


def write_report(data: ReportData, file: Path) -> None:
    """Write the report as one self-contained HTML file, whole or not at all.

    Args:
        data: what to show.
        file: such as runs/demo/report.html; its folder is made.
    """
    write_page(render(data), file)


def write_page(text: str, file: Path) -> None:
    """Write a page, whole or not at all; its folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    temporary.write_bytes(text.encode("utf-8", errors="replace"))
    os.replace(temporary, file)


def render(data: ReportData) -> str:
    """Return the page as text."""
    return page(f"{data.title}: {data.experiment}", masthead(data.title, data.experiment, data.made_at), summary(data),
                _contents(data), _filter(data), *(_section(data, *entry) for entry in _SECTIONS), _repeat(data))


def page(title: str, *parts: Html | None) -> str:
    """Return a whole page of this project's look."""
    style, script = (resources.files("sea_ray.report").joinpath(name).read_text(encoding="utf-8")
                     for name in ("style.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    head = element(
        "head", element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY.format(digest=digest)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title), element("link", rel="icon", href="data:,"),
        element("style", Html(style)))
    body = element("body", element("main", *parts), element("script", Html(script)))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def masthead(title: str, experiment: str, made_at: str) -> Html:
    """Return the top of a page."""
    return element("header", element("h1", title),
                   element("p", join([element("strong", experiment), f" · {moment(made_at)}"]), class_="byline"))


def _contents(data: ReportData) -> Html:
    links = [element("a", title, None if data.has(part) else element("small", " not run"), href=f"#{part}")
             for part, title, _ in _SECTIONS]
    folded = paragraph("What is folded on the screen is printed where it was opened before.", "folded note")
    return join([folded, element("nav", *links, element("a", "How to repeat it", href="#repeat"), aria_label="Contents")])


def _filter(data: ReportData) -> Html | None:
    """Return the choice of one language, which the script makes visible and works; without it all are shown."""
    codes = in_order([row.language for row in data.figures] or [row.language for row in data.corpus])
    if len(codes) < 2:
        return None
    options = [element("option", name, value=code)
               for code, name in [("", "all languages"), *((code, language_name(code)) for code in codes)]]
    return element("div", element("label", "Show ", element("select", *options)), class_="filter scripted", hidden=True)


def _section(data: ReportData, part: Part, title: str, body: Callable[[ReportData], Html]) -> Html:
    reason = data.missing.get(part, "")
    if data.has(part):
        partly = paragraph(f"In part not run: {reason}", "absent") if reason else None
        shown = join([paragraph(data.notes.get(part, "")), partly, body(data)])
    else:
        shown = paragraph(f"Not run. {reason}".strip(), "absent")
    return element("section", element("h2", title), shown, id=part)


def _repeat(data: ReportData) -> Html:
    return element("section", element("h2", "How to repeat it"), repeat(data), id="repeat")
