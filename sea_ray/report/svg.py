"""What all pictures are made of: scales, axes, marks and a frame. Colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sea_ray.report.markup import Child, Html, element

MARKS = ("circle", "diamond", "square", "up", "down", "hexagon")
"""Shape of each colour number, so that a picture reads without colour."""
_POLYGONS = {
    "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    "square": ((-0.95, -0.95), (0.95, -0.95), (0.95, 0.95), (-0.95, 0.95)),
    "up": ((0, -1.25), (1.15, 0.85), (-1.15, 0.85)),
    "down": ((0, 1.25), (1.15, -0.85), (-1.15, -0.85)),
    "hexagon": ((1.1, 0), (0.55, 0.95), (-0.55, 0.95), (-1.1, 0), (-0.55, -0.95), (0.55, -0.95)),
}


@dataclass(frozen=True)
class Scale:
    """Maps values of [low, high] to positions of [start, end] in pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the position of a value; outside values are held at the ends."""
        part = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Return round values (steps of 1, 2 or 5 times a power of ten) inside the scale."""
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(position * step, 12) for position in range(first, last + 1)]


def fit(values: Iterable[float], start: float, end: float, *, pad: float = 0.06) -> Scale:
    """Return a scale that holds all finite values with some air; without any it is [0, 1]."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    air = (high - low) * pad if high > low else abs(high) * 0.1 or 1.0
    return Scale(low - air, high + air, start, end)


def picture(width: float, height: float, label: str, *children: Child, class_: str | None = None,
            data_scales: str | None = None) -> Html:
    """Return an SVG that shrinks with its column and says what it shows.

    Args:
        width, height: in pixels at full size.
        label: read out by screen readers.
        children: drawn in order.
        class_: of the picture, for the script.
        data_scales: low, high, start, end of the horizontal scale and of the vertical one; the script reads values from them.
    """
    return element("svg", *children, viewBox=f"0 0 {width:g} {height:g}", width=f"{width:g}", height=f"{height:g}",
                   role="img", aria_label=label, class_=class_, data_scales=data_scales)


def text(x: float, y: float, content: str, class_: str | None = None, anchor: str | None = None) -> Html:
    """Return text with its base line at y; anchor: start (default), middle or end."""
    return element("text", content, x=float(x), y=float(y), class_=class_, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    """Return a straight line."""
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def mark(x: float, y: float, tone: int, radius: float = 4.0, title: str | None = None, class_: str = "mark") -> Html:
    """Return the shape of a colour number, centred at (x, y); `title` shows on hover."""
    tip = None if title is None else element("title", title)
    kind = MARKS[tone % len(MARKS)]
    style = f"{class_} tone-{tone}"
    if kind == "circle":
        return element("circle", tip, cx=float(x), cy=float(y), r=radius, class_=style)
    points = " ".join(f"{x + dx * radius:.1f},{y + dy * radius:.1f}" for dx, dy in _POLYGONS[kind])
    return element("polygon", tip, points=points, class_=style)


def x_axis(scale: Scale, top: float, bottom: float, format_tick: Callable[[float], str], about: int = 5) -> Html:
    """Return vertical grid lines with their values below."""
    return element("g", *(
        Html(line(scale(tick), top, scale(tick), bottom, "grid")
             + text(scale(tick), bottom + 14, format_tick(tick), "tick", "middle"))
        for tick in scale.ticks(about)))


def y_axis(scale: Scale, left: float, right: float, format_tick: Callable[[float], str], about: int = 4) -> Html:
    """Return horizontal grid lines with their values at the left."""
    return element("g", *(
        Html(line(left, scale(tick), right, scale(tick), "grid")
             + text(left - 6, scale(tick) + 3.5, format_tick(tick), "tick", "end"))
        for tick in scale.ticks(about)))


class Labels:
    """Places names beside marks so that they cover neither each other nor another mark."""

    def __init__(self, marks: Iterable[tuple[float, float]], radius: float = 8.0) -> None:
        """Args: marks: their centres; radius: pixels around each that stay free."""
        self._taken = [(x - radius, y - radius, x + radius, y + radius) for x, y in marks]

    def beside(self, x: float, y: float, content: str, *, needed: bool = False) -> Html:
        """Return the name of the mark at (x, y), at its right, left, above or below; where there is no room, only if needed."""
        width = 7.0 * len(content)
        places = ((x + 13, y + 4, "start", x + 13), (x - 13, y + 4, "end", x - 13 - width),
                  (x, y - 13, "middle", x - width / 2), (x, y + 22, "middle", x - width / 2))
        boxes = [(left, base - 9, left + width, base + 2) for _, base, _, left in places]
        free = next((number for number, box in enumerate(boxes) if not any(_meet(box, other) for other in self._taken)), None)
        if free is None:
            if not needed:
                return Html()
            free = 0
        self._taken.append(boxes[free])
        return text(*places[free][:2], content, "label", places[free][2])


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def clip(content: str, longest: int = 34) -> str:
    """Return a text cut to so many characters."""
    return content if len(content) <= longest else f"{content[:longest - 1]}…"


def figure(caption: Child, *pictures: Child, marks: Sequence[tuple[str, int]] = ()) -> Html:
    """Return pictures side by side, the names of their marks above and a caption below.

    Args:
        caption: what to see and how to read it.
        pictures: SVG.
        marks: (name, colour number) of what is drawn.
    """
    return element("figure", _legend(marks) if marks else None, element("div", *pictures, class_="pictures"),
                   element("figcaption", caption) if caption else None)


def _legend(marks: Sequence[tuple[str, int]]) -> Html:
    return element("div", *(
        element("span", element("svg", mark(7, 7, tone, 4.2), viewBox="0 0 14 14", width=14, height=14,
                                aria_hidden="true"), name)
        for name, tone in marks), class_="legend")
