"""The page in a real browser: what it asks for, how fast it opens, and what the script adds."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import Page, opened

from sea_ray.languages import LANGUAGES
from sea_ray.report import FigureRow, ReportData, Training, TrialRow, write_report
from sea_ray.report.names import _THEMES

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; Debian has it: apt-get install chromium")

MODELS = ("base", "neuron-trained", "SFT without safety", "winner")


@pytest.fixture
def demo_sized(full: ReportData, figure_row: Callable[..., FigureRow]) -> ReportData:
    """As much as the demo has: 17 figures of 4 models in 12 languages, 16 trainings, 12 examples of each language."""
    keys = [key for names in _THEMES.values() for key in names][:17]
    shares = [{"en": 0.5 - 0.05 * number, "vi": 0.2, "th": 0.3 + 0.05 * number} for number in range(8)]
    trials = tuple(TrialRow(point={"sft.mix": f"mix{number}", "rate": 10.0 ** -number}, shares=mix, is_winner=number == 2,
                            figures={"gain": number / 10, "harm": 0.002 * number}) for number, mix in enumerate(shares))
    losses = tuple((step, 9.0 / (1 + step)) for step in range(150))
    return dataclasses.replace(
        full, sweeps=(dataclasses.replace(full.sweeps[0], trials=trials), full.sweeps[1]), examples=full.examples * 12,
        figures=tuple(figure_row(model, code, 0.5, task=task, metric=metric)
                      for task, metric in keys for model in MODELS for code in LANGUAGES),
        trainings=tuple(Training(name=f"training {number}", losses=losses, steps=150, tokens=9, seconds=1.0)
                        for number in range(16)))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    assert CHROMIUM is not None
    with opened(CHROMIUM, tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def page(browser: Page, demo_sized: ReportData, tmp_path: Path) -> Page:
    write_report(demo_sized, tmp_path / "report.html")
    browser.events.clear()
    browser.open((tmp_path / "report.html").as_uri())
    return browser


def shown(page: Page, selector: str) -> int:
    """Return how many elements of a kind are visible and not faded."""
    return page.value(f"[...document.querySelectorAll({selector!r})].filter((one) => one.checkVisibility()"
                      " && Number(getComputedStyle(one).opacity) > 0.5).length")


def mouse(page: Page, kind: str, x: float, y: float, **more: Any) -> None:
    page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)


def middle(page: Page, selector: str) -> tuple[float, float]:
    """Bring an element into view and return its middle."""
    x, y = page.value(f"(async () => {{ const one = document.querySelector({selector!r}); one.scrollIntoView({{block: 'center', "
                      "behavior: 'instant'}); for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);"
                      " const box = one.getBoundingClientRect();"
                      " return [box.x + box.width / 2, box.y + box.height / 2]; })()")
    return x, y


def test_it_opens_fast_is_small_asks_nobody_and_complains_of_nothing(page: Page, tmp_path: Path) -> None:
    size = (tmp_path / "report.html").stat().st_size
    took_ms = page.value("performance.getEntriesByType('navigation')[0].loadEventEnd")
    print(f"report.html: {size / 1e6:.2f} MB, loaded in {took_ms:.0f} ms, {len(page.requests)} request")
    assert size < 2_000_000
    assert took_ms < 10_000, "1 s is the aim on a machine of one's own"
    assert page.requests == [(tmp_path / "report.html").as_uri()]
    assert not page.complaints


def test_a_mark_says_its_figure_at_once(page: Page) -> None:
    x, y = middle(page, "#bits g[data-language] .mark")
    mouse(page, "mouseMoved", x, y)
    assert page.value("document.querySelector('.tip').checkVisibility()")
    assert "bits per byte" in page.value("document.querySelector('.tip').textContent")
    mouse(page, "mouseMoved", 2, 2)
    assert not page.value("document.querySelector('.tip').checkVisibility()")


def test_a_loss_is_read_off_its_line(page: Page) -> None:
    x, y = middle(page, "svg.losses")
    mouse(page, "mouseMoved", x, y)
    said = page.value("document.querySelector('.tip').textContent")
    step, loss = said.removeprefix("step ").split(": ")
    assert 0 < int(step) < 149
    window = [9.0 / (1 + one) for one in range(max(0, int(step) - 14), int(step) + 1)]
    assert float(loss) == pytest.approx(sum(window) / len(window), abs=0.08), "the trailing mean, as drawn"


def test_one_language_alone_is_shown_in_tables_and_pictures(page: Page) -> None:
    rows, marks = "#bits tbody tr[data-language]", "#bits svg g[data-language]"
    before = shown(page, rows), shown(page, marks)
    choose = "{{ const it = document.querySelector('.filter select'); it.value = {!r}; it.dispatchEvent(new Event('change')); }}"
    page.value(choose.format("th"))
    assert before == (12, 12 * shown(page, marks))
    assert shown(page, rows) == 1
    assert page.value(f"[...document.querySelectorAll({rows!r})].find((one) => one.checkVisibility()).dataset.language") == "th"
    page.value(choose.format(""))
    assert (shown(page, rows), shown(page, marks)) == before


def test_a_trial_lights_up_wherever_it_stands(page: Page) -> None:
    x, y = middle(page, "#sweeps tr[data-trial='1-3'] th")
    mouse(page, "mouseMoved", x, y)
    lit = page.value("[...document.querySelectorAll('.lit')].map((one) => one.tagName + one.dataset.trial)")
    assert sorted(lit) == ["TR1-3", "g1-3", "g1-3", "polyline1-3"]


def test_a_range_on_an_axis_keeps_the_trials_within_and_a_click_lets_go(page: Page) -> None:
    axis = "#sweeps svg.parallel .brush[data-axis='2']"  # gain: 0 to 0.7 from bottom to top
    x, y = middle(page, axis)
    top = page.value(f"document.querySelector({axis!r}).getBoundingClientRect().top")
    rows = "#sweeps tr[data-trial^='1-']"
    mouse(page, "mousePressed", x, y, button="left", clickCount=1)
    mouse(page, "mouseMoved", x, top - 5, button="left")
    mouse(page, "mouseReleased", x, top - 5, button="left", clickCount=1)
    assert page.value("document.querySelector('#sweeps output').textContent") == "4 of 8 trials."
    assert page.value(f"[...document.querySelectorAll({rows!r})].filter((one) => !one.matches('.out'))"
                      ".map((one) => one.dataset.trial)") == ["1-5", "1-6", "1-7", "1-8"]
    assert shown(page, rows) == 4
    mouse(page, "mousePressed", x, y, button="left", clickCount=1)
    mouse(page, "mouseReleased", x, y, button="left", clickCount=1)
    assert shown(page, rows) == 8
    assert not page.complaints


def test_without_javascript_everything_is_there_but_the_choices(page: Page, tmp_path: Path) -> None:
    text = page.value("document.querySelector('main').textContent")
    titles = page.value("document.querySelectorAll('svg title').length")
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.call("Page.navigate", url=(tmp_path / "report.html").as_uri())
        page.wait("document.readyState === 'complete'")
        assert page.value("document.querySelector('main').textContent") == text
        assert page.value("document.querySelectorAll('svg title').length") == titles > 500
        assert shown(page, ".scripted") == 0
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [420, 1280])
def test_it_fits_its_window_by_day_and_by_night(page: Page, scheme: str, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    try:
        assert page.value("document.documentElement.scrollWidth") <= width
        background, ink = page.value("['backgroundColor', 'color'].map((part) => Number(getComputedStyle(document.body)[part]"
                                     ".match(/\\d+/)[0]))")
        assert (background > ink) == (scheme == "light")
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")
        page.call("Emulation.setEmulatedMedia", features=[])


def test_printed_it_is_light_without_choices_and_nothing_is_cut_off(page: Page) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=690, height=900, deviceScaleFactor=1, mobile=False)
    page.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    try:
        assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert shown(page, ".filter, nav") == 0
        assert page.value("[...document.querySelectorAll('table, svg')].filter((one) => one.checkVisibility()"
                          " && one.getBoundingClientRect().right > 690).length") == 0
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")
        page.call("Emulation.setEmulatedMedia", media="", features=[])
