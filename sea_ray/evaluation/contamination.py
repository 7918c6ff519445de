"""Training text that repeats a benchmark's items, found by long common passages of letters.

The published way is common runs of 13 words (Brown et al. 2020, arXiv 2005.14165, appendix C). Thai, Lao, Khmer, Burmese and
Chinese part no words, so runs are of letters, vowel signs and digits here, case, spaces and punctuation left out: 80 of them,
which is about 16 English words, or 32 where an item is mostly Chinese characters. A shorter item counts as a whole, unless it is
so short, below 40 (16), that it is an ordinary phrase; a short question is then looked for with its options.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import regex

_OTHER = regex.compile(r"[^\p{L}\p{M}\p{N}]+")
_HAN = regex.compile(r"\p{Han}")


@dataclass
class _Passages:
    """Items, and where each of their short runs stands in them."""

    run: int
    """Length of a run that is looked up."""
    needed: int
    """Length of a common passage that counts; a shorter item counts as a whole."""
    least: int
    """Shorter items prove nothing and are not looked for."""
    items: list[str] = field(default_factory=list)
    places: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, letters: str) -> None:
        if len(letters) >= self.least:
            stride = self.least - self.run + 1  # a passage of `least` letters holds a run that starts at a multiple of it
            for start in range(0, len(letters) - self.run + 1, stride):
                self.places[letters[start : start + self.run]].append((len(self.items), start))
            self.items.append(letters)

    def find(self, letters: str) -> Iterator[tuple[str, str]]:
        """Yield item and common passage for each item that has one which is long enough, in the order of the text."""
        found: set[int] = set()
        for start in range(len(letters) - self.run + 1):
            for number, place in self.places.get(letters[start : start + self.run], ()):
                if number in found:
                    continue
                item, first = self.items[number], max(0, start - self.needed)
                before = _common(letters[first:start][::-1], item[:place][::-1])
                after = _common(letters[start : start + self.needed], item[place : place + self.needed])
                if before + after >= min(self.needed, len(item)):
                    found.add(number)
                    yield item, letters[start - before : start + after]


def _common(first: str, second: str) -> int:
    """Return how many letters two texts begin with alike."""
    return next((at for at, (one, other) in enumerate(zip(first, second, strict=False)) if one != other),
                min(len(first), len(second)))


class Contamination:
    """Knows the items of benchmarks and finds them in other text."""

    def __init__(self, items: Iterable[str]) -> None:
        """Args: items: questions and passages that no model may be trained on."""
        self._han, self._letters = _Passages(run=8, needed=32, least=16), _Passages(run=16, needed=80, least=40)
        self._texts: dict[str, str] = {}
        for text in items:
            self._texts.setdefault(_folded(text), text)
        for item in self._texts:
            mostly_han = 2 * len(_HAN.findall(item)) > len(item)
            (self._han if mostly_han else self._letters).add(item)

    def find(self, text: str) -> str | None:
        """Return a passage, folded, that a text shares with an item, or None."""
        return next((passage for _, passage in self._found(text)), None)

    def find_all(self, text: str) -> dict[str, str]:
        """Return item, as it was given, -> a passage, folded, that a text shares with it; of items alike the first."""
        return {self._texts[item]: passage for item, passage in self._found(text)}

    def _found(self, text: str) -> Iterator[tuple[str, str]]:
        letters = _folded(text)
        yield from self._letters.find(letters)
        if _HAN.search(letters):
            yield from self._han.find(letters)


def _folded(text: str) -> str:
    return _OTHER.sub("", unicodedata.normalize("NFKC", text).casefold())
