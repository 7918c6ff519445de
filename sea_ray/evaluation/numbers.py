"""Reading a number out of an answer, as its language writes numbers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from decimal import Decimal

DOTS_GROUP = frozenset({"id", "vi", "jv"})
"""Languages that write 1.234,5 where the others write 1,234.5."""
_UNSPACED = frozenset({"zh", "th", "my", "km", "lo"})
"""Languages whose words stand without spaces, so that a number word has no borders to look for."""
_TAMIL_AND_WORD = r"[\w\u0b80-\u0bff]"  # Python's \w leaves out the vowel signs of Tamil
_DIGITS = re.compile(r"[-−]?\d+(?:[.,]\d+)*")


def read_number(text: str, language: str, words: Mapping[str, int] | None = None) -> Decimal | None:
    """Return the last number of a text, or None if there is none.

    Digits of every script are read; dots and commas group or part decimals as the language has it (1.234,5 in
    Indonesian, Vietnamese and Javanese), but a mark that is not followed by groups of three parts decimals anywhere.

    Args:
        text: answer of a model.
        language: its language.
        words: the language's number words -> value, the longest match wins; None reads digits only.
    """
    text = "".join(str(unicodedata.digit(letter)) if letter.isdigit() else letter for letter in text)
    found = [(match.end(), _value(match[0], language)) for match in _DIGITS.finditer(text)]
    if words:
        spoken = {unicodedata.normalize("NFC", word).casefold(): value for word, value in words.items()}
        options = "|".join(map(re.escape, sorted(spoken, key=len, reverse=True)))
        if language not in _UNSPACED:
            options = f"(?<!{_TAMIL_AND_WORD})(?:{options})(?!{_TAMIL_AND_WORD})"
        folded = unicodedata.normalize("NFC", text).casefold()
        found += [(match.end(), Decimal(spoken[match[0]])) for match in re.finditer(options, folded)]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _value(digits: str, language: str) -> Decimal:
    group, point = (".", ",") if language in DOTS_GROUP else (",", ".")
    whole, *groups = digits.split(group)
    if groups and not all(re.fullmatch(rf"\d{{3}}(?:\{point}\d+)?", part) for part in groups):
        group, point = point, group  # 3.5 in Indonesian or 3,5 in English: the mark cannot group
        if digits.count(point) > 1:
            digits, point = digits.replace(point, ""), "."
    digits = digits.replace(group, "").replace("−", "-")
    head, _, tail = digits.rpartition(point)
    return Decimal(f"{head.replace(point, '')}.{tail}" if head else digits)
