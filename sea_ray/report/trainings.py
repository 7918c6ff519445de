"""Trainings: losses, what trained and with what, and the mix that was really drawn."""

from __future__ import annotations

from sea_ray.report import formats
from sea_ray.report.bars import stacked
from sea_ray.report.curves import curve
from sea_ray.report.data import ReportData, Training
from sea_ray.report.markup import Html, cell, details, heading, join, number, number_heading, table
from sea_ray.report.svg import figure

_CURVES_AT_ONCE = 16
_COLUMNS = ("steps", "tokens", "time", "tokens/s", "values trained", "of all")


def trainings(data: ReportData) -> Html:
    """Return the loss curves, the realised mixes and the table of all trainings."""
    mixed = {one.name: one.shares for one in data.trainings if len(one.shares) > 1}
    curves = [curve(one.name, one.losses, one.held_out) for one in data.trainings if one.losses]
    looked = " dashed: held-out text;" if any(one.held_out for one in data.trainings) else ""
    told = ("Mean token loss in nats over the steps. Each picture has its own axes; the strong line is the mean of the last "
            f"tenth of the steps, where there are enough;{looked} the number is where it ends.")
    more = curves[_CURVES_AT_ONCE:]
    return join([
        figure(told, *curves[:_CURVES_AT_ONCE]) if curves else None,
        details(f"{len(more)} more losses", figure(told, *more)) if more else None,
        figure("Realised mixes: share of the samples drawn per source.",
               stacked("Share of samples per source and training", mixed)) if mixed else None,
        details(f"{len(data.trainings)} trainings: tokens, values, engine",
                table(["Training", *map(number_heading, _COLUMNS), "engine"],
                      [_row(one) for one in data.trainings], "compact"))])


def _row(one: Training) -> list[Html]:
    of_all = formats.share(one.trained_values / one.total_values, 2) if one.total_values else "–"
    trained = formats.short_count(one.trained_values) if one.trained_values else "–"
    return [heading(one.name), number(formats.count(one.steps)), number(formats.short_count(one.tokens)),
            number(formats.duration(one.seconds)), number(formats.short_count(one.tokens / max(one.seconds, 1e-9))),
            number(trained), number(of_all), cell(one.engine)]
