"""Burmese in Zawgyi encoding: found and turned into Unicode.

Zawgyi is an older font encoding that gives Unicode's Myanmar code points another meaning and order. A model that reads both
learns two spellings of every word. Google's Myanmar Tools tell them apart by a Markov model; ICU's transliteration Zawgyi-my
converts.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_MYANMAR = re.compile(r"[\u1000-\u109f]")
_JUDGED_CHARACTERS = 2000


def is_zawgyi(text: str) -> bool:
    """Return whether a text's Myanmar letters are in Zawgyi encoding, by its first 2,000 characters."""
    if not _MYANMAR.search(text):
        return False
    return float(_detector().get_zawgyi_probability(text[:_JUDGED_CHARACTERS])) > 0.5


def to_unicode(text: str) -> str:
    """Return a text in Zawgyi encoding in Unicode."""
    return str(_converter().transliterate(text))


@cache
def _detector() -> Any:
    from myanmartools import ZawgyiDetector

    return ZawgyiDetector()


@cache
def _converter() -> Any:
    from icu import Transliterator

    return Transliterator.createInstance("Zawgyi-my")
