"""Where the figures come from: the corpus, the stages that ran, what they cost and how to repeat them."""

from __future__ import annotations

from collections.abc import Sequence

from sea_ray.report import formats
from sea_ray.report.bars import Bar, bars
from sea_ray.report.data import CorpusRow, ReportData, SourceRow, StageRow
from sea_ray.report.labels import in_order, language_row
from sea_ray.report.markup import Html, cell, details, element, heading, join, number, number_heading, paragraph, table
from sea_ray.report.svg import figure


def corpus(data: ReportData) -> Html:
    """Return documents, bytes and tokens per language and split, and what cleaning took away."""
    return join([splits(data.corpus) if data.corpus else None, _funnel(data) if data.funnel else None,
                 details("Sources and licences", sources(data.sources)) if data.sources else None])


def sources(rows: Sequence[SourceRow]) -> Html:
    """Return where the training data are from, and under which licence."""
    lines = [language_row(row.language, cell(row.use), cell(row.name), *map(_said, (row.licence, row.origin)),
                          number("–" if row.documents is None else formats.count(row.documents)),
                          number("–" if row.bytes is None else formats.size(row.bytes))) for row in rows]
    head = ["Language", "use", "source", "licence", "from", number_heading("documents"), number_heading("text")]
    return table(head, lines, "compact")


def splits(rows: Sequence[CorpusRow]) -> Html:
    """Return documents, bytes and tokens per language and split."""
    names = list(dict.fromkeys(row.split for row in rows))
    found = {(row.language, row.split): row for row in rows}
    lines = []
    for code in in_order(row.language for row in rows):
        cells: list[Html] = []
        for split in names:
            row = found.get((code, split))
            cells += [number("–"), number("–")] if row is None else [
                number(formats.count(row.documents)), number(formats.short_count(row.tokens))]
        own = [row for row in rows if row.language == code]
        num_bytes, tokens = sum(row.bytes for row in own), sum(row.tokens for row in own)
        rate = f"{tokens / num_bytes:.3f}" if num_bytes else "–"
        lines.append(language_row(code, *cells, number(formats.size(num_bytes)), number(rate)))
    columns = [*(text for split in names for text in (f"{split} documents", "tokens")), "text", "tokens per byte"]
    return table(["Language", *map(number_heading, columns)], lines, "compact")


def _said(text: str) -> Html:
    return cell(text or "not said", None if text else "quiet")


def _funnel(data: ReportData) -> Html:
    rows = sorted(data.funnel, key=lambda row: in_order(one.language for one in data.funnel).index(row.language))
    lines = [language_row(row.language, cell(row.step), number(formats.count(row.documents_in)),
                          number(formats.count(row.documents_out)), number(formats.count(row.documents_in - row.documents_out)),
                          number(formats.count(row.documents_changed)),
                          number(formats.size(row.bytes_in)), number(formats.size(row.bytes_out))) for row in rows]
    taken = sum(row.documents_in - row.documents_out for row in rows)
    columns = map(number_heading, ("documents in", "out", "taken out", "changed", "text in", "out"))
    return details(f"Cleaning, step by step: {formats.count(taken)} documents taken out",
                   table(["Language", "step", *columns], lines, "compact"))


def stages(data: ReportData) -> Html:
    """Return the cost of the whole, where the time went, and every stage with its time, engine and memory."""
    if not data.stages:
        return join([_cost(data), paragraph("No stage was recorded.", "absent")])
    head = ["Stage", "kind", number_heading("time"), "", "engine", number_heading("memory"), "fingerprint"]
    return join([_cost(data), _times(data.stages),
                 details(f"All {len(data.stages)} stages", table(head, [_stage(row) for row in data.stages], "compact"))])


def _times(rows: Sequence[StageRow]) -> Html:
    seconds: dict[str, list[float]] = {}
    for row in rows:
        seconds.setdefault(row.kind, []).append(row.seconds)
    shown = [Bar(name=kind.replace("_", " ") + (f" ({len(own)})" if len(own) > 1 else ""), value=sum(own),
                 title=f"{kind}: {formats.duration(sum(own))} in {len(own)} stages") for kind, own in seconds.items()]
    drawn = bars("Time per kind of stage", sorted(shown, key=lambda bar: -bar.value), width=620, format_value=formats.duration)
    return figure("Time of all stages of a kind; where stages ran side by side, together it is more than the wall time.", drawn)


def _stage(row: StageRow) -> list[Html]:
    return [heading(row.name), cell(row.kind), number(formats.duration(row.seconds)),
            cell("reused" if row.reused else "ran", "quiet" if row.reused else None), cell(row.engine or "–"),
            number(formats.size(row.peak_memory_bytes) if row.peak_memory_bytes else "–"),
            element("td", element("code", row.fingerprint)) if row.fingerprint else cell("–")]


def _cost(data: ReportData) -> Html:
    if data.cost is None:
        return paragraph("The cost of the whole run was not read.", "absent")
    cost = data.cost
    memory = formats.size(cost.peak_memory_bytes) if cost.peak_memory_bytes else "not read"
    machine = f", on {cost.machine}" if cost.machine else ""
    reused = sum(row.reused for row in data.stages)
    again = (f" {reused} of {len(data.stages)} stages were reused from an earlier run; their times are those of the "
             "run that made them.") if reused else ""
    return paragraph(
        f"{formats.duration(cost.wall_s)} of wall time{machine}; largest memory of all processes together: {memory}; "
        f"{formats.short_count(cost.tokens_trained)} tokens trained; "
        f"{'no prices were given' if cost.usd is None else f'{cost.usd:,.2f} USD'}.{again}")


def repeat(data: ReportData) -> Html:
    """Return the command, the software and the configuration."""
    versions = join((join([element("span", name), f" {version}"]) for name, version in data.versions.items()), " · ")
    return join([
        code_block(data.command) if data.command else paragraph("No command was recorded.", "absent"),
        paragraph(versions, "versions") or paragraph("Versions were not read.", "absent"),
        details("The whole configuration", code_block(data.config)) if data.config
        else paragraph("No configuration was recorded.", "absent")])


def code_block(text: str) -> Html:
    """Return text as it is typed."""
    return element("pre", element("code", text))
