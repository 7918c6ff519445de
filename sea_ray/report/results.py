"""The table of results: tasks x models, averaged per group of languages, with each language below."""

from __future__ import annotations

from collections.abc import Sequence

from sea_ray.report import formats
from sea_ray.report.averages import SMALL_SAMPLE, Average, average, select, trained
from sea_ray.report.data import FigureRow, ReportData, Unit
from sea_ray.report.dots import Dot, Series, dot_plot
from sea_ray.report.labels import in_order, language_heading, language_name, tones
from sea_ray.report.markup import Html, details, element, heading, join, number_heading, paragraph, table
from sea_ray.report.svg import figure

Key = tuple[str, str]
"""Task and metric."""


def results(data: ReportData, *, is_open: bool = False) -> Html:
    """Return the table of averages, and per task a picture and a table of its languages, opened or to be opened by a click."""
    models = list(dict.fromkeys(row.model for row in data.figures))
    keys = list(dict.fromkeys((row.task, row.metric) for row in data.figures))
    note = (f"In brackets the 95 % interval; n: items. Languages weigh the same in a mean. † fewer than {SMALL_SAMPLE} "
            "items. ↑ more is better, ↓ less is better." + (" The winner's column is tinted." if data.winner else ""))
    rows = [row for key in keys for row in _group_rows(data, key, models)]
    averages = element("div", element(
        "table",
        element("thead", element("tr", element("th", "Task", scope="col"), element("th", "Languages", scope="col"),
                                 *(_model_heading(model, data.winner) for model in models))),
        *rows, class_="results"), class_="scroll")
    return join([averages, paragraph(note, "note"), *(_task(data, key, models, is_open=is_open) for key in keys)])


def _model_heading(model: str, winner: str) -> Html:
    return number_heading(model, "num winner" if model == winner else "num")


def _group_rows(data: ReportData, key: Key, models: Sequence[str]) -> list[Html]:
    """Return one body per task: the mean of the trained languages, then English and Chinese."""
    of_task = [row for row in data.figures if (row.task, row.metric) == key]
    kept = [code for code in ("en", "zh") if any(row.language == code for row in of_task)]
    has_trained = bool(trained(of_task))
    groups = [*([None] if has_trained else []), *kept]
    rows = []
    for position, group in enumerate(groups):
        name = None if position else element(
            "th", element("span", f"{key[0]}, {key[1]} {_arrow(of_task[0])}"), _baselines(data, key, of_task[0].unit),
            scope="row", rowspan=len(groups))
        cells = [_average_cell(_of_group(select(data.figures, *key, model), group), model == data.winner)
                 for model in models]
        shown = language_name(group) if group else f"SEA, mean of {len({row.language for row in trained(of_task)})}"
        rows.append(element("tr", name, element("td", shown), *cells))
    return [element("tbody", *rows)]


def _of_group(figures: Sequence[FigureRow], group: str | None) -> list[FigureRow]:
    return trained(figures) if group is None else [row for row in figures if row.language == group]


def _arrow(row: FigureRow) -> str:
    unit = formats.unit_name(row.unit)
    return f"{unit} {'↑' if row.higher_is_better else '↓'}".strip()


def _baselines(data: ReportData, key: Key, unit: Unit) -> Html | None:
    found = [f"{one.label}: {formats.figure(one.value, unit)}"
             for one in data.baselines if (one.task, one.metric) == key]
    return element("small", "; ".join(found)) if found else None


def _average_cell(figures: Sequence[FigureRow], is_winner: bool) -> Html:
    mean = average(figures)
    if mean is None:
        return element("td", "not run", class_="num absent")
    return _value_cell(mean, is_winner)


def _value_cell(of: Average | FigureRow, is_winner: bool) -> Html:
    small = of.n < SMALL_SAMPLE
    interval = f"[{formats.figure(of.low, of.unit)}, {formats.figure(of.high, of.unit)}]"
    return element("td", formats.figure(of.value, of.unit), element("sup", "†") if small else None,
                   element("small", f"{interval} n {formats.count(of.n)}"),
                   class_="num" + (" winner" if is_winner else "") + (" few" if small else ""))


def _task(data: ReportData, key: Key, models: Sequence[str], *, is_open: bool) -> Html:
    figures = [row for row in data.figures if (row.task, row.metric) == key]
    colours = tones(models)
    series = [Series(name=model, tone=colours[model], dots={
        row.language: Dot(value=row.value, low=row.low, high=row.high, title=_tip(row))
        for row in select(figures, *key, model)}) for model in models]
    unit = figures[0].unit
    lines = {one.label: one.value for one in data.baselines if (one.task, one.metric) == key}
    shown = [one for one in series if one.dots]
    name = f"{key[0]}, {key[1]}"
    plot = dot_plot(f"{name} per language and model, with 95 % intervals", shown, width=760, lines=lines,
                    format_tick=lambda value: formats.figure(value, unit))
    languages = in_order(row.language for row in figures)
    beside = [one for one in data.published if (one.task, one.metric) == key]
    rows = [[language_heading(code), *(_language_cell(figures, key, model, code, data.winner) for model in models),
             *(_published_cell(one.values.get(code), unit) for one in beside)] for code in languages]
    if any(one.average is not None for one in beside):
        rows.append([heading("Mean", "of each column's own languages"),
                     *(_average_cell(select(figures, *key, model), model == data.winner) for model in models),
                     *(_published_cell(one.average, unit) for one in beside)])
    head = ["Language", *(_model_heading(model, data.winner) for model in models),
            *(number_heading(join([one.model, element("small", "published")]), "num published") for one in beside)]
    sources = list(dict.fromkeys(one.source for one in beside))
    return details(f"{name}: each of {len(languages)} languages",
                   figure(f"{name} {_arrow(figures[0])}; whiskers are 95 % intervals.", plot,
                          marks=[(one.name, one.tone) for one in shown]),
                   table(head, rows, "results"),
                   *(paragraph(f"Published, not measured here: {source}.", "note") for source in sources),
                   is_open=is_open)


def _published_cell(value: float | None, unit: Unit) -> Html:
    return element("td", "–" if value is None else formats.figure(value, unit), class_="num published")


def _language_cell(figures: Sequence[FigureRow], key: Key, model: str, code: str, winner: str) -> Html:
    found = [row for row in select(figures, *key, model) if row.language == code]
    return _value_cell(found[0], model == winner) if found else element("td", "not run", class_="num absent")


def _tip(row: FigureRow) -> str:
    unit = row.unit
    return (f"{language_name(row.language)}, {row.model}: {formats.figure(row.value, unit)} "
            f"[{formats.figure(row.low, unit)}, {formats.figure(row.high, unit)}], n = {row.n}")
