from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from sea_ray.errors import ConfigError
from sea_ray.report import formats
from sea_ray.report.averages import Average, average, average_change, trained, verdict
from sea_ray.report.data import BitsRow, FigureRow, LanguageMatrix, Limit
from sea_ray.report.labels import in_order
from sea_ray.report.markup import Html, element, escape
from sea_ray.report.names import themes, title
from sea_ray.report.svg import Scale, fit


def test_the_interval_of_a_mean_adds_in_squares(figure_row: Callable[..., FigureRow]) -> None:
    values = {"th": 0.2, "lo": 0.4, "km": 0.6, "my": 0.8}
    mean = average([figure_row("m", code, value) for code, value in values.items()])
    assert mean is not None
    assert mean.value == pytest.approx(0.5)
    assert mean.high - mean.value == pytest.approx(math.sqrt(4 * 0.1**2) / 4)
    assert mean.value - mean.low == pytest.approx(0.05)
    assert (mean.n, mean.num_languages) == (400, 4)


def test_the_mean_of_trained_languages_leaves_out_english_and_chinese(figure_row: Callable[..., FigureRow]) -> None:
    figures = [figure_row("m", code, 0.5) for code in ("en", "th", "zh", "xx")]
    assert [row.language for row in trained(figures)] == ["th", "xx"]


def test_no_figure_has_no_mean() -> None:
    assert average([]) is None


def test_the_change_of_bits_is_relative_to_the_base() -> None:
    row = BitsRow(arm="a", language="th", before=2.0, after=1.8, change_low=-0.12, change_high=-0.08, n=10)
    assert row.change == pytest.approx(-0.1)
    assert average_change([row]) == pytest.approx((-0.1, -0.12, -0.08))


def test_a_limit_is_not_kept_by_nan() -> None:
    assert Limit(figure="harm", value=0.01).keeps(0.01)
    assert not Limit(figure="harm", value=0.01).keeps(0.011)
    assert not Limit(figure="harm", value=0.01).keeps(math.nan)
    assert Limit(figure="score", value=0.5, kind="at least").keeps(0.5)


def test_a_matrix_that_is_not_square_is_refused() -> None:
    with pytest.raises(ConfigError, match="for 2 languages"):
        LanguageMatrix(name="m", languages=("th", "lo"), values=((1.0,),), kind="share")


def test_languages_stand_in_the_projects_order_with_english_and_chinese_last() -> None:
    assert in_order(["en", "jv", "zh", "xx", "id", "id"]) == ["id", "jv", "xx", "en", "zh"]


@pytest.mark.parametrize(("text", "expected"), [
    (formats.change(-0.0861), "−8.6 %"), (formats.change(0.004, 2), "+0.40 %"), (formats.change(-0.0001), "0.0 %"),
    (formats.change(math.nan), "–"), (formats.share(0.1234), "12.3 %"), (formats.figure(0.667, "share"), "66.7"),
    (formats.figure(1.23456, "bits"), "1.235"), (formats.count(12345), "12,345"),
    (formats.short_count(1_234_000), "1.23 M"),
    (formats.size(3 << 30), "3.0 GiB"), (formats.size(12), "12 B"), (formats.duration(0.42), "0.42 s"),
    (formats.duration(59.7), "1 min 00 s"), (formats.duration(312), "5 min 12 s"),
    (formats.duration(7800), "2 h 10 min"),
    (formats.general(-0.01444444), "−0.01444"), (formats.general(True), "True"), (formats.general(math.inf), "∞"),
    (formats.general(77_255.0), "77,255"), (formats.score(-0.001), "0.00"), (formats.score(-0.3), "−0.30"),
    (formats.moment("2026-11-27T22:02:52+0000"), "27 November 2026, 22:02 UTC"), (formats.moment("today"), "today"),
    (formats.sentence("Best"), "Best."), (formats.sentence("Best."), "Best."), (formats.listing([]), ""),
    (formats.point_text({"a.top_frac": 0.2, "sft.mix": {"en": 0.26}}), "top_frac 0.2, mix en 26"),
    (formats.general({"en": 0.5, "th": 1}), "en 0.5, th 1"), (formats.listing(["a", "b", "c"]), "a, b and c"),
])
def test_numbers_read_well(text: str, expected: str) -> None:
    assert text == expected


def test_tasks_stand_in_reading_order_and_nothing_is_said_twice() -> None:
    keys = [("mmlu", "accuracy"), ("safety_general", "safe"), ("safety_general", "unsafe_answered"), ("exam", "accuracy"),
            ("text", "bits_per_byte"), ("safety_culture", "safe"), ("safety_multijail", "unsafe_answered"),
            ("safety_multijail", "safe")]
    assert themes(keys) == {
        "Language and knowledge": [("text", "bits_per_byte"), ("exam", "accuracy")],
        "Safety": [("safety_general", "unsafe_answered"), ("safety_culture", "safe")],
        "Other tasks": [("mmlu", "accuracy"), ("safety_multijail", "unsafe_answered"), ("safety_multijail", "safe")]}, (
        "others publish how safe a model is on MultiJail")
    assert title("exam", "accuracy") == "Exam questions right"
    assert title("mmlu_pro", "exact_match") == "mmlu pro, exact match"


def test_a_difference_is_clear_where_the_intervals_do_not_meet() -> None:
    def mean(value: float) -> Average:
        return Average(value=value, low=value - 0.1, high=value + 0.1, n=9, num_languages=1, unit="share")

    assert verdict(mean(0.5), mean(0.4), higher_is_better=True) == "no clear difference"
    assert verdict(mean(0.5), mean(0.2), higher_is_better=True) == "better"
    assert verdict(mean(0.5), mean(0.2), higher_is_better=False) == "worse"


def test_ticks_are_round_and_inside() -> None:
    assert Scale(0.0, 1.0, 0, 100).ticks(5) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert Scale(-0.13, 0.02, 0, 100).ticks(5) == [-0.1, -0.05, 0.0]


@pytest.mark.parametrize("values", [[], [0.0], [3.0, 3.0], [math.nan, math.inf], [-1e9, 1e9], [1e-9, 2e-9]])
def test_a_scale_fits_any_values(values: list[float]) -> None:
    scale = fit(values, 10, 110)
    assert scale.high > scale.low
    assert len(scale.ticks()) >= 1
    assert all(10 <= scale(value) <= 110 for value in values if math.isfinite(value))


def test_text_is_escaped_once_and_markup_never() -> None:
    assert escape("a < b & c") == "a &lt; b &amp; c"
    assert escape(escape("<")) == "&lt;"
    assert element("p", "<b>", Html("<b></b>"), class_="x\"y", hidden=True, id=None) == \
        '<p class="x&quot;y" hidden>&lt;b&gt;<b></b></p>'
