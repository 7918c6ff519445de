"""Heat maps: a tint per cell with its number inside, so that the picture is a table too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from sea_ray.report.markup import Html, element
from sea_ray.report.svg import picture, text

_DARK = 0.64
"""Tint from which the text inside is set in the colour of the paper; there both have about the same contrast."""
Values = Sequence[Sequence[float | None]]


def heatmap(label: str, rows: Sequence[str], columns: Sequence[str], values: Values, *,
            texts: Sequence[Sequence[str]] | None, largest: float, titles: Callable[[int, int], str],
            cell_width: float = 44, label_width: float = 88, corner: str = "", languages: Sequence[str] | None = None) -> Html:
    """Return a heat map.

    Negative values take the second colour, so that a scale of -1 to 1 shows both sides of 0.

    Args:
        label: what the picture shows, for screen readers.
        rows, columns: names.
        values: [rows][columns]; None: an empty cell.
        texts: what is written in the cells; None: nothing, where cells are too narrow for it.
        largest: absolute value that has the full tint.
        titles: (row, column) -> text on hover.
        cell_width, label_width: pixels.
        corner: what the columns are, set above the row names.
        languages: code of each row, where rows are languages.
    """
    height, top = 25.0, 24.0
    width = label_width + 10 + cell_width * len(columns)
    drawn = [text(label_width, top - 8, corner, "tick", "end")]
    drawn += [text(label_width + 10 + (column + 0.5) * cell_width, top - 8, name, "tick", "middle")
              for column, name in enumerate(columns)]
    for row, name in enumerate(rows):
        drawn.append(element(
            "g", text(label_width, top + row * height + 16.5, name, "label", "end"),
            *(_cell(label_width + 10 + column * cell_width, top + row * height, cell_width, height, value, largest,
                    texts[row][column] if texts else "", titles(row, column)) for column, value in enumerate(values[row])),
            data_language=languages[row] if languages else None))
    return picture(width, top + height * len(rows) + 4, label, *drawn)


def _cell(x: float, y: float, width: float, height: float, value: float | None, largest: float,
          content: str, title: str) -> Html:
    tip = element("title", title)
    if value is None or not math.isfinite(value):
        return element("rect", tip, x=x + 0.5, y=y + 0.5, width=width - 1, height=height - 1, class_="cell none")
    tint = min(1.0, abs(value) / largest) if largest > 0 else 0.0
    colour = "cell minus" if value < 0 else "cell"
    style = "inside strong" if tint > _DARK else "inside"
    return element(
        "g", tip,
        element("rect", x=x + 0.5, y=y + 0.5, width=width - 1, height=height - 1, class_="cell base"),
        element("rect", x=x + 0.5, y=y + 0.5, width=width - 1, height=height - 1, class_=colour, fill_opacity=tint),
        text(x + width / 2, y + height / 2 + 4, content, style, "middle") if content else None)
