"""Cleaning of one document: repaired encoding, composed letters, no control characters, orderly white space."""

from __future__ import annotations

import hashlib
import re

import ftfy
import regex

from sea_ray.near_duplicates import folded, is_blank

# Mojibake is repaired and Unicode brought to NFC; typography (curly quotes, full-width forms, ligatures, HTML entities)
# is the writer's and stays.
_REPAIR = ftfy.TextFixerConfig(
    unescape_html=False, uncurl_quotes=False, fix_character_width=False, fix_latin_ligatures=False, normalization="NFC"
)
_SOFT_HYPHENS = dict.fromkeys(map(ord, "\u00ad\ufffe\uffff"))
_PILED_MARKS = regex.compile(r"(\p{M}{30})\p{M}+")
"""No language piles more than 30 marks on a letter (Unicode Standard Annex 15, stream-safe text), and the time that NFC takes
grows with the square of their number."""
_EMPTY_LINES = re.compile(r"\n[ \t\r\n]*\n")
"""Taken away before ftfy, which spends 4 us on every line, that of a file of nothing but line breaks too."""
_REPAIRABLE = re.compile(r"[^\t\n\x0c\x20-\x7e]")
"""Nothing else in a text is changed by ftfy as it is set above."""
_SPACES = re.compile(r"[^\S\n]+")
_LINE_EDGES = re.compile(r" ?\n ?")
_BLANK_LINES = re.compile(r"\n{3,}")


def clean(text: str) -> str:
    """Return a document as the tokenizer should see it.

    Zero-width space, joiner and non-joiner stay: Khmer, Lao, Burmese and Thai part words with the first, and the others
    change how Tamil and Khmer letters join.

    Args:
        text: raw document.

    Returns:
        Text in NFC, mojibake repaired (ftfy), without control characters; runs of spaces are one space, lines are
        stripped, at most one line is blank in a row. A text of nothing but zero-width characters is empty.
    """
    text = _EMPTY_LINES.sub("\n\n", text)
    if _REPAIRABLE.search(text):
        text = ftfy.fix_text(_PILED_MARKS.sub(r"\1", text), _REPAIR).translate(_SOFT_HYPHENS)
    text = _LINE_EDGES.sub("\n", _SPACES.sub(" ", text))
    text = _BLANK_LINES.sub("\n\n", text).strip()
    return "" if is_blank(text) else text


def text_key(text: str, seed: int = 0) -> bytes:
    """Return 16 bytes that are equal for documents which differ in case, white space or zero-width characters only.

    Args:
        text: document.
        seed: another seed gives unrelated keys.
    """
    return hashlib.blake2b(folded(text).encode(), digest_size=16, salt=seed.to_bytes(8, "little", signed=True)).digest()
