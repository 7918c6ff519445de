from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sea_ray.errors import ConfigError
from sea_ray.languages import LANGUAGES
from sea_ray.report import PARTS, Example, FigureRow, ReportData, TrialRow, render, write_report
from sea_ray.report.data import Sweep

VOID = {"meta", "link", "br", "wbr"}


class Walk(HTMLParser):
    """Follows the elements of a page and fails where they don't nest."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a beginning"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append((self.open[-1] if self.open else "", data))

    @property
    def text(self) -> str:
        return "\n".join(word for tag, word in self.words if tag not in ("style", "script"))


def test_elements_nest(full: ReportData) -> None:
    walk = Walk(render(full))
    assert [tag for tag, _ in walk.tags].count("main") == 1
    assert [tag for tag, _ in walk.tags].count("svg") >= 8


def test_nothing_is_requested_from_outside_and_no_script_runs_but_our_own(full: ReportData) -> None:
    page = render(full)
    walk = Walk(page)
    (script,) = [word for tag, word in walk.words if tag == "script"]
    policy = next(values["content"] for _, values in walk.tags if values.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    assert not {"iframe", "img", "object", "embed"} & {tag for tag, _ in walk.tags}
    links = [values[name] for _, values in walk.tags for name in ("href", "src", "action") if name in values]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"https?://|@import|url\(", page)
    assert not any(name.startswith("on") for _, attributes in walk.tags for name in attributes)


def test_contents_point_at_sections(full: ReportData) -> None:
    tags = Walk(render(full)).tags
    anchors = {attributes["href"][1:] for tag, attributes in tags if tag == "a"}
    assert anchors == {attributes["id"] for _, attributes in tags if "id" in attributes}


def test_user_text_is_escaped_wherever_it_stands(full: ReportData, figure_row: Callable[..., FigureRow]) -> None:
    attack = "<script>alert('x')</script>\"&"
    example = Example(language="en", kind=attack, prompt=attack, reference=attack, answers={attack: attack})
    failed = TrialRow(point={attack: attack}, error=attack)
    sweep = dataclasses.replace(full.sweeps[0], name=attack, trials=(*full.sweeps[0].trials, failed))
    page = render(dataclasses.replace(
        full, title=attack, experiment=attack, question=attack, winner=attack, found=(attack,), config=attack,
        command=attack, versions={attack: attack}, examples=(example,), sweeps=(sweep,),
        figures=(figure_row(attack, attack, 0.5, task=attack, metric=attack),), notes={"figures": attack}))
    walk = Walk(page)
    assert [tag for tag, _ in walk.tags].count("script") == 1, "the page's own"
    assert walk.text.count(attack) >= 15


def test_control_characters_and_lone_surrogates_can_be_written(full: ReportData, tmp_path: Path) -> None:
    example = Example(language="th", kind="fact", prompt="a\x00b", reference="", answers={"base": "\ud800\x1b"})
    write_report(dataclasses.replace(full, examples=(example,)), tmp_path / "new" / "report.html")
    page = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert "a␀b" in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", page)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["report.html"]


def test_every_language_is_shown_in_its_script_with_its_tag(full: ReportData, prompts: dict[str, str]) -> None:
    walk = Walk(render(full))
    for code, prompt in prompts.items():
        assert prompt in walk.text, code
        assert LANGUAGES[code].native_name in walk.text, code
    tags = {attributes.get("lang") for tag, attributes in walk.tags if tag == "td"}
    assert {"my", "km", "lo", "th", "ta", "zh-Hans", "fil"} <= tags


def test_what_was_not_run_is_said_with_its_reason() -> None:
    text = Walk(render(ReportData(experiment="half", made_at="today", missing={"gate": "No model won."}))).text
    assert "Not run. No model won." in text
    assert text.count("Not run.") == len(PARTS) - 1
    assert "No findings were stated." in text


def test_each_part_alone_makes_a_page(full: ReportData) -> None:
    for field in dataclasses.fields(ReportData):
        Walk(render(ReportData(**{"experiment": "e", "made_at": "t", field.name: getattr(full, field.name)})))


def test_a_part_that_ran_in_part_keeps_its_figures_and_says_so(full: ReportData) -> None:
    text = Walk(render(dataclasses.replace(full, missing={"figures": "SFT ran out of time."}))).text
    assert "In part not run: SFT ran out of time." in text
    assert "Exam questions right" in text


def test_an_unknown_part_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean gate"):
        ReportData(experiment="e", made_at="t", missing={"gates": "typo"})


def test_few_items_are_marked(full: ReportData) -> None:
    rows = re.findall(r"<tr[^>]*>(?:(?!</tr>).)*</tr>", render(full).split('id="bits"')[0])
    few = [row for row in rows if '<td class="num">20</td>' in row]
    assert len(few) == 1
    assert few[0].count("†") == 2, "base and winner in Lao"
    assert not any("†" in row for row in rows if '<td class="num">100</td>' in row)


def test_the_failed_trial_the_broken_limit_and_the_failed_gate_are_said(full: ReportData) -> None:
    text = Walk(render(full)).text
    assert "selects nearly all neurons" in text
    assert "breaks a limit" in text
    assert "too many refusals in 'th'" in text


def test_a_sweep_of_several_objectives_shows_its_front_its_mixes_and_what_was_pruned(full: ReportData) -> None:
    def trial(gain: float, cost: float, **changes: Any) -> TrialRow:
        return TrialRow(point={"sft.mixes.own": {"en": 0.26, "th": 0.74}}, figures={"gain": gain, "cost": cost}, **changes)

    sweep = Sweep(name="mixes", objectives={"gain": "max", "cost": "min"}, reason="Best.", trials=(
        trial(0.2, 0.1, on_front=True), trial(0.3, 0.2, on_front=True, is_winner=True), trial(0.1, 0.3, repetition=1),
        TrialRow(point={"sft.mixes.own": {"en": 1.0}}, outcome="pruned", error="behind at look 3")))
    page = render(dataclasses.replace(full, sweeps=(sweep,)))
    text = Walk(page).text
    assert "4 trials, each point with 2 seeds, largest gain wins, beside smallest cost, no limits; 1 pruned." in text
    assert "en 26 th 74" in text
    assert "on the front" in text
    assert "pruned\n: behind at look 3" in text
    assert "failed" not in text.split("mixes")[-1].split("Choice")[0]
    assert page.count('class="front"') == 1, "one line between the two points of the front"


def test_figures_that_are_not_finite_leave_no_broken_picture(
        full: ReportData, figure_row: Callable[..., FigureRow]) -> None:
    nan, inf = float("nan"), float("inf")
    trials = (TrialRow(point={"a": 1}, figures={"gain": nan, "harm": inf}), *full.sweeps[0].trials)
    page = render(dataclasses.replace(
        full, figures=(figure_row("base", "th", nan), *full.figures),
        bits=(dataclasses.replace(full.bits[0], before=0.0, after=nan), *full.bits[1:]),
        sweeps=(dataclasses.replace(full.sweeps[0], trials=trials),
                dataclasses.replace(full.sweeps[1], trials=(TrialRow(point={"a": 1}, figures={"score": nan}),)))))
    Walk(page)
    assert not re.search(r'="(nan|inf|-inf)"|[" ,](nan|inf),', page)


def test_the_page_of_twelve_languages_is_small(full: ReportData) -> None:
    assert len(render(full).encode()) < 500_000


def test_the_winner_stands_on_top_with_its_settings_and_why(full: ReportData) -> None:
    text = Walk(render(full)).text
    top = text[:text.index("Contents") if "Contents" in text else text.index("Results")]
    assert "top_frac 0.1 and mix 1" in top
    assert "thresholds\n: Best." in top
    assert "Four trials." in top
    assert "none was chosen" in Walk(render(dataclasses.replace(full, winner=""))).text


def test_the_gates_limits_stand_beside_the_language_nearest_to_them(full: ReportData) -> None:
    part = Walk(render(full)).text.split("Safety and over-refusal\n")[-1].split("Answers side by side")[0]
    assert re.search(r"false refusal rate\nat most 25.0 %\n40.0 %\nThai\nbroken", part)
    unread = dataclasses.replace(full, gate=dataclasses.replace(full.gate, figures={}))  # type: ignore[type-var]
    assert "not measured" in Walk(render(unread)).text


def test_what_is_refused_is_drawn_where_both_sides_were_measured(full: ReportData, figure_row: Callable[..., FigureRow]) -> None:
    pair = tuple(figure_row("winner", "th", 0.2, task="safety_general", metric=metric)
                 for metric in ("unsafe_answered", "over_refusal"))
    part = render(dataclasses.replace(full, figures=pair)).split('id="gate"')[1].split('id="examples"')[0]
    assert "What the winner refuses" in part
    assert "Harmless look-alikes refused" in part
    assert "What the winner refuses" not in render(dataclasses.replace(full, figures=pair[:1]))


def test_answers_say_whether_they_are_right(full: ReportData) -> None:
    text = Walk(render(full)).text
    assert text.count("✓ right") == text.count("✗ wrong") == len(LANGUAGES)
