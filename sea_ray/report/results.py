"""The table of results: tasks x models, averaged per group of languages, with each language below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sea_ray.report import formats
from sea_ray.report.averages import SMALL_SAMPLE, Average, average, select, trained
from sea_ray.report.data import FigureRow, ReportData, Unit
from sea_ray.report.dots import Dot, Series, dot_plot
from sea_ray.report.labels import in_order, is_kept, language_name, language_row, tones
from sea_ray.report.markup import Html, details, element, heading, join, number, number_heading, paragraph, table
from sea_ray.report.names import Key, themes, title
from sea_ray.report.svg import figure


def results(data: ReportData, *, is_open: bool = False) -> Html:
    """Return the table of averages, and per task a picture and a table of its languages, opened or to be opened by a click."""
    models = list(dict.fromkeys(row.model for row in data.figures))
    keys = themes((row.task, row.metric) for row in data.figures)
    note = (f"In brackets the 95 % interval; n: items. Languages weigh the same in a mean. † fewer than {SMALL_SAMPLE} "
            "items. ↑ more is better, ↓ less is better." + (" The winner's column is tinted." if data.winner else ""))
    bodies = [body for theme, own in keys.items() for body in (
        _theme_row(theme, len(models)) if len(keys) > 1 else None, *(_group_rows(data, key, models) for key in own))]
    averages = element("div", element(
        "table",
        element("thead", element("tr", element("th", "Task", scope="col"), element("th", "Languages", scope="col"),
                                 number_heading("n"), *(_model_heading(model, data.winner) for model in models))),
        *bodies, class_="results"), class_="scroll")
    return join([averages, paragraph(note, "note"),
                 *(_task(data, key, models, is_open=is_open) for own in keys.values() for key in own)])


def _theme_row(theme: str, num_models: int) -> Html:
    return element("tbody", element("tr", element("th", theme, scope="colgroup", colspan=str(num_models + 3))), class_="theme")


def _model_heading(model: str, winner: str) -> Html:
    return number_heading(model, "num winner" if model == winner else "num")


def _group_rows(data: ReportData, key: Key, models: Sequence[str]) -> Html:
    """Return one body per task: the mean of the trained languages, then English and Chinese."""
    of_task = [row for row in data.figures if (row.task, row.metric) == key]
    kept = [code for code in in_order(row.language for row in of_task) if is_kept(code)]
    groups = [*([None] if trained(of_task) else []), *kept]
    rows = []
    for position, group in enumerate(groups):
        name = None if position else element(
            "th", element("span", f"{title(*key)}\u00a0{_arrow(of_task[0])}"), _baselines(data, key, of_task[0].unit),
            scope="row", rowspan=str(len(groups)))
        means = {model: average(_of_group(select(data.figures, *key, model), group)) for model in models}
        shown = language_name(group) if group else f"SEA, mean of {len({row.language for row in trained(of_task)})}"
        rows.append(element("tr", name, element("td", shown, class_="group"), *_cells(means, data.winner)))
    return element("tbody", *rows)


def _of_group(figures: Sequence[FigureRow], group: str | None) -> list[FigureRow]:
    return trained(figures) if group is None else [row for row in figures if row.language == group]


def _arrow(row: FigureRow) -> str:
    """Return the unit and which direction is better, never broken over lines."""
    return ("%\u00a0" if row.unit == "share" else "") + ("↑" if row.higher_is_better else "↓")


def _baselines(data: ReportData, key: Key, unit: Unit) -> Html | None:
    found = [f"{one.label}: {formats.figure(one.value, unit)}"
             for one in data.baselines if (one.task, one.metric) == key]
    return element("small", "; ".join(found)) if found else None


def _cells(of: Mapping[str, Average | FigureRow | None], winner: str) -> list[Html]:
    """Return how many items are behind each model's figure, from least to most where they differ, and the figures."""
    counts = sorted({one.n for one in of.values() if one is not None})
    items = "–".join(map(formats.count, dict.fromkeys((counts[0], counts[-1])))) if counts else "–"
    return [number(items), *(_value_cell(one, model == winner) for model, one in of.items())]


def _value_cell(of: Average | FigureRow | None, is_winner: bool) -> Html:
    if of is None:
        return element("td", "not run", class_="num absent")
    small = of.n < SMALL_SAMPLE
    interval = f"[{formats.figure(of.low, of.unit)}, {formats.figure(of.high, of.unit)}]"
    return element("td", formats.figure(of.value, of.unit), element("sup", "†") if small else None, " ",
                   element("small", interval), class_="num" + (" winner" if is_winner else "") + (" few" if small else ""))


def _task(data: ReportData, key: Key, models: Sequence[str], *, is_open: bool) -> Html:
    figures = [row for row in data.figures if (row.task, row.metric) == key]
    colours = tones(models)
    series = [Series(name=model, tone=colours[model], dots={
        row.language: Dot(value=row.value, low=row.low, high=row.high, title=_tip(row))
        for row in select(figures, *key, model)}) for model in models]
    unit = figures[0].unit
    lines = {one.label: one.value for one in data.baselines if (one.task, one.metric) == key}
    shown = [one for one in series if one.dots]
    name = title(*key)
    plot = dot_plot(f"{name} per language and model, with 95 % intervals", shown, width=760, lines=lines,
                    format_tick=lambda value: formats.figure(value, unit))
    return details(f"{name}: each of {len({row.language for row in figures})} languages",
                   figure(f"{name} {_arrow(figures[0])}; whiskers are 95 % intervals.", plot,
                          marks=[(one.name, one.tone) for one in shown]),
                   _languages(data, key, models), is_open=is_open)


def _languages(data: ReportData, key: Key, models: Sequence[str]) -> Html:
    """Return the table of a task's languages: what was measured, and beside it, marked, what others have published."""
    figures = {model: select(data.figures, *key, model) for model in models}
    own = [row for rows in figures.values() for row in rows]
    beside = [one for one in data.published if (one.task, one.metric) == key]
    rows = [language_row(code, *_cells({model: next((row for row in figures[model] if row.language == code), None)
                                        for model in models}, data.winner),
                         *(_published_cell(one.values.get(code), own[0].unit) for one in beside))
            for code in in_order(row.language for row in own)]
    if any(one.average is not None for one in beside):
        rows.append(element("tr", heading("Mean", "of each column's own languages"),
                            *_cells({model: average(figures[model]) for model in models}, data.winner),
                            *(_published_cell(one.average, own[0].unit) for one in beside)))
    head = ["Language", number_heading("n"), *(_model_heading(model, data.winner) for model in models),
            *(number_heading(join([one.model, element("small", "published")]), "num published") for one in beside)]
    sources = dict.fromkeys(one.source for one in beside)
    return join([table(head, rows, "results"),
                 *(paragraph(f"Published, not measured here: {source}.", "note") for source in sources)])


def _published_cell(value: float | None, unit: Unit) -> Html:
    return element("td", "–" if value is None else formats.figure(value, unit), class_="num published")


def _tip(row: FigureRow) -> str:
    unit = row.unit
    return (f"{language_name(row.language)}, {row.model}: {formats.figure(row.value, unit)} "
            f"[{formats.figure(row.low, unit)}, {formats.figure(row.high, unit)}], n = {row.n}")
