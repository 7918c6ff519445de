"""Near-duplicates: documents that share most of their character shingles (Broder 1997, "On the resemblance and containment of
documents").

Shingles are of five characters of the folded text without spaces: Thai, Lao, Khmer, Burmese and Chinese write no spaces between
words, so shingles of words would be whole sentences there. rensa makes the MinHash signatures. Documents that agree in a whole
band of their signatures fall into one bucket of that band; in each bucket a document is compared with the first one and with the
one before it. So the work and the memory grow with the number of documents, whatever they are, and the result depends on their
order alone, not on who made the signatures.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_IGNORED = re.compile(r"[\s\u200b-\u200f\u2060\ufeff]+")
SHINGLE_CHARACTERS = 5
NUM_PERMUTATIONS = 128
NUM_BANDS = 32
_BAND_VALUES = NUM_PERMUTATIONS // NUM_BANDS
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd

Band = Callable[[int], NDArray[np.uint32]]
"""Number of a band -> its values in all signatures, [N, 4]."""


def folded(text: str) -> str:
    """Return a text without what near-equal documents differ in: case, white space, zero-width characters, letter forms."""
    return _IGNORED.sub("", unicodedata.normalize("NFKC", text).casefold())


def is_blank(text: str) -> bool:
    """Return whether a text is nothing but white space and zero-width characters."""
    return not text or _IGNORED.fullmatch(text) is not None


def signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    """Return the MinHash signatures of documents in bands, [N, 32, 4]: the share of equal values of two estimates their Jaccard
    index, with an error of about 0.04."""
    import rensa  # a compiled library that other stages need not load

    if not texts:
        return np.zeros((0, NUM_BANDS, _BAND_VALUES), np.uint32)
    hashes = [_shingle_hashes(folded(text)) for text in texts]
    offsets = np.cumsum([0, *map(len, hashes)], dtype=np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(hashes), offsets, NUM_PERMUTATIONS, 0)
    return np.array(matrix.to_rows(), np.uint32).reshape(-1, NUM_BANDS, _BAND_VALUES)


def _shingle_hashes(letters: str) -> NDArray[np.uint64]:
    """Return a hash of each shingle; of a shorter text, of the whole."""
    codes = np.frombuffer(letters.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    length = max(1, len(codes) - SHINGLE_CHARACTERS + 1)
    hashes = np.zeros(length, np.uint64)
    for start in range(min(SHINGLE_CHARACTERS, len(codes))):
        hashes = (hashes ^ codes[start : start + length]) * _MIX
        hashes ^= hashes >> np.uint64(29)
    return hashes


def near_duplicates(band: Band, jaccard: float) -> NDArray[np.bool_]:
    """Return which documents are near-duplicates of an earlier one, [N].

    Args:
        band: of the documents' signatures; asked twice for each number, so that one band is in memory at a time.
        jaccard: least share of equal values of a near-duplicate.
    """
    pairs = np.zeros(0, np.uint64)
    for number in range(NUM_BANDS):
        pairs = np.union1d(pairs, _bucket_pairs(band(number)))
    earlier, later = (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
    equal = np.zeros(len(pairs), np.uint8)
    for number in range(NUM_BANDS):
        values = band(number)
        equal += (values[earlier] == values[later]).sum(axis=1, dtype=np.uint8)
    found = np.zeros(len(values), np.bool_)
    found[later[equal >= jaccard * NUM_PERMUTATIONS]] = True
    return found


def _bucket_pairs(values: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Return the pairs of documents to compare, each as earlier * 2^32 + later."""
    halves = np.ascontiguousarray(values).view(np.uint64)
    keys = (halves[:, 0] * _MIX) ^ halves[:, 1]
    order = np.argsort(keys, kind="stable")
    same = keys[order[1:]] == keys[order[:-1]]
    starts = np.concatenate([[True], ~same]) if len(order) else np.zeros(0, np.bool_)
    first = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    place = np.flatnonzero(same) + 1
    later = order[place].astype(np.uint64)
    ahead = [order[place - 1].astype(np.uint64), order[first[place]].astype(np.uint64)]
    return np.unique(np.concatenate([(earlier << np.uint64(32)) | later for earlier in ahead]))


def repeats(texts: Sequence[str], jaccard: float) -> NDArray[np.bool_]:
    """Return which of some texts in memory are near-duplicates of an earlier one, [N]."""
    values = signatures(texts)
    return near_duplicates(lambda number: values[:, number], jaccard)
