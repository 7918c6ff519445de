"""Sweeps: the trials against their limits, the winner and why, and the mixes that were tried."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from sea_ray.languages import LANGUAGES
from sea_ray.report import formats
from sea_ray.report.bars import Bar, bars, stacked
from sea_ray.report.data import ReportData, Sweep, TrialRow
from sea_ray.report.markup import Html, details, element, heading, join, number, number_heading, paragraph, table
from sea_ray.report.names import meanings
from sea_ray.report.parallel import Line, parallel
from sea_ray.report.scatter import Trial, scatter
from sea_ray.report.simplex import Mix, simplex
from sea_ray.report.svg import figure

_MOST_FIGURES = 6
"""That have an axis in the parallel coordinates; the table has all."""
Numbered = Sequence[tuple[int, TrialRow]]
"""Trials with their numbers in the table."""


def sweeps(data: ReportData) -> Html:
    """Return every sweep with its pictures and its table of trials."""
    return join(_sweep(one, f"{number}-") for number, one in enumerate(data.sweeps, 1))


def _sweep(sweep: Sweep, prefix: str) -> Html:
    """Return one sweep; the prefix and a trial's number are the key by which its marks, lines and row belong together."""
    counts = Counter(trial.outcome for trial in sweep.trials if trial.outcome != "finished")
    limits = ", ".join(f"{limit.figure} {limit.kind} {formats.general(limit.value)}" for limit in sweep.limits)
    first, *others = (f"{'largest' if mode == 'max' else 'smallest'} {name}" for name, mode in sweep.objectives.items())
    repeats = 1 + max(trial.repetition for trial in sweep.trials)
    told = [f"{len(sweep.trials)} trials", f"each point with {repeats} seeds" if repeats > 1 else "", f"{first} wins",
            f"beside {formats.listing(others)}" if others else "", f"with {limits}" if limits else "no limits"]
    ended = "".join(f"; {count} {outcome}" for outcome, count in counts.items())
    finished = [(number, trial) for number, trial in enumerate(sweep.trials, 1) if trial.outcome == "finished"]
    return element(
        "section", element("h3", sweep.name), paragraph(f"{', '.join(filter(None, told))}{ended}. {sweep.note}".strip()),
        paragraph(join([element("strong", "Choice: "), formats.sentence(sweep.reason)])) if sweep.reason else None,
        join([_picture(sweep, finished, prefix), _parallel(sweep, finished, prefix), _mixes(finished, prefix)])
        if finished else paragraph("No trial finished.", "absent"),
        _trials(sweep, prefix), class_="sweep")


def _picture(sweep: Sweep, finished: Numbered, prefix: str) -> Html:
    numbered = [(number, trial) for number, trial in finished if sweep.metric in trial.figures]
    names = {number: f"{number}: {formats.point_text(trial.point)}" for number, trial in numbered}
    winner = any(trial.is_winner for _, trial in numbered)
    across = next((name for name in (*list(sweep.objectives)[1:], *(limit.figure for limit in sweep.limits))), None)
    if across is None or not all(across in trial.figures for _, trial in numbered):
        rows = [Bar(name=_name(number, trial), value=trial.figures[sweep.metric], is_winner=trial.is_winner,
                    title=f"{names[number]}: {formats.general(trial.figures[sweep.metric])}", trial=f"{prefix}{number}")
                for number, trial in numbered]
        return figure(f"{_direction(sweep, sweep.metric)} of each trial{'; the winner in colour' if winner else ''}.",
                      bars(f"{sweep.metric} per trial", rows, format_value=formats.general, width=720))
    limit = next((limit for limit in sweep.limits if limit.figure == across), None)
    points = [Trial(name=str(number), x=trial.figures[across], y=trial.figures[sweep.metric], on_front=trial.on_front,
                    keeps_limits=_keeps(sweep, trial), is_winner=trial.is_winner, key=f"{prefix}{number}",
                    title=f"{names[number]}: {sweep.metric} {formats.general(trial.figures[sweep.metric])}, "
                          f"{across} {formats.general(trial.figures[across])}")
              for number, trial in numbered]
    drawn = scatter(f"{sweep.metric} against {across} of each trial", points, x_name=_direction(sweep, across),
                    y_name=_direction(sweep, sweep.metric), limit=limit.value if limit else None,
                    limit_is_upper=limit is None or limit.kind == "at most")
    said = ["Trials by their number in the table", "blue diamonds keep the limits, grey circles do not" if sweep.limits else "",
            "the ring is the winner" if winner else "",
            "the line joins what no other beats in all objectives" if len(sweep.objectives) > 1 else "",
            "the shaded side breaks the limit" if limit else ""]
    return figure(f"{'; '.join(filter(None, said))}.", drawn)


def _parallel(sweep: Sweep, finished: Numbered, prefix: str) -> Html | None:
    lines = [Line(key=f"{prefix}{number}", values=_coordinates(sweep, trial), is_winner=trial.is_winner,
                  title=f"{number}: {formats.point_text(trial.point)}") for number, trial in finished]
    drawn = parallel(f"{sweep.name}: settings and figures of each trial", lines, sweep.objectives)
    if drawn is None:
        return None
    thick = ", the thick one the winner" if any(trial.is_winner for _, trial in finished) else ""
    return figure(join([f"A line is a trial{thick}. On the axes in bold, which decide, up is better.",
                        element("span", " Drag along an axis to keep a range, click it to let go. ", element("output"),
                                class_="scripted", hidden=True)]), drawn)


def _coordinates(sweep: Sweep, trial: TrialRow) -> dict[str, float | str]:
    """Return a trial's settings, then what decides, then what else was read; a mix has a picture of its own."""
    found: dict[str, float | str] = {
        path.rpartition(".")[2]: value if type(value) in (int, float) else formats.general(value)  # type: ignore[misc]
        for path, value in _but_mixes(trial.point).items()}
    deciding = [*sweep.objectives, *(limit.figure for limit in sweep.limits)]
    figures = [*deciding, *(name for name in trial.figures if name not in deciding and not _is_of_language(name))]
    return found | {name: trial.figures[name] for name in figures[:_MOST_FIGURES] if name in trial.figures}


def _direction(sweep: Sweep, name: str) -> str:
    mode = sweep.objectives.get(name)
    return name if mode is None else f"{name} ({'more' if mode == 'max' else 'less'} is better)"


def _keeps(sweep: Sweep, trial: TrialRow) -> bool:
    return all(limit.keeps(trial.figures.get(limit.figure, math.nan)) for limit in sweep.limits)


def _but_mixes(point: Mapping[str, object]) -> dict[str, object]:
    return {path: value for path, value in point.items() if not isinstance(value, Mapping)}


def _name(number: int, trial: TrialRow) -> str:
    """Return a trial's number and its settings, but for mixes, which are long."""
    return f"{number}: {formats.point_text(_but_mixes(trial.point))}".removesuffix(": ")


def _mixes(finished: Numbered, prefix: str) -> Html | None:
    mixes = {_name(number, trial): (number, trial) for number, trial in finished if trial.shares}
    if not mixes:
        return None
    winner = next((name for name, (_, trial) in mixes.items() if trial.is_winner), "")
    triangle = simplex("Shares of three groups of languages in each mix", [
        Mix(name=str(number), key=f"{prefix}{number}", shares=trial.shares, is_winner=trial.is_winner)
        for number, trial in mixes.values()])
    told = ("In the triangle a corner is all samples of its languages, and lines stand at 25, 50 and 75 %; the ring is the "
            "winner." if triangle else "")
    return figure(f"The mixes: share of samples per source; English and Chinese in grey. {told}".strip(),
                  stacked("Share of samples per source and trial", {name: trial.shares for name, (_, trial) in mixes.items()},
                          winner=winner), triangle)


def _trials(sweep: Sweep, prefix: str) -> Html:
    paths = list(dict.fromkeys(path for trial in sweep.trials for path in trial.point))
    limited = [limit.figure for limit in sweep.limits]
    reported = list(dict.fromkeys(name for trial in sweep.trials for name in trial.figures))
    by_language = [name for name in reported if _is_of_language(name) and name not in (*sweep.objectives, *limited)]
    shown = list(dict.fromkeys([*sweep.objectives, *limited, *(name for name in reported if name not in by_language)]))
    rows = []
    for position, trial in enumerate(sweep.trials, 1):
        values = [_value_cell(trial.point.get(path, "")) for path in paths]
        figures = [_figure_cell(sweep, trial, name) for name in shown]
        status = element("td", _status(sweep, trial), class_="words")
        rows.append(element("tr", heading(str(position)), status, *values, *figures, data_trial=f"{prefix}{position}"))
    columns = [*(path.rpartition(".")[2] for path in paths), *(_breakable(name) for name in shown)]
    notes = [f"{name}: {told}" for name, told in meanings(shown).items()]
    return join([table(["trial", "", *map(number_heading, columns)], rows, "compact"),
                 paragraph(f"{'; '.join(notes)}." if notes else "", "note"),
                 details("Figures of each language", _by_language(sweep, by_language)) if by_language else None])


def _by_language(sweep: Sweep, names: Sequence[str]) -> Html:
    rows = [[heading(str(position)), *(_figure_cell(sweep, trial, name) for name in names)]
            for position, trial in enumerate(sweep.trials, 1)]
    return table(["trial", *(number_heading(_breakable(name)) for name in names)], rows, "compact")


def _is_of_language(figure: str) -> bool:
    return figure.rpartition("_")[2] in LANGUAGES


def _breakable(name: str) -> Html:
    return join(name.replace("_", "_\n").split("\n"), element("wbr"))


def _value_cell(value: object) -> Html:
    return element("td", formats.setting(value), class_="words") if isinstance(value, Mapping) else number(formats.setting(value))


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

