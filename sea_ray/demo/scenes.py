"""Scenes: a sentence pattern with its filling, before any language. A scene said in two languages is an aligned pair.

A scene's split is decided by what it says, whichever order its words have, so that neither a translation nor a
rearrangement ("Linh and Hoa", "Hoa and Linh") of a test sentence is ever trained on.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from sea_ray.demo.facts import Fact
from sea_ray.demo.lexicon import Lexicon
from sea_ray.demo.splits import Split, deal, split_of

LARGEST = 20
"""Largest number that has a word."""
Family = tuple[int, int, int]
"""Numbers a <= b and c = a + b; the family's two sums and two differences share one split."""


@dataclass(frozen=True)
class Scene:
    """A pattern's path and slot -> entry."""

    path: str
    filling: Mapping[str, str]

    def key(self, categories: Mapping[str, str]) -> str:
        """Return what the scene says, in no order."""
        return "|".join([self.path, *sorted(f"{categories[slot]}:{entry}" for slot, entry in self.filling.items())])


def statement(fact: Fact) -> Scene:
    """Return the scene that states a fact."""
    return Scene(f"facts.{fact.kind}.statement", fact.filling)


def say(lexicon: Lexicon, scene: Scene) -> str:
    """Return a scene as a sentence of the lexicon's language."""
    categories = lexicon.patterns[scene.path].categories
    words = {slot: lexicon.words[categories[slot]][entry] for slot, entry in scene.filling.items()}
    return lexicon.render(scene.path, words)


def number_families(seed: int) -> dict[Split, list[Family]]:
    """Return the families of numbers 0..20 by split."""
    families = {f"{a}+{b}": (a, b, a + b) for a in range(LARGEST + 1) for b in range(a, LARGEST + 1 - a)}
    dealt: dict[Split, list[Family]] = {}
    for key, split in deal(seed, families).items():
        dealt.setdefault(split, []).append(families[key])
    return dealt


class SceneMaker:
    """Draws free scenes of a split."""

    def __init__(self, lexicon: Lexicon, seed: int) -> None:
        """Args: lexicon: any language's, for patterns and entries; seed: decides the splits."""
        self.seed = seed
        self.families = number_families(seed)
        self._slots = {path: lexicon.patterns[path].categories for path in lexicon.paths("sentences")}
        self._entries = {category: list(entries) for category, entries in lexicon.words.items()}
        self._entries["number"] = [f"n{number}" for number in range(2, LARGEST + 1)]

    def draw(self, rng: random.Random, split: Split, about: tuple[str, str] | None = None) -> Scene:
        """Return a scene of a split.

        Args:
            rng: source of all choices.
            split: where the scene must belong.
            about: category and entry that must occur, such as ("person", "budi"); None for any scene.
        """
        paths = [path for path, slots in self._slots.items() if about is None or _place(slots, about[0])]
        while True:
            path = rng.choice(paths)
            slots = self._slots[path]
            if "c" in slots:
                return Scene(path, self._arithmetic(rng, split, path))
            scene = Scene(path, self._fill(rng, slots, about))
            if split_of(self.seed, scene.key(slots)) == split:
                return scene

    def _fill(self, rng: random.Random, slots: Mapping[str, str], about: tuple[str, str] | None) -> dict[str, str]:
        """Return slot -> entry; two slots of one category get different entries."""
        filling = {} if about is None else {_place(slots, about[0]): about[1]}
        for slot, category in slots.items():
            if slot not in filling:
                taken = {entry for other, entry in filling.items() if slots[other] == category}
                entry = rng.choice(self._entries[category])
                while entry in taken:
                    entry = rng.choice(self._entries[category])
                filling[slot] = entry
        return filling

    def _arithmetic(self, rng: random.Random, split: Split, path: str) -> dict[str, str]:
        a, b, c = rng.choice(self.families[split])
        if rng.random() < 0.5:
            a, b = b, a
        if path.endswith("difference"):
            a, b, c = c, b, a
        return {"a": f"n{a}", "b": f"n{b}", "c": f"n{c}"}


def _place(slots: Mapping[str, str], category: str) -> str:
    """Return the first slot of a category, "" if there is none."""
    return next((slot for slot, own in slots.items() if own == category), "")
