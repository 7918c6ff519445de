"""Reading a number out of an answer, as its language writes numbers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from decimal import Decimal

from sea_ray.languages import LANGUAGES

DOTS_GROUP = frozenset(code for code, one in LANGUAGES.items() if one.decimal_comma)
"""Languages that write 1.234,5 where the others write 1,234.5."""
UNSPACED = frozenset(code for code, one in LANGUAGES.items() if not one.spaced)
"""Languages whose words stand without spaces, so that a word has no borders to look for."""
_TAMIL_AND_WORD = r"[\w\u0b80-\u0bff]"  # Python's \w leaves out the vowel signs of Tamil
_DIGITS = re.compile(r"(?:(?<!\d)[-−])?\d+(?:[.,]\d+)*")


def read_number(text: str, language: str, words: Mapping[str, int] | None = None) -> Decimal | None:
    """Return the last number of a text, or None if there is none.

    Digits of every script are read; dots and commas group or part decimals as the language has it (1.234,5 in
    Indonesian, Vietnamese and Javanese), but a mark that is not followed by groups of three parts decimals anywhere.

    Args:
        text: answer of a model.
        language: its language.
        words: the language's number words -> value, the longest match wins; None reads digits only.
    """
    text = "".join(str(unicodedata.digit(letter)) if letter.isdecimal() else letter for letter in text)
    found = [(match.end(), _value(match[0], language)) for match in _DIGITS.finditer(text)]
    if words:
        spoken = {unicodedata.normalize("NFC", word).casefold(): value for word, value in words.items()}
        options = "|".join(map(re.escape, sorted(spoken, key=len, reverse=True)))
        if language not in UNSPACED:
            options = f"(?<!{_TAMIL_AND_WORD})(?:{options})(?!{_TAMIL_AND_WORD})"
        folded = unicodedata.normalize("NFC", text).casefold()
        found += [(match.end(), Decimal(spoken[match[0]])) for match in re.finditer(options, folded)]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _value(digits: str, language: str) -> Decimal:
    group, point = (".", ",") if language in DOTS_GROUP else (",", ".")
    digits = digits.replace("−", "-")
    if not re.fullmatch(rf"-?(?:\d{{1,3}}(?:\{group}\d{{3}})+|\d+)(?:\{point}\d+)?", digits):
        group, point = point, group  # 3.5 in Indonesian, 3,5 in English: this mark cannot group there
        if digits.count(point) > 1:
            point = ""  # 12,34,567: it groups after all, in the Indian way
    head, _, tail = digits.replace(group, "").partition(point) if point else (re.sub("[.,]", "", digits), "", "")
    return Decimal(f"{head}.{tail}" if tail else head)
