"""Where the neurons of each language lie, how much languages share, and what their packs do to each other."""

from __future__ import annotations

from sea_ray.report import formats
from sea_ray.report.data import LanguageMatrix, NeuronMap, ReportData
from sea_ray.report.heatmap import heatmap
from sea_ray.report.labels import in_order, language_name, language_row
from sea_ray.report.markup import Html, element, join, number, number_heading, table
from sea_ray.report.names import site_name
from sea_ray.report.svg import figure


def neuron_maps(data: ReportData) -> Html:
    """Return a heat map of layers per kind of site, and the table of counts."""
    sites = list(dict.fromkeys(row.site for row in data.neuron_maps))
    maps = [_site([row for row in data.neuron_maps if row.site == site], site) for site in sites]
    caption = ("Selected neurons per layer; the tint is their share of the layer's neurons, full at the largest share "
               "of the map.")
    return join([figure(caption, *maps) if maps else None, _counts(data) if data.neuron_rows else None])


def _site(rows: list[NeuronMap], site: str) -> Html:
    by_language = {row.language: row for row in rows}
    languages = in_order(by_language)
    shares = [[count / max(1, by_language[code].per_layer) for count in by_language[code].counts] for code in languages]
    largest = max((value for row in shares for value in row), default=0.0)
    layers = max(len(row.counts) for row in rows)
    padded = [[*row, *[None] * (layers - len(row))] for row in shares]

    def title(row: int, layer: int) -> str:
        one = by_language[languages[row]]
        counts = one.counts[layer] if layer < len(one.counts) else 0
        return f"{language_name(one.language)}, {site_name(site)}, layer {layer}: {counts} of {one.per_layer} neurons"

    cells = [[_count_text(by_language[code], layer) for layer in range(layers)] for code in languages]
    width = max(16.0, min(52.0, 720 / layers))
    drawn = heatmap(f"Selected {site_name(site)} neurons per language and layer",
                    [language_name(code) for code in languages], [str(layer) for layer in range(layers)], padded,
                    texts=cells if width >= 26 else None, largest=largest, titles=title, cell_width=width,
                    corner="layer", languages=languages)
    return element("div", element("h4", site_name(site)), drawn)


def _count_text(row: NeuronMap, layer: int) -> str:
    return formats.count(row.counts[layer]) if layer < len(row.counts) else ""


def _counts(data: ReportData) -> Html:
    by_language = {row.language: row for row in data.neuron_rows}
    rows = []
    for code in in_order(by_language):
        row = by_language[code]
        stability = "not read" if row.stability is None else f"{row.stability:.2f}"
        rows.append(language_row(code, number(formats.count(row.neurons)), number(formats.share(row.parameter_share, 2)),
                                 number(stability)))
    caption = "Stability: Jaccard index of the sets that two halves of the text select, 1 is the same set."
    columns = map(number_heading, ("neurons", "share of parameters", "stability"))
    return table(["Language", *columns], rows, "compact", caption)


def overlap(data: ReportData) -> Html:
    """Return the matrix of languages that share neurons."""
    return _matrices([data.overlap] if data.overlap else [])


def interference(data: ReportData) -> Html:
    """Return the matrices of what the packs have in common."""
    return _matrices(list(data.interference))


def _matrices(matrices: list[LanguageMatrix]) -> Html:
    drawn = [figure(join([element("strong", one.name), f". {one.note}" if one.note else None]), _matrix(one))
             for one in matrices]
    return element("div", *drawn, class_="pictures matrices")


def _matrix(one: LanguageMatrix) -> Html:
    apart = [value for row, values in enumerate(one.values) for column, value in enumerate(values)
             if value is not None and row != column]
    largest = max(apart, default=1.0) if one.kind == "count" else 1.0
    names = [language_name(code) for code in one.languages]

    def title(row: int, column: int) -> str:
        value = one.values[row][column]
        return f"{names[row]} and {names[column]}: {'none' if value is None else formats.general(value)}"

    texts = [["" if value is None else _matrix_text(value, one.kind) for value in row] for row in one.values]
    return heatmap(one.name, names, list(one.languages), one.values, texts=texts, largest=largest, titles=title,
                   cell_width=36, languages=one.languages)


def _matrix_text(value: float, kind: str) -> str:
    return formats.short_count(value).replace(" ", "") if kind == "count" else formats.score(value)
