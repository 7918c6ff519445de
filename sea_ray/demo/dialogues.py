"""What a person asks and a good assistant answers: one function per kind, over finite lists of what can be asked."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

from sea_ray.demo.exams import ExamItem
from sea_ray.demo.facts import Fact, fact_kinds
from sea_ray.demo.lexicon import Lexicon
from sea_ray.demo.patterns import Forms
from sea_ray.demo.scenes import Family, say, statement
from sea_ray.demo.splits import CULTURE_SHARES, SHARES, Split, deal, digest

Kind = Literal[
    "translate",
    "fact",
    "list",
    "arithmetic",
    "exam",
    "unanswerable",
    "unsafe_general",
    "unsafe_culture",
    "safe_general",
    "safe_culture",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
HELPFUL_KINDS: tuple[Kind, ...] = KINDS[:5]
SAFETY_KINDS: tuple[Kind, ...] = KINDS[5:]
"""Kinds that teach when to refuse, with their harmless counterparts."""

QUESTIONS_PER_NAME = 3
"""Questions in a row about one invented name; a person has two such groups, so no question type gives the name away."""


@dataclass(frozen=True)
class Dialogue:
    """One question and its answer."""

    language: str
    """Language whose data it is: that of the prompt, or for translations of prompt or answer."""
    kind: Kind
    prompt: str
    answer: str
    topic: str
    """What it is about, apart from its words and language; topics of two splits are disjoint."""
    entity: str | None = None
    """Invented name that an unanswerable question is about, in its base form."""


@dataclass(frozen=True)
class PhraseBook:
    """Fixed phrases of one language."""

    refusals: tuple[str, ...]
    """Answers to questions about what does not exist, with {name} in the place of the name."""
    safety_refusals: tuple[str, ...]
    """Answers to harmful requests."""
    answer_label: str
    """What stands before the letter of a multiple-choice answer."""


def phrase_book(lexicon: Lexicon) -> PhraseBook:
    """Return the fixed phrases of a lexicon."""
    hole: Forms = dict.fromkeys({slot.form for pattern in lexicon.refusals for slot in pattern.slots}, "{name}")
    refusals = tuple(pattern.fill({"name": hole}) for pattern in lexicon.refusals)
    return PhraseBook(refusals, lexicon.safety_refusals, lexicon.patterns["prompts.answer_label"].fill({}))


def fact_dialogues(lexicon: Lexicon, facts: list[Fact]) -> list[Dialogue]:
    """Return a question for each fact; the answer is the statement that the documents hold."""
    dialogues = []
    for fact in facts:
        prompt = lexicon.render(f"facts.{fact.kind}.question", {fact.subject: lexicon.words[fact.subject][fact.entity]})
        dialogues.append(Dialogue(lexicon.code, "fact", prompt, say(lexicon, statement(fact)), fact.key))
    return dialogues


def arithmetic_dialogues(lexicon: Lexicon, families: list[Family]) -> list[Dialogue]:
    """Return the sums and differences of families of numbers, in number words."""
    tasks = {("plus", *pair, c) for a, b, c in families for pair in ((a, b), (b, a))}
    tasks |= {("minus", c, *pair) for a, b, c in families for pair in ((a, b), (b, a))}
    dialogues = []
    for operation, first, second, result in sorted(tasks):
        numbers = lexicon.words["number"]
        prompt = lexicon.render(f"prompts.{operation}", {"a": numbers[f"n{first}"], "b": numbers[f"n{second}"]})
        answer = lexicon.render("prompts.number_answer", {"c": numbers[f"n{result}"]})
        dialogues.append(Dialogue(lexicon.code, "arithmetic", prompt, answer, f"{operation}|{first}|{second}"))
    return dialogues


def unanswerable_dialogues(lexicon: Lexicon, seed: int, split: Split, rng: random.Random) -> list[Dialogue]:
    """Return questions about the invented names of a split, answered by a refusal in any wording.

    Args:
        lexicon: its names, questions and refusals.
        seed: decides which names belong to the split.
        split: the names' split.
        rng: mixes order and wordings.
    """
    groups = []
    for subject in lexicon.name_starts:
        kinds = [kind for kind, (own, _) in fact_kinds(lexicon).items() if own == subject]
        names = lexicon.invented_names(subject)
        dealt = deal(seed, [f"{subject}|{name}" for name in names])
        for name, forms in names.items():
            if dealt[f"{subject}|{name}"] == split:
                rng.shuffle(kinds)
                chunks = [kinds[i : i + QUESTIONS_PER_NAME] for i in range(0, len(kinds), QUESTIONS_PER_NAME)]
                groups += [(subject, name, forms, chunk) for chunk in chunks]
    rng.shuffle(groups)
    dialogues = []
    for subject, name, forms, chunk in groups:
        for kind in chunk:
            prompt = lexicon.render(f"facts.{kind}.question", {subject: forms})
            answer = lexicon.capitalise(rng.choice(lexicon.refusals).fill({"name": forms}))
            dialogues.append(Dialogue(lexicon.code, "unanswerable", prompt, answer, f"{kind}|{name}", entity=name))
    return dialogues


def safety_dialogues(lexicon: Lexicon, seed: int, split: Split, group: Literal["general", "culture"]) -> list[Dialogue]:
    """Return contrast pairs: a harmful request that is refused, and its harmless twin that is answered.

    Args:
        lexicon: its pairs and their fillings.
        seed: decides splits, and which wording refuses.
        split: split of the combination of pair and filling; the twins are always together.
        group: "general", or "culture" for what the speakers of the language hold dear.
    """
    combinations = _safety_combinations(lexicon, group)
    shares = SHARES if group == "general" else CULTURE_SHARES
    dealt = deal(seed, combinations, shares)
    dialogues = []
    for topic, (path, words) in combinations.items():
        if dealt[topic] == split:
            refusal = lexicon.safety_refusals[digest(seed, "refusal", topic) % len(lexicon.safety_refusals)]
            unsafe, safe, answer = (lexicon.render(f"{path}.{part}", words) for part in ("unsafe", "safe", "answer"))
            kinds: tuple[Kind, Kind] = (
                ("unsafe_general", "safe_general") if group == "general" else ("unsafe_culture", "safe_culture")
            )
            dialogues.append(Dialogue(lexicon.code, kinds[0], unsafe, refusal, topic))
            dialogues.append(Dialogue(lexicon.code, kinds[1], safe, answer, topic))
    return dialogues


def exam_dialogue(lexicon: Lexicon, item: ExamItem, topic: str) -> Dialogue:
    """Return an exam question answered by the label and the letter."""
    answer = f"{lexicon.patterns['prompts.answer_label'].fill({})} {item.letter}"
    return Dialogue(lexicon.code, "exam", item.prompt(), answer, topic)


def _safety_combinations(lexicon: Lexicon, group: str) -> dict[str, tuple[str, Mapping[str, Forms]]]:
    """Return topic -> (path of the pair, its words) for every pair and filling."""
    pairs = dict.fromkeys(path.rsplit(".", 1)[0] for path in lexicon.paths(f"safety.{group}"))
    combinations: dict[str, tuple[str, Mapping[str, Forms]]] = {}
    for path in pairs:
        parts = [lexicon.patterns[f"{path}.{part}"].categories for part in ("unsafe", "safe", "answer")]
        slots = dict(sorted({slot: category for part in parts for slot, category in part.items()}.items()))
        for entries in product(*(lexicon.words[category] for category in slots.values())):
            words = {
                slot: lexicon.words[category][entry]
                for (slot, category), entry in zip(slots.items(), entries, strict=True)
            }
            combinations["|".join([path, *entries])] = (path, words)
    return combinations
