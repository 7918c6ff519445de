"""What others have published, beside what was measured, and the page of `sea-ray evaluate`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import pytest

from sea_ray.evaluation.figures import EvalReport, Figure
from sea_ray.report import FigureRow, ReportData, render
from sea_ray.report.data import PublishedRow
from sea_ray.report.evaluation_page import evaluation_page
from sea_ray.run_report import evaluation_data, published


def row(**changes) -> PublishedRow:
    return PublishedRow(**{"task": "exam", "metric": "accuracy", "model": "Elsewhere-7B", "values": {"th": 0.777, "km": 0.111},
                           "average": 0.666, "source": "A paper, table 3"} | changes)


def cells(page: str, language: str) -> list[str]:
    """Return the texts of the first row of a language, which is that of its results."""
    found = re.findall(rf'<tr[^>]*><th[^>]*scope="row"[^>]*>{language}.*?</tr>', page)
    return [re.sub("<[^>]*>", " ", one).strip() for one in re.findall("<td.*?</td>", found[0])]


@pytest.fixture
def page(full: ReportData, figure_row: Callable[..., FigureRow]) -> str:
    figures = tuple(figure_row(model, code, 0.5) for model in ("base", "winner") for code in ("th", "vi", "en"))
    return render(dataclasses.replace(full, figures=figures, published=(row(), row(task="never", model="Unasked-7B"))))


def test_published_figures_stand_beside_measured_ones_and_are_marked(page: str) -> None:
    assert '<th scope="col" class="num published">Elsewhere-7B<small>published</small></th>' in page
    assert cells(page, "Thai")[-1] == "77.7"
    assert "Published, not measured here: A paper, table 3." in page


def test_what_is_not_measured_is_not_shown(page: str) -> None:
    assert "Unasked-7B" not in page
    assert ">11.1<" not in page  # Khmer was not asked
    assert cells(page, "Vietnamese")[-1] == "–"  # not published


def test_no_published_figure_enters_a_mean_or_a_picture(page: str, full: ReportData) -> None:
    items, *measured, elsewhere = cells(page, "Mean")
    assert (items, elsewhere) == ("300", "66.6")
    assert all(one.startswith("50.0 ") for one in measured)
    assert not [svg for svg in re.findall("<svg.*?</svg>", page, re.DOTALL) if "Elsewhere" in svg]
    assert not [table for table in re.findall("<table.*?</table>", page, re.DOTALL)[:1] if "Elsewhere" in table]


def test_a_run_shows_every_published_row_that_there_is() -> None:
    assert {(one.task, one.metric) for one in published()} >= {("m3exam", "accuracy"), ("mgsm", "exact_match_number"),
                                                               ("flores", "chrf"), ("safety_multijail", "safe")}
    (chat,) = [one for one in published() if (one.task, one.model) == ("m3exam", "SeaLLMs-v3-7B-Chat")]
    assert (chat.values["th"], chat.average) == (0.569, 0.692)
    assert "5841cc2" in chat.source


def evaluation(name: str = "some model", **settings: object) -> ReportData:
    figures = [Figure(task="m3exam", metric="accuracy", language=code, value=0.4, n=20, low=0.3, high=0.5, higher_is_better=True)
               for code in ("th", "vi")]
    return evaluation_data(EvalReport(model=name, figures=tuple(figures), settings=settings), f"sea-ray evaluate model={name}")


def test_the_page_of_an_evaluation_shows_measured_and_published_figures() -> None:
    text = evaluation_page(evaluation(prompting="chat"), [], [])
    items, measured, *elsewhere = cells(text, "Thai")
    assert (items, measured[:5]) == ("20", "40.0 ")
    assert elsewhere == ["47.9", "53.0", "55.5", "56.9", "46.2", "41.2", "42.4"]
    assert text.count("<small>published</small>") == 7
    assert "prompting: chat" in text
    assert "sea-ray evaluate model=some model" in text
    assert "No item stands in what it was trained on." in text


def test_the_page_says_which_items_were_trained_on_and_what_is_not_known() -> None:
    rows = [(f"mgsm/th item {n // 2}", "corpus/c0/documents/th.train.parquet", 1000 + n) for n in range(300)]
    text = evaluation_page(evaluation(), rows, ["the base"])
    assert "Items that stand in what it was trained on: 150." in text
    assert text.count("th.train.parquet") == 200
    assert "The first 200 of 300; overlap.json has all." in text
    assert "Not looked into: the base." in text
    assert "No item stands" not in evaluation_page(evaluation(), [], ["all"])


def test_user_text_is_escaped_on_the_page_of_an_evaluation() -> None:
    attack = "<script>alert('x')</script>\"&"
    text = evaluation_page(evaluation(attack, checkpoint=attack), [(attack, attack, 1)], [attack])
    assert text.count("<script") == 1, "the page's own"
    assert "&lt;script&gt;" in text
    shown = dataclasses.replace(evaluation(), published=(row(task="m3exam", model=attack, source=attack),))
    assert evaluation_page(shown, [], []).count("<script") == 1
