"""Which names occur in a corpus: thousands of names, one pass over the documents.

An Aho-Corasick automaton finds all names at once in the folded text, which has no spaces. There "Ana" stands in "banana", so a
name of a script that spaces its words counts only where a word begins with it; "Ana's" and an attached suffix still count. In
Thai, Lao, Khmer, Burmese and Chinese any place counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

import regex

from sea_ray.corpus.documents import SPLITS, Documents
from sea_ray.near_duplicates import folded

_SPACED = regex.compile(r"[\p{Latin}\p{Tamil}\p{N}]")
_IN_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]")


def document_texts(documents: Documents) -> Iterator[tuple[str, str]]:
    """Yield language and text of each document of every split, as a stream."""
    for code in documents.languages:
        for split in SPLITS:
            yield from ((code, text) for text in documents.texts(code, split))


def occurring(names: Iterable[str], texts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the names that occur, with the language of the first document that holds each.

    Args:
        names: in any scripts.
        texts: language and text of documents; none is read if there is no name.
    """
    import ahocorasick_rs  # a compiled library that only this stage needs

    spellings: dict[str, list[str]] = {}
    for name in names:
        if key := folded(name):
            spellings.setdefault(key, []).append(name)
    found: dict[str, str] = {}
    if not spellings:
        return found
    keys, automaton = list(spellings), ahocorasick_rs.AhoCorasick(list(spellings))
    for language, text in texts:
        letters, begins = folded(text), None
        for number, start, _ in automaton.find_matches_as_indexes(letters, overlapping=True):
            key = keys[number]
            if key in found:
                continue
            if _SPACED.match(key) and start and _IN_WORD.match(letters[start - 1]):
                begins = _begins(text) if begins is None else begins
                if start not in begins:
                    continue
            found[key] = language
    return {name: found[key] for key in found for name in spellings[key]}


def _begins(text: str) -> set[int]:
    """Return the places of the folded text that stand behind white space."""
    return set(accumulate(len(folded(part)) for part in text.split()))
