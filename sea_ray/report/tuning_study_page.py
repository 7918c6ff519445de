"""The page of a study of fine-tunings, understood alone: question, answer, arms, figures, pictures, what it does not show."""

from __future__ import annotations

from pathlib import Path

from sea_ray.report import formats
from sea_ray.report.dots import Dot, Series, dot_plot
from sea_ray.report.labels import in_order, language_name
from sea_ray.report.markup import Html, cell, details, element, heading, join, number, number_heading, paragraph, table
from sea_ray.report.page import write_page
from sea_ray.report.scatter import Trial, scatter
from sea_ray.report.study_data import Estimate, MeasureRow, TuningArmRow, TuningStudyData
from sea_ray.report.study_page import study_page
from sea_ray.report.svg import figure

NOT_SHOWN = (
    "One base, one set of neurons. The seeds change the order of the conversations, not what they start from.",
    "Intervals are of one comparison each; with many arms and measures one or another will leave out 0 by chance.",
)
LEAST_DIFFERENCE = 0.01
"""Of a language's shares, for the page to show them: rounding to whole sequences makes less."""


def write_tuning_study(data: TuningStudyData, file: Path) -> None:
    """Write the page as one self-contained HTML file, whole or not at all."""
    write_page(render(data), file)


def render(data: TuningStudyData) -> str:
    """Return the page as text."""
    return study_page(data, data.title, data.question, [
        ("arms", "The arms", _arms(data)),
        ("figures", "What each arm did", _figures(data)),
        ("languages", "Language by language", _languages(data)),
        ("limits", "What this does not show", _limits(data))])


def _arms(data: TuningStudyData) -> Html:
    rows = [[heading(arm.title, "reference" if arm.name == data.reference else None),
             cell(formats.general(data.settings[arm.name])), number(formats.short_count(data.tokens[arm.name]))]
            for arm in data.arms]
    return join([paragraph(f"Each with {data.seeds} seeds, from the same start; all that is not set here is the same."),
                 table(["Arm", "what is set", number_heading("tokens")], rows, "compact"), _shares(data)])


def _shares(data: TuningStudyData) -> Html | None:
    """Return the languages' shares of the tokens, if it is in these that arms differ."""
    codes = in_order({code for shares in data.shares.values() for code in shares})
    spread = [[shares.get(code, 0.0) for shares in data.shares.values()] for code in codes]
    if all(max(some) - min(some) < LEAST_DIFFERENCE for some in spread):
        return None
    rows = [[heading(arm.title), *(number(formats.share(data.shares[arm.name].get(code, 0.0))) for code in codes)]
            for arm in data.arms]
    return join([paragraph("What each language has of these tokens:"),
                 table(["Arm", *map(number_heading, codes)], rows, "compact")])


def _figures(data: TuningStudyData) -> Html:
    return join([_front(data) if data.recommend_by else None, *(_measure(data, measure) for measure in data.measures),
                 paragraph("In brackets the 95 % interval, from the seeds and from the items; a difference is in bold "
                           "where its interval leaves out 0.", "note"),
                 paragraph("Models that are no arm have no seeds: their intervals are of the items alone, and narrower for it. "
                           "They were asked the same questions and read by the same judge; an endpoint is not asked what is "
                           "scored by log-probabilities.", "note") if data.others else None])


def _front(data: TuningStudyData) -> Html:
    measure = next(measure for measure in data.measures if measure.name == data.recommend_by)
    least = next(arm for arm in data.arms if arm.name == data.reference).kept[measure.name].value - data.max_loss
    points, numbers = [], {arm.name: str(place) for place, arm in enumerate(data.arms, 1)}
    for arm in data.arms:
        kept, sea = measure.within(arm.kept[measure.name]), measure.within(arm.sea[measure.name])
        points.append(Trial(name=numbers[arm.name], x=kept.value, y=sea.value, x_interval=(kept.low, kept.high),
                            y_interval=(sea.low, sea.high), on_front=arm.on_front, keeps_limits=kept.value >= least,
                            is_winner=arm.name == data.recommended, title=arm.title))
    drawn = scatter(f"{measure.title}: SEA languages against English and Chinese", points, x_name="English and Chinese",
                    y_name="SEA languages", limit=least, limit_is_upper=False)
    rows = [[heading(arm.title), number(numbers[arm.name]),
             number("–" if arm.chance_of_best is None else formats.share(arm.chance_of_best, 0))] for arm in data.arms]
    return join([figure(f"{measure.title}. Bars are 95 % intervals. The line joins the arms that no other beats in both; the "
                        "shaded side loses more in English and Chinese than is allowed; the ring is what is recommended.", drawn),
                 table(["Arm", number_heading("in the picture"), number_heading("chance that the rule picks it")], rows,
                       "compact")])


def _measure(data: TuningStudyData, measure: MeasureRow) -> Html:
    name, before = measure.name, data.before.get(measure.name)
    rows = [[heading(arm.title, "reference" if arm.name == data.reference else None),
             _value(measure, arm.sea[name]), _difference(arm.sea_difference.get(name)),
             _value(measure, arm.kept[name]), _difference(arm.kept_difference.get(name))] for arm in data.arms]
    rows += [[heading(other.title, "no arm: asked as it is"), _value(measure, other.sea.get(name)), _difference(None),
              _value(measure, other.kept.get(name)), _difference(None)] for other in data.others]
    if before:
        rows.insert(0, [heading("before", "what every arm starts from"), _value(measure, before[0]), _difference(None),
                        _value(measure, before[1]), _difference(None)])
    better = "more is better" if measure.higher_is_better else "less is better"
    against = number_heading("against the reference")
    return element("section", element("h3", measure.title),
                   paragraph(f"Mean of {formats.listing(measure.figures)}; {better}; {data.items[name]} items in each language."),
                   table(["Arm", number_heading("SEA languages"), against, number_heading("English and Chinese"), against], rows,
                         "compact"))


def _value(measure: MeasureRow, estimate: Estimate | None) -> Html:
    if estimate is None:
        return element("td", "not asked", class_="num")
    return element("td", formats.figure(estimate.value, "bits"), element("small", _interval(measure.within(estimate))),
                   class_="num")


def _difference(estimate: Estimate | None) -> Html:
    if estimate is None:
        return element("td")
    text = f"{estimate.value:+.3f}".replace("-", "−")
    return element("td", element("strong", text) if estimate.is_clear else text, element("small", _interval(estimate)),
                   class_="num")


def _interval(estimate: Estimate) -> str:
    return f"[{formats.figure(estimate.low, 'bits')}, {formats.figure(estimate.high, 'bits')}]"


def _languages(data: TuningStudyData) -> Html:
    return join(_of_measure(data, measure) for measure in data.measures)


def _of_measure(data: TuningStudyData, measure: MeasureRow) -> Html:
    shown: list[TuningArmRow] = sorted(data.arms, key=lambda arm: arm.name != data.reference)
    shown = [arm for arm in (*shown, *data.others) if measure.name in arm.by_language][:5]
    series = [Series(name=arm.title, tone=1 + place, dots={
        code: Dot(value=each.value, low=measure.within(each).low, high=measure.within(each).high,
                  title=f"{language_name(code)}, {arm.title}: {formats.figure(each.value, 'bits')}")
        for code, each in arm.by_language[measure.name].items()}) for place, arm in enumerate(shown)]
    codes = in_order(shown[0].by_language[measure.name])
    rows = [[heading(arm.title), *(number(formats.figure(arm.by_language[measure.name][code].value, "bits")) for code in codes)]
            for arm in (*data.arms, *data.others) if measure.name in arm.by_language]
    return element("section", element("h3", measure.title), figure(
        "right is better" if measure.higher_is_better else "left is better",
        dot_plot(f"{measure.title} per language", series, format_tick=formats.general, width=720),
        marks=[(one.name, one.tone) for one in series]),
        details("All, as a table", table(["Arm", *map(number_heading, codes)], rows, "compact")))


def _limits(data: TuningStudyData) -> Html:
    return element("ul", *(element("li", sentence) for sentence in (*data.not_shown, *NOT_SHOWN)))
