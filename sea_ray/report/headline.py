"""The top of the page: what was asked, what won and why, a few figures, what was found and what was not."""

from __future__ import annotations

from collections.abc import Sequence

from sea_ray.report import formats
from sea_ray.report.averages import average, average_change, select, trained
from sea_ray.report.data import BitsRow, ReportData
from sea_ray.report.labels import is_kept, language_name
from sea_ray.report.markup import Html, element, escape, join, paragraph


def summary(data: ReportData) -> Html:
    """Return question, winner, tiles and findings."""
    winner = escape(data.winner)
    lines = [("Asked", escape(data.question)),
             ("Winner", join([element("strong", winner), f" — {data.winner_reason}" if data.winner_reason else None])
              if data.winner else Html("none was chosen"))]
    pairs = [join([element("dt", name), element("dd", text)]) for name, text in lines if text]
    tiles = [*_bits_tiles(data), *_task_tiles(data), *_gate_tile(data), *_cost_tiles(data)]
    return join([element("dl", *pairs, class_="asked"),
                 element("div", *tiles, class_="tiles") if tiles else None, _findings(data)])


def _tile(label: str, value: str, detail: str, tone: str = "") -> Html:
    return element("div", element("span", label, class_="what"), element("strong", value), element("small", detail),
                   class_=f"tile {tone}".strip())


def _bits_tiles(data: ReportData) -> list[Html]:
    method = [row for row in data.bits if row.arm == data.bits[0].arm]
    sea = [row for row in method if not is_kept(row.language)]
    tiles = []
    if sea:
        value, low, high = average_change(sea)
        surely = sum(row.change_high < 0 for row in sea)
        tiles.append(_tile(f"Bits per byte, {_languages(len(sea))}", formats.change(value),
                           f"{_interval(low, high)}; lower in {surely} of {len(sea)} with the whole interval below 0"))
    tiles += [_kept_tile(row) for row in method if row.language == "en"]
    return tiles


def _kept_tile(row: BitsRow) -> Html:
    return _tile(f"Bits per byte, {language_name(row.language)}", formats.change(row.change, 2),
                 f"{_interval(row.change_low, row.change_high, 2)}; less is better")


def _task_tiles(data: ReportData) -> list[Html]:
    models = list(dict.fromkeys(row.model for row in data.figures))
    tiles = []
    for task, metric in data.headline:
        means = [average(trained(select(data.figures, task, metric, model))) for model in models]
        shown = dict(zip(models, means, strict=True))
        best = shown.get(data.winner)
        if best is None:
            continue
        first = shown[models[0]] if models[0] != data.winner else None
        beside = f"; {models[0]} {formats.figure(first.value, first.unit)}" if first else ""
        interval = f"{formats.figure(best.low, best.unit)} to {formats.figure(best.high, best.unit)}"
        unit = f" {formats.unit_name(best.unit)}".rstrip()
        tiles.append(_tile(f"{task[:1].upper()}{task[1:]}, {metric}", formats.figure(best.value, best.unit) + unit,
                           f"{interval}, {_languages(best.num_languages)}{beside}"))
    return tiles


def _gate_tile(data: ReportData) -> list[Html]:
    if data.gate is None:
        return []
    if data.gate.passed:
        return [_tile("Safety gate", "passed", "the winner may be served", "good")]
    return [_tile("Safety gate", "failed", "the winner is not served unless told otherwise", "bad")]


def _cost_tiles(data: ReportData) -> list[Html]:
    if data.cost is None:
        return []
    cost = data.cost
    reused = sum(stage.reused for stage in data.stages)
    again = f"; {reused} of {len(data.stages)} stages reused" if reused else ""
    memory = f"{formats.size(cost.peak_memory_bytes)} at most in memory" if cost.peak_memory_bytes else ""
    return [_tile("This run", formats.duration(cost.wall_s), f"{memory}{again}".removeprefix("; "))]


def _findings(data: ReportData) -> Html:
    if not data.has("findings"):
        return paragraph(f"No findings were stated. {data.missing.get('findings', '')}".strip(), "absent")
    columns = (("Found", data.found, "found"), ("Looked for and not found", data.not_found, "not-found"),
               ("What this does not show", data.not_shown, "not-shown"))
    return element("div", *(
        element("div", element("h3", title), _list(sentences), class_=class_)
        for title, sentences, class_ in columns), class_="findings")


def _list(sentences: Sequence[str]) -> Html:
    if not sentences:
        return paragraph("Nothing was stated.", "absent")
    return element("ul", *(element("li", sentence) for sentence in sentences))


def _interval(low: float, high: float, digits: int = 1) -> str:
    return f"{formats.change(low, digits)} to {formats.change(high, digits)}"


def _languages(number: int) -> str:
    return f"mean of {number} SEA languages" if number > 1 else "one SEA language"
