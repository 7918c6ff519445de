"""Near-duplicates: documents that share most of their character shingles (Broder 1997, "On the resemblance and containment of
documents").

Shingles are of five characters of the folded text without spaces: Thai, Lao, Khmer, Burmese and Chinese write no spaces between
words, so shingles of words would be whole sentences there. rensa makes the MinHash signatures and finds candidates by banding.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_IGNORED = re.compile(r"[\s\u200b-\u200f\u2060\ufeff]+")
SHINGLE_CHARACTERS = 5
NUM_PERMUTATIONS = 128
NUM_BANDS = 32


def folded(text: str) -> str:
    """Return a text without what near-equal documents differ in: case, white space, zero-width characters, letter forms."""
    return _IGNORED.sub("", unicodedata.normalize("NFKC", text).casefold())


class NearDuplicates:
    """Lets of several near-duplicates the first pass; remembers about 4 kB per document."""

    def __init__(self, jaccard: float) -> None:
        """Args: jaccard: two documents are near-duplicates from this share of common shingles, estimated, error about 0.04."""
        import rensa  # a compiled library that other stages need not load

        self._signature: Any = lambda: rensa.RMinHash(NUM_PERMUTATIONS, 0)
        self._index: Any = rensa.RMinHashDeduplicator(jaccard, NUM_PERMUTATIONS, True, NUM_BANDS, 0)
        self._count = 0

    def __call__(self, text: str) -> str | None:
        """Return the text if no earlier document is its near-duplicate, else None."""
        letters = folded(text)
        last = max(1, len(letters) - SHINGLE_CHARACTERS + 1)
        signature = self._signature()
        signature.update([letters[start : start + SHINGLE_CHARACTERS] for start in range(last)])
        self._count += 1
        return text if self._index.add(str(self._count), signature) else None
