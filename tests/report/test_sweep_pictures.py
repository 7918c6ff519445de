from __future__ import annotations

import dataclasses
import math
import re

import pytest

from sea_ray.report import ReportData, Sweep, TrialRow, render
from sea_ray.report.curves import curve, smoothed
from sea_ray.report.parallel import Line, parallel
from sea_ray.report.simplex import Mix, simplex
from sea_ray.report.svg import Labels


def heights(picture: str) -> dict[str, list[float]]:
    """Return trial -> height of its line on each axis."""
    found = re.findall(r'<polyline points="([^"]*)" class="[^"]*" data-trial="([^"]*)"', picture)
    return {key: [float(point.split(",")[1]) for point in points.split()] for points, key in found}


def lines(*values: dict[str, float | str]) -> list[Line]:
    return [Line(key=str(number), values=one, title="", is_winner=number == 0) for number, one in enumerate(values)]


def test_a_trial_is_a_line_through_its_values_and_better_is_up() -> None:
    drawn = parallel("p", lines({"rate": 0.1, "cost": 1.0, "gain": 2.0}, {"rate": 0.2, "cost": 3.0, "gain": 1.0}),
                     {"cost": "min", "gain": "max"})
    assert drawn is not None
    found = heights(drawn)
    (rate0, cost0, gain0), (rate1, cost1, gain1) = found["0"], found["1"]
    assert rate0 > rate1, "more is higher on a picture's axis that grows downwards"
    assert cost0 < cost1
    assert gain0 < gain1
    assert drawn.count('class="brush"') == 3


def test_rates_stand_on_a_logarithmic_axis_and_names_apart() -> None:
    drawn = parallel("p", lines(*({"rate": 10.0**-power, "mix": f"mix{power}"} for power in (5, 4, 3))), {})
    assert drawn is not None
    rates, mixes = zip(*heights(drawn).values(), strict=True)
    assert sorted(rates)[1] == pytest.approx((min(rates) + max(rates)) / 2, abs=0.1)
    assert len(set(mixes)) == 3


def test_an_axis_that_a_trial_has_no_value_on_is_left_out() -> None:
    drawn = parallel("p", lines({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": math.nan, "c": 3}), {})
    assert drawn is not None
    assert all(len(line) == 2 for line in heights(drawn).values())
    assert parallel("p", lines({"a": 1}, {"a": 2}), {}) is None
    assert parallel("p", lines({"a": 1, "b": 2}), {}) is None


def place(picture: str, key: str) -> tuple[float, float]:
    """Return the middle of a mix's mark."""
    points = re.search(rf'<g data-trial="{key}">.*?points="([^"]*)"', picture)
    assert points is not None
    pairs = [tuple(map(float, pair.split(","))) for pair in points[1].split()]
    return sum(x for x, _ in pairs) / len(pairs), sum(y for _, y in pairs) / len(pairs)


def test_a_mix_of_one_language_is_a_corner_and_an_even_mix_the_middle() -> None:
    mixes = [Mix(name="even", key="e", shares={"en": 1 / 3, "th": 1 / 3, "vi": 1 / 3}),
             *(Mix(name=code, key=code, shares={code: 1.0}) for code in ("en", "th", "vi"))]
    drawn = simplex("s", mixes)
    assert drawn is not None
    corners = [place(drawn, code) for code in ("en", "th", "vi")]
    assert place(drawn, "e") == pytest.approx(tuple(sum(axis) / 3 for axis in zip(*corners, strict=True)), abs=0.2)
    assert len({round(x) for x, _ in corners}) == 3


def test_more_languages_are_grouped_by_what_they_are_written_in() -> None:
    drawn = simplex("s", [Mix(name="1", key="1", shares={"en": 0.5, "zh/text": 0.1, "vi": 0.3, "th": 0.1}),
                          Mix(name="2", key="2", shares={"en": 0.2, "vi": 0.2, "my/fact": 0.6})])
    assert drawn is not None
    assert "English and Chinese 60 %, SEA, Latin script 30 %, SEA, own scripts 10 %" in drawn
    assert simplex("s", [Mix(name=code, key=code, shares={code: 1.0}) for code in ("vi", "id")]) is None, "no three groups"


def test_names_beside_marks_that_are_close_do_not_cover_each_other() -> None:
    marks = [(100.0, 100.0), (102.0, 106.0), (101.0, 98.0)]
    labels = Labels(marks)
    places = [re.search(r'x="([\d.]+)" y="([\d.]+)"', labels.beside(x, y, "12")) for x, y in marks]
    spots = {(place[1], place[2]) for place in places if place}
    assert len(spots) == 3
    crowded = Labels([(100.0, 100.0)] * 2 + [(x, y) for x in range(60, 150, 8) for y in range(70, 140, 8)])
    assert crowded.beside(100.0, 100.0, "12") == "", "no room"
    assert "12" in crowded.beside(100.0, 100.0, "12", needed=True)


def test_marks_lines_and_rows_of_a_trial_have_one_key(full: ReportData) -> None:
    mix = {"en": 0.4, "vi": 0.3, "th": 0.3}
    trials = tuple(TrialRow(point={"sft.mixes.own": mix}, figures={"score": score, "cost": 1.0}, shares=mix)
                   for score in (0.1, 0.2))
    sweep = Sweep(name="mixes", objectives={"score": "max"}, trials=trials)
    page = render(dataclasses.replace(full, sweeps=(sweep,))).split('id="sweeps"')[1].split('id="neurons"')[0]
    for number in (1, 2):
        kinds = re.findall(rf'<(\w+)[^>]*data-trial="1-{number}"', page)
        assert sorted(kinds) == ["g", "polyline", "rect", "tr"]


def test_figures_of_single_languages_stand_folded_behind_the_table(full: ReportData) -> None:
    trial = TrialRow(point={"a": 1}, figures={"gain": 0.1, "ratio_th": 0.9, "ratio_lo": 0.8})
    sweep = Sweep(name="s", objectives={"gain": "max"}, trials=(trial, dataclasses.replace(trial, point={"a": 2})))
    part = render(dataclasses.replace(full, sweeps=(sweep,))).split('id="sweeps"')[1].split('id="neurons"')[0]
    open_table, folded = part.split("Figures of each language")
    assert "ratio_" not in open_table
    assert folded.count("0.9<") == folded.count("0.8<") == 2


def test_no_winner_is_promised_where_there_is_none_yet(full: ReportData) -> None:
    trials = tuple(TrialRow(point={"a": number}, figures={"gain": number / 10, "harm": 0.0}) for number in (1, 2))
    unfinished = dataclasses.replace(full.sweeps[0], reason="", trials=(
        *trials, TrialRow(point={"a": 3}, outcome="to do", error="not there yet")))
    part = render(dataclasses.replace(full, sweeps=(unfinished,))).split('id="sweeps"')[1].split('id="neurons"')[0]
    assert "winner" not in part
    assert "1 to do" in part


def test_a_noisy_loss_has_its_mean_and_held_out_text_its_own_line() -> None:
    points = [(step, 2.0 + (-1) ** step) for step in range(60)]
    drawn = curve("base", points, [(0, 2.5), (59, 2.0)])
    assert [drawn.count(f'class="{name}"') for name in ("curve raw", "curve", "curve held")] == [1, 1, 1]
    assert "Loss of base, 2.000 at the end" in drawn
    assert max(abs(mean - 2.0) for _, mean in smoothed(points)[6:]) < 0.2
    assert curve("short", points[:9]).count("<path") == 1
