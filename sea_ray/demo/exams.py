"""Exam questions with four options: about facts of the world, and about which word belongs to a category."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sea_ray.demo.facts import Fact, values
from sea_ray.demo.lexicon import Lexicon
from sea_ray.demo.splits import Split, split_of

LETTERS = "ABCD"

_NEVER_BESIDE = {"color": {"fruit"}}
"""Categories whose words could be a second right answer: an orange is a colour too."""
_ONLY_WRONG = ("object", "body")
"""Categories that nobody is asked for but that give wrong options."""


@dataclass(frozen=True)
class ExamItem:
    """A question with four options, one of them right."""

    language: str
    question: str
    options: tuple[str, ...]
    answer_index: int
    kind: Literal["fact", "category"]

    @property
    def letter(self) -> str:
        """Letter of the right option."""
        return LETTERS[self.answer_index]

    def prompt(self) -> str:
        """Return the question and its options, one per line."""
        lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, self.options, strict=True)]
        return "\n".join([self.question, *lines])


def exam_items(
    lexicon: Lexicon, facts: Sequence[Fact], seed: int, split: Split, rng: random.Random
) -> Iterator[tuple[str, ExamItem]]:
    """Yield topic and item without end: facts and categories in turn, the right option in each place equally often.

    Args:
        lexicon: its words and questions.
        facts: those of the split.
        seed: decides which category questions belong to the split.
        split: the questions' split.
        rng: source of all choices.
    """
    deck: list[Fact] = []
    while True:
        for place in rng.sample(range(len(LETTERS)), len(LETTERS)):
            deck = deck or rng.sample(list(facts), len(facts))
            fact = deck.pop()
            yield _fact_item(lexicon, fact, place, rng)
            yield _category_item(lexicon, seed, split, place, rng)


def _fact_item(lexicon: Lexicon, fact: Fact, place: int, rng: random.Random) -> tuple[str, ExamItem]:
    question = lexicon.render(f"facts.{fact.kind}.question", {fact.subject: lexicon.words[fact.subject][fact.entity]})
    wrong = rng.sample([value for value in values(lexicon, fact.value_slot) if value != fact.value], 3)
    words, form = lexicon.words[fact.value_slot], _answer_form(lexicon, fact)
    options = _options(words[fact.value][form], [words[value][form] for value in wrong], place)
    topic = "|".join([fact.key, *sorted(wrong)])
    return topic, ExamItem(lexicon.code, question, options, place, "fact")


def _category_item(lexicon: Lexicon, seed: int, split: Split, place: int, rng: random.Random) -> tuple[str, ExamItem]:
    """Return a question whose combination of right and wrong words belongs to the split."""
    categories = list(lexicon.words["category"])
    while True:
        category = rng.choice(categories)
        right = rng.choice(list(lexicon.words[category]))
        members = {forms["base"] for forms in lexicon.words[category].values()}
        others = [
            other
            for other in (*categories, *_ONLY_WRONG)
            if other != category and other not in _NEVER_BESIDE.get(category, ())
        ]
        wrong = [(other, rng.choice(list(lexicon.words[other]))) for other in rng.sample(others, 3)]
        words = [lexicon.words[other][entry]["base"] for other, entry in wrong]
        topic = "|".join([category, right, *sorted(entry for _, entry in wrong)])
        if split_of(seed, topic) == split and len(set(words)) == 3 and not members.intersection(words):
            question = lexicon.render("prompts.which_is", {"category": lexicon.words["category"][category]})
            options = _options(lexicon.words[category][right]["base"], words, place)
            return topic, ExamItem(lexicon.code, question, options, place, "category")


def _answer_form(lexicon: Lexicon, fact: Fact) -> str:
    """Return the form in which the statement has the value: "knives" are made in Hue, not "knife"."""
    slots = lexicon.patterns[f"facts.{fact.kind}.statement"].slots
    forms = [slot.form for slot in slots if slot.name == fact.value_slot]
    return "base" if "base" in forms else forms[0]


def _options(right: str, wrong: Sequence[str], place: int) -> tuple[str, ...]:
    return (*wrong[:place], right, *wrong[place:])
