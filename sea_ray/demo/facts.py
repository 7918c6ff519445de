"""The facts of the demo world: who lives where, what a town is known for. The seed chooses; all languages agree."""

from __future__ import annotations

from dataclasses import dataclass

from sea_ray.demo.lexicon import Lexicon
from sea_ray.demo.splits import generator

YOUNGEST, OLDEST = 5, 20
"""Ages in years; numbers end at twenty."""


@dataclass(frozen=True)
class Fact:
    """One fact: (home, person budi, town hue)."""

    kind: str
    """Key below `facts` in the lexicon, such as "home"."""
    subject: str
    """Slot and category that the fact is about: "person" or "town"."""
    entity: str
    """Entry of the subject's category, such as "budi"."""
    value_slot: str
    """Slot and category of the value, such as "town"."""
    value: str
    """Entry of the value's category, such as "hue"."""

    @property
    def key(self) -> str:
        """Entity and question type: what is held out."""
        return f"{self.kind}|{self.entity}"

    @property
    def filling(self) -> dict[str, str]:
        """Slot -> entry of the statement."""
        return {self.subject: self.entity, self.value_slot: self.value}


def fact_kinds(lexicon: Lexicon) -> dict[str, tuple[str, str]]:
    """Return kind -> (subject, value slot): the question's only slot, and the statement's other one."""
    kinds = {}
    for path in lexicon.paths("facts"):
        _, kind, part = path.split(".")
        if part == "question":
            (subject,) = lexicon.patterns[path].categories
            (value,) = set(lexicon.patterns[f"facts.{kind}.statement"].categories) - {subject}
            kinds[kind] = (subject, value)
    return kinds


def values(lexicon: Lexicon, value_slot: str) -> list[str]:
    """Return the entries that may be the value of a fact."""
    if value_slot == "number":
        return [f"n{age}" for age in range(YOUNGEST, OLDEST + 1)]
    return list(lexicon.words[value_slot])


def make_facts(lexicon: Lexicon, seed: int) -> tuple[Fact, ...]:
    """Return one fact for each entity and kind.

    Args:
        lexicon: any language's; the keys are the same in all.
        seed: decides the values.
    """
    rng = generator(seed, "facts")
    facts = []
    for kind, (subject, value_slot) in fact_kinds(lexicon).items():
        for entity in lexicon.words[subject]:
            facts.append(Fact(kind, subject, entity, value_slot, rng.choice(values(lexicon, value_slot))))
    return tuple(facts)
