"""Monolingual documents: three to six sentences, often about one person or town, so that its facts stand together."""

from __future__ import annotations

import random
from collections.abc import Iterator

from sea_ray.demo.facts import Fact
from sea_ray.demo.scenes import Scene, SceneMaker, statement
from sea_ray.demo.splits import Split

SHORTEST, LONGEST = 3, 6
"""Sentences of a document."""
FACTS_TOGETHER = 3
"""Facts of one entity that stand in one document."""
ABOUT_FRAC = 0.6
"""Share of documents about one entity: 1,800 documents state each of the 192 facts about 16 times."""


def document_scenes(
    maker: SceneMaker, facts: tuple[Fact, ...], rng: random.Random, split: Split
) -> Iterator[list[Scene]]:
    """Yield the scenes of one document after the other, without end.

    Facts stand in the train part only: there is one statement of each, so another part could only repeat them.

    Args:
        maker: draws the free scenes.
        facts: all facts of the world.
        rng: source of all choices.
        split: where every free scene must belong.
    """
    cards = _cards(facts, rng)
    while True:
        length = rng.randint(SHORTEST, LONGEST)
        about = next(cards) if rng.random() < ABOUT_FRAC else ()
        scenes = [statement(fact) for fact in about] if split == "train" else []
        subject = (about[0].subject, about[0].entity) if about else None
        while len(scenes) < length:
            scene = maker.draw(rng, split, subject)
            if scene not in scenes:
                scenes.append(scene)
        rng.shuffle(scenes)
        yield scenes


def _cards(facts: tuple[Fact, ...], rng: random.Random) -> Iterator[tuple[Fact, ...]]:
    """Yield groups of facts about one entity without end; all facts pass before one comes back."""
    by_entity: dict[tuple[str, str], list[Fact]] = {}
    for fact in facts:
        by_entity.setdefault((fact.subject, fact.entity), []).append(fact)
    while True:
        deck = []
        for group in by_entity.values():
            rng.shuffle(group)
            deck += [tuple(group[i : i + FACTS_TOGETHER]) for i in range(0, len(group), FACTS_TOGETHER)]
        rng.shuffle(deck)
        yield from deck
