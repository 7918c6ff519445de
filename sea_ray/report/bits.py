"""Bits per byte before and after per language, the method beside its controls."""

from __future__ import annotations

from collections.abc import Sequence

from sea_ray.report import formats
from sea_ray.report.averages import average_change
from sea_ray.report.data import BitsRow, ReportData
from sea_ray.report.dots import Dot, Series, dot_plot, dumbbells, natural_height
from sea_ray.report.labels import in_order, is_kept, language_name, language_row, tones
from sea_ray.report.markup import Html, element, heading, join, number, number_heading, table
from sea_ray.report.svg import figure

_ABSENT = element("td", "not run", class_="num absent")


def bits_per_byte(data: ReportData) -> Html:
    """Return before and after of the method, the change of every arm, and the table of both."""
    arms = list(dict.fromkeys(row.arm for row in data.bits))
    colours = tones(arms, first=1)
    of_arm = {arm: [row for row in data.bits if row.arm == arm] for arm in arms}
    height = natural_height(len(arms))
    method = of_arm[arms[0]]
    before = Series(name="base", tone=0, dots={row.language: Dot(value=row.before, title=_tip(row)) for row in method})
    after = Series(name=arms[0], tone=1, dots={row.language: Dot(value=row.after, title=_tip(row)) for row in method})
    changes = [Series(name=arm, tone=colours[arm], dots={
        row.language: Dot(value=row.change, low=row.change_low, high=row.change_high, title=_tip(row))
        for row in rows}) for arm, rows in of_arm.items()]
    return join([
        figure(
            f"Left: bits per byte of held-out text, base to {arms[0]}. Right: relative change against the base with "
            "its 95 % interval; left of the line is better. English and Chinese, which must not suffer, stand below.",
            dumbbells(f"Bits per byte per language, base and {arms[0]}", before, after, width=400, row_height=height,
                      format_tick=lambda value: f"{value:g}"),
            dot_plot("Relative change of bits per byte per language and arm, with 95 % intervals", changes, width=560,
                     row_height=height, lines={"no change": 0.0}, format_tick=lambda value: formats.change(value, 0)),
            marks=[("base", 0), *colours.items()]),
        _table(data.bits, arms)])


def _table(rows: Sequence[BitsRow], arms: Sequence[str]) -> Html:
    lines: list[Html] = [_mean_line(rows, arms)] if any(not is_kept(row.language) for row in rows) else []
    for code in in_order(row.language for row in rows):
        found = {row.arm: row for row in rows if row.language == code}
        first = next(iter(found.values()))
        lines.append(language_row(code, number(formats.count(first.n)), number(formats.figure(first.before, "bits")),
                                  *(_change_cell(found[arm]) if arm in found else _ABSENT for arm in arms)))
    return table(["Language", *map(number_heading, ["documents", "base, bits/byte", *arms])], lines, "results")


def _mean_line(rows: Sequence[BitsRow], arms: Sequence[str]) -> Html:
    sea = [row for row in rows if not is_kept(row.language)]
    cells = [heading(f"SEA, mean of {len({row.language for row in sea})}"), number(""), number("")]
    for arm in arms:
        of_arm = [row for row in sea if row.arm == arm]
        if not of_arm:
            cells.append(_ABSENT)
            continue
        value, low, high = average_change(of_arm)
        cells.append(_cell("", value, low, high))
    return element("tr", *cells)


def _change_cell(row: BitsRow) -> Html:
    return _cell(formats.figure(row.after, "bits"), row.change, row.change_low, row.change_high)


def _cell(first: str, value: float, low: float, high: float) -> Html:
    digits = 2 if abs(value) < 0.02 else 1
    return element("td", element("span", first, class_="quiet"), f" {formats.change(value, digits)} ",
                   element("small", f"[{formats.change(low, digits)}, {formats.change(high, digits)}]"), class_="num")


def _tip(row: BitsRow) -> str:
    interval = f"[{formats.change(row.change_low, 2)}, {formats.change(row.change_high, 2)}]"
    return (f"{language_name(row.language)}, {row.arm}: {row.before:.3f} to {row.after:.3f} bits per byte, "
            f"{formats.change(row.change, 2)} {interval}, n = {row.n} documents")
