"""The top of the page: what was asked and run, what won and why, a few figures, what was found and what was not."""

from __future__ import annotations

from collections.abc import Sequence

from sea_ray.report import formats
from sea_ray.report.averages import average, average_change, select, trained, verdict
from sea_ray.report.data import ReportData, Sweep
from sea_ray.report.formats import point_text
from sea_ray.report.labels import is_kept, language_name
from sea_ray.report.markup import Html, element, join, paragraph
from sea_ray.report.names import meanings, title


def summary(data: ReportData) -> Html:
    """Return question, what was run, winner, tiles and findings."""
    lines = [("Asked", data.question), ("Run", data.ran), ("Winner", _winner(data))]
    pairs = [join([element("dt", name), element("dd", text)]) for name, text in lines if text]
    tiles = [*_gate_tile(data), *_task_tiles(data), *_bits_tiles(data), *_cost_tiles(data)]
    return join([element("dl", *pairs, class_="asked"),
                 element("div", *tiles, class_="tiles") if tiles else None, _findings(data)])


def _winner(data: ReportData) -> Html:
    """Return with which settings each sweep was won, and why."""
    if not data.winner:
        return Html("none was chosen")
    won = [(sweep, next((trial for trial in sweep.trials if trial.is_winner), None)) for sweep in data.sweeps]
    settings = formats.listing([point_text(trial.point) for _, trial in won if trial])
    reasons = [join([element("a", sweep.name, href="#sweeps"), f": {formats.sentence(sweep.reason + _meaning(sweep))}"])
               for sweep, trial in won if trial and sweep.reason]
    return join([element("strong", settings or data.winner), *(paragraph(reason, "why") for reason in reasons)])


def _meaning(sweep: Sweep) -> str:
    told = meanings([sweep.metric])
    return f" ({sweep.metric}: {told[sweep.metric]})" if told else ""


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
        tiles.append(_tile(f"{_capital(sea[0].arm)}, before fine-tuning: bits per byte", formats.change(value),
                           f"{_interval(low, high)}, {_languages(len(sea))}; the whole interval is below 0 in {surely} of them"))
    tiles += [_tile(f"The same in {language_name(row.language)}", formats.change(row.change, 2),
                    f"{_interval(row.change_low, row.change_high, 2)}; less is better") for row in method if row.language == "en"]
    return tiles


def _task_tiles(data: ReportData) -> list[Html]:
    models = list(dict.fromkeys(row.model for row in data.figures))
    tiles = []
    for task, metric in data.headline:
        rows = {model: trained(select(data.figures, task, metric, model)) for model in models}
        best = average(rows.get(data.winner, ()))
        if best is None:
            continue
        first = average(rows[models[0]]) if models[0] != data.winner else None
        interval = f"{formats.figure(best.low, best.unit)} to {formats.figure(best.high, best.unit)}"
        told = [f"{interval}, {_languages(best.num_languages)}"]
        if first:
            told.append(f"{models[0]} {formats.figure(first.value, first.unit)}: "
                        + verdict(best, first, higher_is_better=rows[data.winner][0].higher_is_better))
        value = formats.figure(best.value, best.unit) + (" %" if best.unit == "share" else "")
        tiles.append(_tile(title(task, metric), value, "; ".join(told)))
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
    told = [f"{cost.usd:,.2f} USD" if cost.usd is not None else "",
            f"{formats.size(cost.peak_memory_bytes)} at most in memory" if cost.peak_memory_bytes else "",
            f"{reused} of {len(data.stages)} stages reused" if reused else ""]
    return [_tile("This run took", formats.duration(cost.wall_s), "; ".join(filter(None, told)))]


def _findings(data: ReportData) -> Html:
    if not data.has("findings"):
        return paragraph(f"No findings were stated. {data.missing.get('findings', '')}".strip(), "absent")
    columns = (("Found", data.found, "found"), ("Not found, or worse", data.not_found, "not-found"),
               ("What this does not show", data.not_shown, "not-shown"))
    return element("div", *(
        element("div", element("h3", name), _list(sentences), class_=class_)
        for name, sentences, class_ in columns if sentences), class_="findings")


def _list(sentences: Sequence[str]) -> Html:
    return element("ul", *(element("li", sentence.replace(" %", "\u00a0%")) for sentence in sentences))


def _interval(low: float, high: float, digits: int = 1) -> str:
    return f"{formats.change(low, digits)} to {formats.change(high, digits)}"


def _languages(number: int) -> str:
    return f"mean of {number} SEA languages" if number > 1 else "one SEA language"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
