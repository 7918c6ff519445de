"""The page of the study of neurons, understood alone: question, answer, arms, figures, pictures, cost, what it does not show."""

from __future__ import annotations

from pathlib import Path

from sea_ray.report import formats
from sea_ray.report.dots import Dot, Series, dot_plot
from sea_ray.report.heatmap import heatmap
from sea_ray.report.labels import in_order, language_name
from sea_ray.report.markup import Html, details, element, heading, join, number, number_heading, paragraph, table
from sea_ray.report.page import write_page
from sea_ray.report.scatter import Trial, scatter
from sea_ray.report.study_data import ArmRow, Estimate, Interference, NeuronStudyData, RateRow
from sea_ray.report.study_page import study_page
from sea_ray.report.svg import figure

QUESTION = ("A base model is to learn more of some languages. Is it better to train only the neurons that belong to each of "
            "them, or to continue its pre-training as a whole, and what does each way cost English and Chinese?")
NOT_SHOWN = (
    "Bits per byte of held-out text of the same kind as the training text: not what the models can do.",
    "Rates are chosen among a few; between two of them another may be better. Each arm chooses by the same rule, but a limit on "
    "English and Chinese decides which arms may take a high rate.",
    "One base. The seeds change the order of the text and which random neurons are drawn, not the base.",
    "Intervals are of one comparison each; with many arms one or another will leave out 0 by chance.",
    "Seconds are of this machine; on processors alone a training of few neurons saves less than on a GPU.",
)


def write_neuron_study(data: NeuronStudyData, file: Path) -> None:
    """Write the page as one self-contained HTML file, whole or not at all."""
    write_page(render(data), file)


def render(data: NeuronStudyData) -> str:
    """Return the page as text."""
    return study_page(data, "Neurons against continued pre-training", QUESTION, [
        ("figures", "What each arm did", _figures(data)),
        ("languages", "Language by language", _languages(data)),
        ("rates", "How the rates were chosen", _rates(data)),
        ("interference", "One language at a time", _interference(data)),
        ("cost", "What an arm costs", _cost(data)),
        ("limits", "What this does not show", _limits(data))])


def _figures(data: NeuronStudyData) -> Html:
    ordered = sorted(data.arms, key=lambda arm: arm.taught.value)
    names = {arm.name: place for place, arm in enumerate(ordered, 1)}
    points = [Trial(name=str(names[arm.name]), x=100 * arm.english.value, y=-100 * arm.taught.value,
                    keeps_limits=_dearest(arm).value <= data.max_cost, is_winner=arm.name == data.reference,
                    title=f"{names[arm.name]}: {arm.title}") for arm in ordered]
    drawn = scatter("Gain of the taught languages against the cost in English, per arm", points,
                    x_name="English, change of bits per byte in % (less is better)",
                    y_name="taught languages, fall of bits per byte in % (more is better)")
    head = ["Arm", number_heading("rate"), number_heading("taught languages"), number_heading("against the reference"),
            number_heading("English"), number_heading("Chinese"), number_heading("other SEA")]
    rows = [[heading(f"{names[arm.name]}. {arm.title}", "reference" if arm.name == data.reference else None),
             number(formats.general(arm.rate)), _estimate(arm.taught), _estimate(arm.difference), _estimate(arm.english),
             _estimate(arm.chinese), _estimate(arm.untaught)] for arm in ordered]
    languages = formats.listing([language_name(code) for code in data.languages])
    counts = sorted(set(data.documents.values()))
    told = (f"Change of bits per byte of the test text against the untouched base, below 0 is better; taught: {languages}. Each "
            f"arm saw {formats.short_count(data.tokens)} tokens, with {data.seeds} seeds. In brackets the 95 % interval, from "
            f"the seeds and from draws of the documents ({formats.listing([str(count) for count in counts])} in each language). "
            "The arm with the ring is the reference.")
    return join([
        figure("Up is better for the taught languages, left is better for English; numbers as in the table; blue diamonds keep "
                f"the limit of {formats.change(data.max_cost)} in English and Chinese, grey circles do not.", drawn),
        table(head, rows, "compact"), paragraph(told, "note"),
        *(paragraph(f"Not run: {arm}. {reason}", "absent") for arm, reason in data.left_out.items())])


def _dearest(arm: ArmRow) -> Estimate:
    return max([arm.english, *([arm.chinese] if arm.chinese else [])], key=lambda estimate: estimate.value)


def _estimate(estimate: Estimate | None) -> Html:
    if estimate is None:
        return number("–")
    interval = f"[{formats.change(estimate.low)}, {formats.change(estimate.high)}]"
    return element("td", formats.change(estimate.value), element("small", f" {interval}"), class_="num")


def _languages(data: NeuronStudyData) -> Html:
    shown = [arm for arm in data.arms if arm.name == data.reference] + sorted(
        (arm for arm in data.arms if arm.name != data.reference), key=lambda arm: arm.taught.value)[:3]
    series = [Series(name=arm.title, tone=1 + place, dots={
        code: Dot(value=100 * each.value, low=100 * each.low, high=100 * each.high,
                  title=f"{language_name(code)}, {arm.title}: {formats.change(each.value)}")
        for code, each in arm.by_language.items()}) for place, arm in enumerate(shown)]
    drawn = dot_plot("Change of bits per byte per language", series, format_tick=lambda value: f"{formats.general(value)} %",
                     width=720, lines={"untouched": 0.0})
    codes = in_order(shown[0].by_language)
    rows = [[heading(arm.title), *(number(formats.change(arm.by_language[code].value)) for code in codes)] for arm in data.arms]
    return join([
        figure("The reference and the three arms that teach most; left is better.", drawn,
               marks=[(one.name, one.tone) for one in series]),
        details("All arms in all languages", table(["Arm", *map(number_heading, codes)], rows, "compact"))])


def _rates(data: NeuronStudyData) -> Html:
    languages = formats.listing([language_name(code) for code in data.rate_languages])
    rates = sorted({row.rate for row in data.rates})
    rows = []
    for arm in data.arms:
        own = {row.rate: row for row in data.rates if row.arm == arm.name}
        rows.append([heading(arm.title), *(_rate(own.get(rate)) for rate in rates)])
    return join([
        paragraph(f"On {languages} alone, one other seed, read on the validation text: the fall of bits per byte of the taught "
                  f"languages, then the largest rise of English and Chinese. Chosen is the largest fall among rates whose rise "
                  f"is at most {formats.change(data.max_cost).lstrip('+')}; where none is so cheap, the cheapest."),
        table(["Arm", *(number_heading(formats.general(rate)) for rate in rates)], rows, "compact")])


def _rate(row: RateRow | None) -> Html:
    if row is None or row.gain is None or row.cost is None:
        return element("td", "–" if row is None else f"failed: {row.error}", class_="num quiet")
    text = f"{formats.change(row.gain)} at {formats.change(row.cost)}"
    return element("td", element("strong", text) if row.chosen else text, class_="num")


def _interference(data: NeuronStudyData) -> Html:
    told = ("Each row is a model that was taught one language; each column says by how much bits per byte of a language changed, "
            "in per cent. The last row is the same arm taught all languages at once: where a language's own row has a lower "
            "figure than the last one, together is worse than alone.")
    rows = [[heading(one.title), _estimate(one.own), _estimate(one.against_reference), _estimate(one.own_together),
             _estimate(one.difference), _estimate(one.english), _estimate(one.english_together)]
            for one in sorted(data.interference, key=lambda one: one.own.value)]
    head = ["Arm", *map(number_heading, ("each language's own text", "against the reference", "all at once",
                                         "alone less all at once", "English, one at a time", "English, all at once"))]
    note = ("Means over the languages. One at a time is one seed: in its intervals are draws of the documents alone, in those of "
            "the difference the seeds of all at once, too.")
    return join([paragraph(told), table(head, rows, "compact"), paragraph(note, "note"),
                 *(_matrix(one) for one in data.interference)])


def _matrix(one: Interference) -> Html:
    codes, taught = in_order(one.together), in_order(one.changes)
    values = [[100 * changes[code] for code in codes] for changes in (*(one.changes[row] for row in taught), one.together)]
    names = [language_name(code) for code in taught] + ["together"]
    texts = [[f"{value:+.1f}".replace("-", "−") for value in row] for row in values]

    def title(row: int, column: int) -> str:
        return f"{names[row]}, measured on {language_name(codes[column])}: {values[row][column]:+.2f} %"

    drawn = heatmap(f"Interference: {one.title}", names, codes, values, texts=texts, cell_width=48, corner="measured",
                    largest=max(abs(value) for row in values for value in row), titles=title)
    return figure(join([element("strong", one.title), ". Orange is a fall (better), blue a rise."]), drawn)


def _cost(data: NeuronStudyData) -> Html:
    head = ["Arm", number_heading("values trained"), number_heading("gradients and states"), number_heading("sent per step"),
            number_heading("a step"), number_heading("steps")]
    rows = [[heading(arm.title), number(formats.short_count(arm.trained_values)), number(formats.size(arm.state_bytes)),
             number(formats.size(arm.sent_bytes)), number(formats.duration(arm.step_s)), number(formats.count(arm.steps))]
            for arm in data.arms]
    return join([
        table(head, rows, "compact"),
        paragraph("Values of neurons are those of all languages together, states and bytes those of one language's training, "
                  "which is all that is in memory at a time. Seconds are medians over the seeds; other work on the machine is in "
                  "them.", "note")])


def _limits(data: NeuronStudyData) -> Html:
    return element("ul", *(element("li", sentence) for sentence in NOT_SHOWN))
