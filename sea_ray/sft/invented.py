"""Names that nobody bears, made from known names of the same language and kind: their own words are crossed with each other.

A crossing is the beginning of one word and the end of another. The two meet where both have written the same two characters, else
the same one, between grapheme clusters, so that what stands beside each other at the seam has stood so in a known name: no vowel
sign is torn off in Thai, Khmer, Lao, Burmese or Tamil. Latin letters meet between a consonant and a vowel, if need be any two, so
that syllables stay syllables; Chinese characters are syllables and meet anywhere. Known words in another order would be easier,
but a known given name and a known family name are often somebody.
"""

from __future__ import annotations

import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import regex

from sea_ray.errors import DataError
from sea_ray.near_duplicates import folded

MIN_NAMES = 8
"""Fewest different names of a language and kind that new ones are made from."""
LETTERS_PER_CHANGE = 4
"""A name is a near copy of a known one if it has no more than one change (Levenshtein) for each so many letters: "Bandang" of
"Bandung"."""
COMMON = 0.05
"""A word that more than this part of the names has stays as it is, such as "University"."""

_CLUSTERS = regex.compile(r"\X")
_HAN = regex.compile(r"\p{Han}")
_LATIN = regex.compile(r"\p{Latin}")
_MARK = regex.compile(r"\p{M}")
_MOST_ENDS = 40
"""Ends tried at a cut, of each likeness; with thousands of names there are thousands."""
_MOST_ATTEMPTS = 40
"""Crossings tried of one name."""


def counterparts(known: Sequence[str], seed: int, group: str) -> dict[str, str]:
    """Return known name -> a name of its own that nobody bears, the same for the same names and seed.

    Args:
        known: names of one language and kind; a repeated one counts once.
        seed: decides what is crossed with what.
        group: what the names are, such as "person in 'th'", for the error.

    Raises:
        DataError: the names are too few, or too like each other, to make as many new ones.
    """
    names = list({folded(name): " ".join(name.split()) for name in reversed(known)}.values())[::-1]  # the first spelling stands
    if len(names) < MIN_NAMES:
        raise DataError(f"{len(names)} different names of kind {group}; at least {MIN_NAMES} are needed to make new ones: add "
                        "rows about others")
    maker, made = _Maker(names), dict[str, str]()
    for name in names:
        candidates = maker.candidates(name, random.Random(f"{seed}/{name}"))
        new = next((new for new in candidates if folded(new) not in made), None)
        if new is None:
            raise DataError(f"{len(names)} different names of kind {group} give only {len(made)} new ones that are no near "
                            f"copies of them, {len(names)} are needed: add rows about others, not spelt alike")
        made[folded(new)] = new
    by_name = dict(zip(map(folded, names), made.values(), strict=True))
    return {name: by_name[folded(name)] for name in known}


class _Maker:
    """Knows where the words of known names can be parted."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        counts = Counter(word for name in names for word in dict.fromkeys(name.split()))
        self.words = set(counts)
        self.own = dict.fromkeys(word for word, count in counts.items() if count <= max(1, COMMON * len(names)))
        """Words that tell a name from others: not "University", "of"."""
        self.letters = tuple(map(folded, names))
        self.cores = [self.core(name) for name in names]
        self.numbers: dict[str, list[int]] = defaultdict(list)
        """Pair of letters -> the cores that have it."""
        for number, core in enumerate(self.cores):
            for pair in _pairs(core):
                self.numbers[pair].append(number)
        self.shortest = min(len(_CLUSTERS.findall(name)) for name in names)
        self.ends: dict[str, list[str]] = defaultdict(list)
        """Context of a cut -> what stands after it."""
        for word in self.own:
            for cut in _cuts(word):
                for context in _contexts(word, cut):
                    self.ends[context].append(word[cut:])

    def core(self, name: str) -> str:
        """Return the own words of a name, folded; all of them, if it has none."""
        return folded(" ".join(word for word in name.split() if word not in self.words or word in self.own)) or folded(name)

    def candidates(self, name: str, draw: random.Random) -> Iterator[str]:
        """Yield new names that are built like a known one, or like any other where that gives none."""
        for model in [name, *draw.sample(self.names, len(self.names))]:
            words = model.split()
            places = [place for place in sorted(range(len(words)), key=lambda at: -len(words[at])) if words[place] in self.own]
            crossings = {place: self.crossings(words[place], draw) for place in places}
            for attempt in range(min(_MOST_ATTEMPTS, max(map(len, crossings.values()), default=0))):
                new = list(words)
                for place in places:  # one word after the other, until it is no near copy
                    if crossings[place]:
                        new[place] = crossings[place][attempt % len(crossings[place])]
                        if self.is_new(" ".join(new)):
                            yield " ".join(new)
                            break

    def crossings(self, word: str, draw: random.Random) -> list[str]:
        """Return words that begin like a known one: those of the closest seams and of about its length first."""
        rank: dict[str, tuple[int, bool]] = {}
        for cut in _cuts(word):
            for likeness, context in enumerate(_contexts(word, cut)):
                ends = self.ends[context]
                for end in draw.sample(ends, min(_MOST_ENDS, len(ends))):
                    new = word[:cut] + end
                    if new not in self.words:
                        rank[new] = min(rank.get(new, (9, True)), (likeness, abs(len(new) - len(word)) > 3))
        made = sorted(rank)
        draw.shuffle(made)
        return sorted(made, key=rank.__getitem__)

    def is_new(self, name: str) -> bool:
        """Return whether a name is no shorter than all known ones, and neither a part nor a near copy of any, nor holds one."""
        letters = folded(name)
        if len(_CLUSTERS.findall(name)) < self.shortest or any(one in letters or letters in one for one in self.letters):
            return False
        core = self.core(name)
        pairs, most = _pairs(core), len(core) // LETTERS_PER_CHANGE
        common = Counter(number for pair in pairs for number in self.numbers.get(pair, ()))
        near = (self.cores[number] for number, count in common.items() if count >= len(pairs) - 2 * most)  # a change costs two
        return not any(_changes(core, other) <= most for other in near)


def _changes(one: str, other: str) -> int:
    """Return how many letters must be put in, taken out or replaced to make one name of the other (Levenshtein distance)."""
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        before, row = row, [number]
        for place, against in enumerate(other):
            row.append(min(before[place + 1] + 1, row[-1] + 1, before[place] + (letter != against)))
    return row[-1]


def _pairs(letters: str) -> set[str]:
    return {letters[start : start + 2] for start in range(max(1, len(letters) - 1))}


def _cuts(word: str) -> Iterator[int]:
    """Yield the places between clusters where a word may meet another."""
    for cluster in list(_CLUSTERS.finditer(word))[:-1]:
        cut = cluster.end()
        before, after = word[cut - 1], word[cut]
        if not _MARK.match(after) and (not _LATIN.match(after) or _is_vowel(before) != _is_vowel(after)):
            yield cut


def _is_vowel(letter: str) -> bool:
    return unicodedata.normalize("NFD", letter)[0].casefold() in "aeiouy"


def _contexts(word: str, cut: int) -> tuple[str, ...]:
    """Return what another word must have at its cut too, the closest likeness first."""
    before, after = word[cut - 1], word[cut]
    if _HAN.match(before) and _HAN.match(after):
        return ("syllable",)
    written = (word[max(0, cut - 2) : cut], before)
    return (*written, "onset and rhyme") if _LATIN.match(after) and _is_vowel(after) else written
