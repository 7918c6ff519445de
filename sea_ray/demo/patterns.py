"""Sentence patterns: "{person1} gives {object.a} to {person2}." is text, slots, and the form each slot asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

Forms = Mapping[str, str]
"""A word as its forms, by name; "base" is always there. Forms are stored, never glued."""

_SLOT = re.compile(r"\{([a-z]+)(\d?)(?:\.(\w+))?\}")
_NUMBER_SLOTS = ("a", "b", "c")


@dataclass(frozen=True)
class Slot:
    """A place in a pattern: {person2.plural} is the slot person2 of the category person in the form plural."""

    name: str
    category: str
    form: str


@dataclass(frozen=True)
class Pattern:
    """A sentence with slots."""

    parts: tuple[str | Slot, ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Return the pattern of a text.

        Raises:
            ValueError: a brace that belongs to no slot.
        """
        parts: list[str | Slot] = []
        end = 0
        for match in _SLOT.finditer(text):
            category, digit, form = match.groups()
            kind = "number" if category in _NUMBER_SLOTS else category
            parts += [text[end : match.start()], Slot(category + digit, kind, form or "base")]
            end = match.end()
        parts.append(text[end:])
        for part in parts:
            if isinstance(part, str) and ("{" in part or "}" in part):
                raise ValueError(f"{text!r} has a brace outside of a slot; slots look like {{person1.plural}}")
        return cls(tuple(part for part in parts if part))

    @property
    def slots(self) -> tuple[Slot, ...]:
        """All slots in order; a slot that stands twice, perhaps in two forms, is there twice."""
        return tuple(part for part in self.parts if isinstance(part, Slot))

    @property
    def categories(self) -> dict[str, str]:
        """Slot name -> category, each slot once, sorted by name so that the languages' word order plays no part."""
        return dict(sorted((slot.name, slot.category) for slot in self.slots))

    def fill(self, words: Mapping[str, Forms]) -> str:
        """Return the text with each slot replaced by its word's form; words are given by slot name."""
        return "".join(part if isinstance(part, str) else words[part.name][part.form] for part in self.parts)
