"""Sweeps: the trials against their limits, the winner and why, and the mixes that were tried."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from sea_ray.report import formats
from sea_ray.report.bars import Bar, bars, stacked
from sea_ray.report.data import ReportData, Sweep, TrialRow
from sea_ray.report.markup import Html, element, heading, join, number, number_heading, paragraph, table
from sea_ray.report.scatter import Trial, scatter
from sea_ray.report.svg import figure


def sweeps(data: ReportData) -> Html:
    """Return every sweep with its picture and its table of trials."""
    return join(_sweep(one) for one in data.sweeps)


def _sweep(sweep: Sweep) -> Html:
    finished = [trial for trial in sweep.trials if trial.outcome == "finished"]
    counts = Counter(trial.outcome for trial in sweep.trials if trial.outcome != "finished")
    limits = ", ".join(f"{limit.figure} {limit.kind} {formats.general(limit.value)}" for limit in sweep.limits)
    first, *others = (f"{'largest' if mode == 'max' else 'smallest'} {name}" for name, mode in sweep.objectives.items())
    repeats = 1 + max(trial.repetition for trial in sweep.trials)
    told = [f"{len(sweep.trials)} trials", f"each point with {repeats} seeds" if repeats > 1 else "", f"{first} wins",
            f"beside {formats.listing(others)}" if others else "", f"with {limits}" if limits else "no limits"]
    ended = "".join(f"; {count} {outcome}" for outcome, count in counts.items())
    return element(
        "section", element("h3", sweep.name), paragraph(f"{', '.join(filter(None, told))}{ended}. {sweep.note}".strip()),
        paragraph(join([element("strong", "Choice: "), sweep.reason])) if sweep.reason else None,
        _picture(sweep) if finished else paragraph("No trial finished.", "absent"), _mixes(sweep), _trials(sweep),
        class_="sweep")


def _picture(sweep: Sweep) -> Html:
    numbered = [(number, trial) for number, trial in enumerate(sweep.trials, 1)
                if trial.outcome == "finished" and sweep.metric in trial.figures]
    names = {number: f"{number}: {_point(trial.point)}" for number, trial in numbered}
    across = next((name for name in (*list(sweep.objectives)[1:], *(limit.figure for limit in sweep.limits))), None)
    if across is None or not all(across in trial.figures for _, trial in numbered):
        rows = [Bar(name=names[number], value=trial.figures[sweep.metric], is_winner=trial.is_winner,
                    title=names[number]) for number, trial in numbered]
        return figure(f"{sweep.metric} of each trial; the winner in colour.",
                      bars(f"{sweep.metric} per trial", rows, format_value=formats.general, width=720))
    limit = next((limit for limit in sweep.limits if limit.figure == across), None)
    points = [Trial(name=str(number), x=trial.figures[across], y=trial.figures[sweep.metric], on_front=trial.on_front,
                    keeps_limits=_keeps(sweep, trial), is_winner=trial.is_winner, title=names[number])
              for number, trial in numbered]
    drawn = scatter(f"{sweep.metric} against {across} of each trial", points, x_name=_direction(sweep, across),
                    y_name=_direction(sweep, sweep.metric), limit=limit.value if limit else None,
                    limit_is_upper=limit is None or limit.kind == "at most")
    said = ["Trials by their number in the table", "blue diamonds keep the limits, grey circles do not" if sweep.limits else "",
            "the ring is the winner", "the line joins what no other beats in all objectives" if len(sweep.objectives) > 1 else "",
            "the shaded side breaks the limit" if limit else ""]
    return figure(f"{'; '.join(filter(None, said))}.", drawn)


def _direction(sweep: Sweep, name: str) -> str:
    mode = sweep.objectives.get(name)
    return name if mode is None else f"{name} ({'more' if mode == 'max' else 'less'} is better)"


def _keeps(sweep: Sweep, trial: TrialRow) -> bool:
    return all(limit.keeps(trial.figures.get(limit.figure, math.nan)) for limit in sweep.limits)


def _mixes(sweep: Sweep) -> Html | None:
    mixes = {f"{number}: {_point(trial.point)}": trial for number, trial in enumerate(sweep.trials, 1) if trial.shares}
    if not mixes:
        return None
    winner = next((name for name, trial in mixes.items() if trial.is_winner), "")
    return figure("The mixes: share of tokens per source; English and Chinese in grey.",
                  stacked("Share of tokens per source and trial", {name: trial.shares for name, trial in mixes.items()},
                          winner=winner))


def _trials(sweep: Sweep) -> Html:
    paths = list(dict.fromkeys(path for trial in sweep.trials for path in trial.point))
    limited = [limit.figure for limit in sweep.limits]
    reported = dict.fromkeys(name for trial in sweep.trials for name in trial.figures)
    shown = list(dict.fromkeys([*sweep.objectives, *limited, *reported]))
    rows = []
    for position, trial in enumerate(sweep.trials, 1):
        values = [_value_cell(trial.point.get(path, "")) for path in paths]
        figures = [_figure_cell(sweep, trial, name) for name in shown]
        rows.append([heading(str(position)), *values, *figures, element("td", _status(sweep, trial), class_="words")])
    columns = [*(path.rsplit(".", 1)[-1] for path in paths), *shown]
    return table(["trial", *map(number_heading, columns), ""], rows, "compact")


def _value_cell(value: object) -> Html:
    return element("td", _value(value), class_="words") if isinstance(value, Mapping) else number(_value(value))


def _value(value: object) -> str:
    """Return a point's value in a few characters: of a mix, per cent."""
    if isinstance(value, Mapping):
        return " ".join(f"{code} {100 * share:.0f}" for code, share in value.items())
    return formats.general(value)


def _figure_cell(sweep: Sweep, trial: TrialRow, name: str) -> Html:
    if name not in trial.figures:
        return element("td", "–", class_="num absent")
    value = trial.figures[name]
    breaks = any(limit.figure == name and not limit.keeps(value) for limit in sweep.limits)
    return element("td", formats.general(value), " ✕" if breaks else None, class_="num over" if breaks else "num")


def _status(sweep: Sweep, trial: TrialRow) -> Html:
    if trial.outcome != "finished":
        return join([element("strong", trial.outcome, class_="bad" if trial.outcome == "failed" else None), f": {trial.error}"])
    words = [element("strong", "winner", class_="good") if trial.is_winner else None,
             "breaks a limit" if not _keeps(sweep, trial) else None, "on the front" if trial.on_front else None,
             f"seed +{trial.repetition}" if trial.repetition else None, "reused" if trial.reused else None]
    return join([word for word in words if word], ", ")


def _point(point: Mapping[str, object]) -> str:
    return ", ".join(f"{path.rsplit('.', 1)[-1]} {_value(value)}" for path, value in point.items())
