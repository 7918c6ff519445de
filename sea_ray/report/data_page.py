"""The page of a corpus: what cleaning took, how languages share the text, what they cost in tokens, samples to look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sea_ray.report import formats
from sea_ray.report.data import CorpusRow, FunnelRow, SourceRow
from sea_ray.report.labels import in_order, language_heading, language_name, language_tag
from sea_ray.report.markup import Html, cell, element, join, number, number_heading, paragraph, table
from sea_ray.report.page import masthead, page, write_page
from sea_ray.report.provenance import code_block, sources, splits

_LONGEST_SAMPLE = 400
_MOST_OVERLAPS = 40
_STEP_TITLES = {"read": "unreadable", "zawgyi": "Zawgyi", "clean": "empty, short", "mask": "personal data",
                "identify": "other language", "decontaminate": "in a benchmark", "deduplicate": "repeated",
                "limit": "beyond the limit", "near_deduplicate": "near-repeated", "quality": "unlikely"}


@dataclass(frozen=True, kw_only=True)
class FertilityRow:
    """What the train text of one language takes."""

    language: str
    documents: int
    characters: int
    bytes: int
    """UTF-8."""
    tokens: int
    own_tokens_per_byte: float | None = None
    """Of the checkpoint's tokenizer before it got new pieces; None where it got none."""


@dataclass(frozen=True, kw_only=True)
class ConversationRow:
    """Conversations of one language, and one kind if it has a share of its own, in one stage of fine-tuning."""

    stage: str
    language: str
    kind: str = ""
    """"" for all that have no share of their own."""
    conversations: int
    """Packed."""
    too_long: int
    """Left out because they are longer than a sequence."""
    contaminated: int
    """Left out because they repeat a benchmark's item."""
    in_corpus: int
    """Left out because the corpus holds the invented name that they ask for."""
    filled: float
    """Share of the positions of packed sequences that hold a token."""
    share: float
    """Share of the samples that the stage draws."""
    epochs: float
    """How often the stage sees each sequence."""


@dataclass(frozen=True, kw_only=True)
class OverlapRow:
    """A document or conversation that is left out, since it repeats a benchmark's item."""

    part: str
    """"text", or the stage of fine-tuning."""
    language: str
    file: str
    row: int
    """Of the text in the file."""
    item: str
    """Which item."""
    passage: str
    """What both share: letters, vowel signs and digits."""


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """All that the page shows."""

    experiment: str
    made_at: str
    """Date and time, as it shall read."""
    command: str
    """Repeats the run."""
    funnel: tuple[FunnelRow, ...]
    corpus: tuple[CorpusRow, ...]
    fertility: tuple[FertilityRow, ...]
    conversations: tuple[ConversationRow, ...]
    sources: tuple[SourceRow, ...]
    overlaps: tuple[OverlapRow, ...] = ()
    samples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Language -> documents of the train part."""


def write_data_report(data: DataReport, file: Path) -> None:
    """Write the page as one self-contained HTML file, whole or not at all."""
    title = f"Data of {data.experiment}"
    sections = (("Cleaning", _funnel(data.funnel)), ("Parts", splits(data.corpus)), ("Tokens", _fertility(data.fertility)),
                ("Fine-tuning conversations", _conversations(data.conversations)),
                *((("Left out, since it stands in a benchmark", _overlaps(data.overlaps)),) if data.overlaps else ()),
                ("Sources and licences", sources(data.sources)), ("Samples", _samples(data.samples)),
                ("How to repeat it", code_block(data.command)))
    body = [element("section", element("h2", heading), shown) for heading, shown in sections]
    write_page(page(title, masthead(title, data.experiment, data.made_at), *body), file)


def _funnel(rows: Sequence[FunnelRow]) -> Html:
    steps = [step for step in _STEP_TITLES if any(row.step == step for row in rows)]
    lines = []
    for code in in_order(row.language for row in rows):
        own = {row.step: row for row in rows if row.language == code}
        first, last = own["read"], own[[step for step in steps if step in own][-1]]
        lines.append([
            language_heading(code), number(formats.count(first.documents_in)), *(_taken(own.get(step)) for step in steps),
            number(formats.count(last.documents_out)), number(formats.share(last.documents_out / max(1, first.documents_in))),
            number(formats.size(last.bytes_out))])
    head = ["documents", *(_STEP_TITLES[step] for step in steps), "kept", "", "text"]
    return join([paragraph("What each step took out, in documents; in the second line, how many it changed."),
                 table(["Language", *map(number_heading, head)], lines, "compact")])


def _taken(row: FunnelRow | None) -> Html:
    if row is None:
        return number("–")
    changed = f"{formats.count(row.documents_changed)} changed" if row.documents_changed else None
    return number(join([formats.count(row.documents_in - row.documents_out),
                        None if changed is None else element("small", changed)]))


def _fertility(rows: Sequence[FertilityRow]) -> Html:
    total = sum(row.tokens for row in rows)
    found = {row.language: row for row in rows}
    lines = []
    for code in in_order(found):
        row = found[code]
        lines.append([
            language_heading(code), number(formats.short_count(row.tokens)), number(formats.share(row.tokens / max(1, total))),
            *(number(f"{row.tokens / max(1, size):.3g}") for size in (row.bytes, row.characters, row.documents)),
            *([] if row.own_tokens_per_byte is None else [number(f"{row.own_tokens_per_byte:.3g}")])])
    head = ["tokens", "share", "per byte", "per character", "per document"]
    if any(row.own_tokens_per_byte is not None for row in rows):
        head.append("per byte without the new pieces (validation part)")
    return join([paragraph("Train part. The more tokens a language takes for what it says, the less of it fits into a budget of "
                           "tokens: compare documents of parallel text."),
                 table(["Language", *map(number_heading, head)], lines, "compact")])


def _conversations(rows: Sequence[ConversationRow]) -> Html:
    return join(_stage(name, [row for row in rows if row.stage == name]) for name in dict.fromkeys(row.stage for row in rows))


def _stage(name: str, rows: Sequence[ConversationRow]) -> Html:
    with_kinds = any(row.kind for row in rows)
    lines = [[language_heading(code), *([cell(row.kind.replace("_", " ") or "others")] if with_kinds else []),
              number(formats.count(row.conversations)), number(formats.count(row.too_long)),
              number(formats.count(row.contaminated)), number(formats.count(row.in_corpus)), number(formats.share(row.filled)),
              number(formats.share(row.share)), number(f"{row.epochs:.2g}")]
             for code in in_order({row.language: row for row in rows}) for row in rows if row.language == code]
    head = ["conversations", "too long", "in a benchmark", "name in the corpus", "positions filled", "share drawn", "epochs"]
    return join([element("h3", f"Stage {name.replace('_', ' ')}"),
                 table(["Language", *(["Kind"] if with_kinds else []), *map(number_heading, head)], lines, "compact")])


def _overlaps(rows: Sequence[OverlapRow]) -> Html:
    groups: dict[tuple[str, str], list[OverlapRow]] = {}
    for row in rows:
        groups.setdefault((row.part, row.language), []).append(row)
    lines = [[language_heading(row.language), cell(row.part.replace("_", " ")),
              cell(f"{row.file}, {row.row:,}" if row.row else row.file), cell(row.item),
              cell(element("span", row.passage, lang=language_tag(row.language)))]
             for some in groups.values() for row in some[:_MOST_OVERLAPS]]
    return join([
        paragraph("Nothing is trained on what repeats an item of a benchmark that is asked: a long common passage of letters and "
                  "digits, or a short item as a whole. Numbers count the documents of a file of text, and the lines or rows of a "
                  f"file of conversations. Shown are {_MOST_OVERLAPS} of each language at most; the corpus' "
                  "documents/funnel.json and the conversations' record name the first thousand. All are counted above."),
        table(["Language", "Of", "File, number", "Item", "What both share"], lines, "compact")])


def _samples(samples: Mapping[str, Sequence[str]]) -> Html:
    lines: Iterable[list[Html]] = (
        [language_heading(code), *(cell(element("span", text[:_LONGEST_SAMPLE], lang=language_tag(code)))
                                   for text in samples[code])]
        for code in in_order(samples))
    most = max(map(len, samples.values()), default=0)
    note = ", ".join(language_name(code) for code in in_order(samples) if not samples[code])
    return join([table(["Language", *(f"document {number + 1}" for number in range(most))], lines, "texts"),
                 paragraph(f"No document: {note}." if note else "")])
