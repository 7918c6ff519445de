"""Simplex plot of language mixes: a triangle whose corners are groups of languages, a mark per mix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sea_ray.languages import LANGUAGES
from sea_ray.report.formats import share
from sea_ray.report.labels import in_order, is_kept, language_name
from sea_ray.report.markup import Html, element
from sea_ray.report.svg import Labels, line, mark, picture, text

_WIDTH, _HEIGHT = 460.0, 370.0
_CORNERS = ((230.0, 46.0), (60.0, 326.0), (400.0, 326.0))
_LINES = (0.25, 0.5, 0.75)
_GROUPS = ("English and Chinese", "SEA, Latin script", "SEA, own scripts")


@dataclass(frozen=True, kw_only=True)
class Mix:
    """One mark."""

    name: str
    """Written beside it, such as its number in the table."""
    key: str
    """What has the same key, such as a row of the table, is shown together with it."""
    shares: Mapping[str, float]
    """Source ("th", "th/kind") -> share."""
    is_winner: bool = False


def simplex(label: str, mixes: Sequence[Mix]) -> Html | None:
    """Return the picture; None where the languages don't make three groups, or there is but one mix.

    Three languages are a corner each. More are grouped: English and Chinese, the others in Latin script, the others in scripts of
    their own, which is where tokens and text are scarcest.

    Args:
        label: what the picture shows, for screen readers.
        mixes: to draw.
    """
    totals = [_languages(mix.shares) for mix in mixes]
    codes = in_order(code for one in totals for code in one)
    corners = {language_name(code): [code] for code in codes} if len(codes) == 3 else _grouped(codes)
    if len(mixes) < 2 or len(corners) != 3:
        return None
    parts = [[sum(one.get(code, 0.0) for code in group) for group in corners.values()] for one in totals]
    places = [_place([part / (sum(own) or 1.0) for part in own]) for own in parts]
    labels = Labels(places)
    drawn = [_mark(mix, place, own, list(corners), labels) for mix, place, own in zip(mixes, places, parts, strict=True)]
    return picture(_WIDTH, _HEIGHT, label, _frame(corners), *drawn)


def _languages(shares: Mapping[str, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for source, part in shares.items():
        code = source.partition("/")[0]
        found[code] = found.get(code, 0.0) + part
    return found


def _grouped(codes: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for code in codes:
        latin = code in LANGUAGES and LANGUAGES[code].script == "LATIN"
        groups.setdefault(_GROUPS[0 if is_kept(code) else 1 if latin else 2], []).append(code)
    return {name: groups[name] for name in _GROUPS if name in groups}


def _place(parts: Sequence[float]) -> tuple[float, float]:
    weighted = [(part * x, part * y) for part, (x, y) in zip(parts, _CORNERS, strict=True)]
    return sum(x for x, _ in weighted), sum(y for _, y in weighted)


def _frame(corners: Mapping[str, Sequence[str]]) -> Html:
    drawn: list[Html] = []
    for number in range(3):
        others = [other for other in range(3) if other != number]
        for level in _LINES:
            ends = []
            for other in others:
                parts = [0.0, 0.0, 0.0]
                parts[number], parts[other] = level, 1 - level
                ends.append(_place(parts))
            drawn.append(line(*ends[0], *ends[1], "grid"))
        drawn.append(line(*_CORNERS[number], *_CORNERS[(number + 1) % 3], "zero"))
    for number, (name, codes) in enumerate(corners.items()):
        x, y = _CORNERS[number]
        base = y - 26 if number == 0 else y + 20
        drawn.append(text(x, base, name, "axis strong", "middle"))
        drawn.append(text(x, base + 14, " ".join(codes), "tick", "middle"))
    return element("g", *drawn)


def _mark(mix: Mix, place: tuple[float, float], parts: Sequence[float], corners: Sequence[str], labels: Labels) -> Html:
    x, y = place
    told = ", ".join(f"{name} {share(part, 0)}" for name, part in zip(corners, parts, strict=True) if math.isfinite(part))
    ring = element("circle", cx=x, cy=y, r=10.0, class_="ring") if mix.is_winner else None
    name = labels.beside(x, y, mix.name, needed=mix.is_winner)
    return element("g", ring, mark(x, y, 1, 5.0, f"{mix.name}: {told}"), name, data_trial=mix.key)
