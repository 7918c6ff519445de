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


@dataclass(frozen=True, kw_only=True)
class HeldOutText:
    """A text that must not be trained on, and the item that it is of."""

    benchmark: str
    language: str
    item: int
    """Place of the item among its benchmark's in the language, from 0, as in details.jsonl where all are asked."""
    text: str

    def __str__(self) -> str:
        return f"{self.benchmark}/{self.language} item {self.item}"


_OTHER = regex.compile(r"[^\p{L}\p{M}\p{N}]+")
_HAN = regex.compile(r"\p{Han}")


Shared = tuple[HeldOutText, str]
"""An item, and the passage, folded, that a text shares with it."""


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

    def __init__(self, held_out: Iterable[HeldOutText]) -> None:
        """Args: held_out: questions and passages that no model may be trained on."""
        self._han, self._letters = _Passages(run=8, needed=32, least=16), _Passages(run=16, needed=80, least=40)
        self._owners: dict[str, list[HeldOutText]] = defaultdict(list)
        for one in held_out:
            self._owners[_folded(one.text)].append(one)
        for item in self._owners:
            mostly_han = 2 * len(_HAN.findall(item)) > len(item)
            (self._han if mostly_han else self._letters).add(item)

    def find(self, text: str) -> Shared | None:
        """Return the first of `find_all`, or None."""
        return next(self.find_all(text), None)

    def find_all(self, text: str) -> Iterator[Shared]:
        """Yield each item with which a text shares a passage, and the passage, folded."""
        letters = _folded(text)
        for passages in (self._letters, self._han) if _HAN.search(letters) else (self._letters,):
            for item, passage in passages.find(letters):
                yield from ((one, passage) for one in self._owners[item])


def _folded(text: str) -> str:
    return _OTHER.sub("", unicodedata.normalize("NFKC", text).casefold())
