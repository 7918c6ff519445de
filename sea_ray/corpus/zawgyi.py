"""Burmese in Zawgyi encoding: found and turned into Unicode.

Zawgyi is an older font encoding that gives Unicode's Myanmar code points another meaning and order. A model that reads both
learns two spellings of every word. Google's Myanmar Tools tell them apart by a Markov model; ICU's transliteration Zawgyi-my
converts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

_MYANMAR = re.compile(r"[\u1000-\u109f]")
_JUDGED_CHARACTERS = 2000
_PIECE_CHARACTERS = 1000
"""ICU moves the rest of the text at every change, so its time grows with the square of what it is given at once."""
_SEAM = re.compile(r"(?<=[ \n\u1038\u104a\u104b])(?=[\u1000-\u1021A-Za-z])")
"""Behind a space, line break, visarga or full stop and before a consonant. No rule of Zawgyi-my reaches across: those that take
spaces away want a mark behind them, those for the text's ends a zero, a four or a zero-width space there."""


def is_zawgyi(text: str) -> bool:
    """Return whether a text's Myanmar letters are in Zawgyi encoding, by its first 2,000 characters."""
    if not _MYANMAR.search(text):
        return False
    return float(_detector().get_zawgyi_probability(text[:_JUDGED_CHARACTERS])) > 0.5


def to_unicode(text: str) -> str:
    """Return a text in Zawgyi encoding in Unicode, in time proportional to its length."""
    return "".join(str(_converter().transliterate(piece)) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces that are converted alike alone; one of 2,000 characters without a seam is no language."""
    start = 0
    while start < len(text):
        limit = start + 2 * _PIECE_CHARACTERS
        seam = _SEAM.search(text, start + _PIECE_CHARACTERS, limit)
        end = seam.start() if seam else limit
        yield text[start:end]
        start = end


@cache
def _detector() -> Any:
    from myanmartools import ZawgyiDetector

    return ZawgyiDetector()


@cache
def _converter() -> Any:
    from icu import Transliterator

    return Transliterator.createInstance("Zawgyi-my")
