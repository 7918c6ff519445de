"""How languages, models and parts are named and coloured on the page."""

from __future__ import annotations

from collections.abc import Iterable

from sea_ray.languages import HIGH_RESOURCE, LANGUAGES
from sea_ray.report.markup import Html, element

NUM_TONES = 6
_LANG_TAGS = {"zh": "zh-Hans", "tl": "fil"}


def language_name(code: str) -> str:
    """Return the English name, or the code of a language that the list doesn't hold."""
    return one.name if (one := LANGUAGES.get(code)) else code


def language_heading(code: str) -> Html:
    """Return a row's heading: English name and, quieter, the name in its own script."""
    native = one.native_name if (one := LANGUAGES.get(code)) else ""
    name = language_name(code)
    return element("th", name, element("small", native, lang=language_tag(code)) if native not in ("", name) else None,
                   scope="row", class_="language")


def language_row(code: str, *cells: Html) -> Html:
    """Return a row of a table whose rows are languages; the script may show one language alone."""
    return element("tr", language_heading(code), *cells, data_language=code)


def language_tag(code: str) -> str:
    """Return the BCP 47 tag, by which a browser picks font and line breaks."""
    return _LANG_TAGS.get(code, code)


def in_order(codes: Iterable[str]) -> list[str]:
    """Return distinct codes: trained languages in the project's order, unknown ones, then English and Chinese."""
    distinct = dict.fromkeys(codes)
    known = [code for code in LANGUAGES if code in distinct and code not in HIGH_RESOURCE]
    return [*known, *(code for code in distinct if code not in LANGUAGES), *(c for c in HIGH_RESOURCE if c in distinct)]


def is_kept(code: str) -> bool:
    """Return whether a language is one whose quality must not suffer (English, Chinese)."""
    return code in HIGH_RESOURCE


def tones(names: Iterable[str], first: int = 0) -> dict[str, int]:
    """Return a colour number for each distinct name, in order; 0 is the quiet grey of the starting point."""
    return {name: (first + position) % NUM_TONES for position, name in enumerate(dict.fromkeys(names))}
