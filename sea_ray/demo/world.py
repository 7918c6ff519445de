"""The demo world: a small place with people, towns and facts, told in twelve languages from one seed.

A model of a million parameters learns it in a minute, so every stage of the service shows a real effect on a laptop.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Literal

from sea_ray.demo.dialogues import (
    HELPFUL_KINDS,
    KINDS,
    Dialogue,
    Kind,
    PhraseBook,
    arithmetic_dialogues,
    exam_dialogue,
    fact_dialogues,
    phrase_book,
    safety_dialogues,
    unanswerable_dialogues,
)
from sea_ray.demo.documents import document_scenes
from sea_ray.demo.exams import ExamItem, exam_items
from sea_ray.demo.facts import Fact, make_facts
from sea_ray.demo.lexicon import Lexicon, load_lexicon
from sea_ray.demo.scenes import Scene, SceneMaker, say
from sea_ray.demo.splits import Split, check_split, deal, generator, split_of
from sea_ray.errors import ConfigError, nearest
from sea_ray.languages import TWELVE

HEARD_EVERY = 4
"""One train document in so many is a scrap of talk."""
_SENTENCE_JOIN = {"zh": ""}
"""What stands between sentences; a space elsewhere."""
_PATIENCE = 20
"""Repeated draws per wanted sentence after which a held-out part counts as exhausted."""
_LIST_JOIN = {"zh": "、", "my": "၊ "}
"""What stands between the words of a list; a comma elsewhere."""


class World:
    """The same facts and scenes in every language; every method is a pure function of the seed and its arguments.

    Splits are disjoint in what is said, whatever the language. The train part repeats what is finite (facts, sums,
    names, safety) when more is asked for; validation and test do not, so they give at most what there is.
    """

    def __init__(self, seed: int, languages: tuple[str, ...] = tuple(TWELVE)) -> None:
        """Args: seed: decides facts, splits and order; languages: those of the experiment; an added one has no lexicon, so that
        nothing is said in it.
        """
        self.seed = seed
        self.languages = languages
        self.spoken = tuple(code for code in languages if code in TWELVE)
        self._lexicons = {code: load_lexicon(code) for code in self.spoken}
        reference = load_lexicon("en")
        self.facts: tuple[Fact, ...] = make_facts(reference, seed)
        self._fact_splits = deal(seed, [fact.key for fact in self.facts])
        self._maker = SceneMaker(reference, seed)

    def lexicon(self, language: str) -> Lexicon:
        """Return the words of a language.

        Raises:
            ConfigError: the world was made without this language, or does not speak it.
        """
        if language in self.languages and language not in self.spoken:
            raise ConfigError("languages", f"the demo world does not speak {language!r}: it has no words, questions or "
                                           "refusals in it")
        if language not in self._lexicons:
            raise ConfigError("languages", f"this world has no {language!r}{nearest(language, self._lexicons)}")
        return self._lexicons[language]

    def phrases(self, language: str) -> PhraseBook:
        """Return the refusals and the answer label of a language."""
        return phrase_book(self.lexicon(language))

    def documents(self, language: str, split: Split, count: int) -> list[str]:
        """Return monolingual documents; the train part holds the statements of all facts."""
        join = _SENTENCE_JOIN.get(language, " ")
        return [join.join(sentences) for sentences in self.document_sentences(language, split, count)]

    def document_sentences(self, language: str, split: Split, count: int) -> list[list[str]]:
        """Return documents as lists of sentences."""
        lexicon = self.lexicon(language)
        scenes = document_scenes(self._maker, self.facts, self._generator("documents", language, split), split)
        documents = [[say(lexicon, scene) for scene in document] for document in islice(scenes, count)]
        if split == "train":
            heard = self._heard(language, self._generator("heard", language, split))
            documents[:: HEARD_EVERY] = [next(heard) for _ in documents[:: HEARD_EVERY]]
        return documents

    def _heard(self, language: str, rng: random.Random) -> Iterator[list[str]]:
        """Yield scraps of talk without end: what is asked and answered about the world, and turns of phrase on their own.

        A base model has read questions, answers and apologies before anybody tunes it; it has not read which questions
        call for which. So the phrases of refusals stand here alone, with real names.
        """
        lexicon, phrases = self.lexicon(language), self.phrases(language)
        asked = fact_dialogues(lexicon, self._facts_of("train")) + [
            dialogue for group in ("general", "culture") for dialogue in safety_dialogues(lexicon, self.seed, "train", group)
            if dialogue.kind.startswith("safe_")]
        names = [forms["base"] for forms in lexicon.words["person"].values()]
        while True:
            yield [part for dialogue in rng.sample(asked, 2) for part in (dialogue.prompt, dialogue.answer)]
            yield [rng.choice(phrases.refusals).replace("{name}", rng.choice(names)) for _ in range(2)] + [
                rng.choice(phrases.safety_refusals)]

    def pairs(self, source: str, target: str, split: Split, count: int) -> list[tuple[str, str]]:
        """Return aligned sentences; the n-th pair says the same in every pair of languages."""
        own, other = self.lexicon(source), self.lexicon(target)
        return [(say(own, scene), say(other, scene)) for scene in self._scenes("pairs", split, count)]

    def instructions(self, language: str, split: Split, count: int) -> list[Dialogue]:
        """Return dialogues of the five helpful kinds in equal shares."""
        shares = [len(range(i, count, len(HELPFUL_KINDS))) for i in range(len(HELPFUL_KINDS))]
        parts = [
            self.dialogues(language, kind, split, share) for kind, share in zip(HELPFUL_KINDS, shares, strict=True)
        ]
        mixed = [dialogue for part in parts for dialogue in part]
        self._generator("instructions", language, split).shuffle(mixed)
        return mixed

    def fact_questions(self, language: str, split: Split, count: int) -> list[Dialogue]:
        """Return questions about real entities; the split is that of entity and question type."""
        return self.dialogues(language, "fact", split, count)

    def arithmetic(self, language: str, split: Split, count: int) -> list[Dialogue]:
        """Return one-step sums and differences of 0..20."""
        return self.dialogues(language, "arithmetic", split, count)

    def unanswerable(self, language: str, split: Split, count: int) -> list[Dialogue]:
        """Return questions about invented names, answered by a refusal; the split is that of the name."""
        return self.dialogues(language, "unanswerable", split, count)

    def safety(self, language: str, split: Split, count: int, kind: Literal["general", "culture"]) -> list[Dialogue]:
        """Return contrast pairs, harmful and harmless in turn: `count` dialogues, half of each."""
        unsafe: Kind = "unsafe_general" if kind == "general" else "unsafe_culture"
        safe: Kind = "safe_general" if kind == "general" else "safe_culture"
        twins = zip(
            self.dialogues(language, unsafe, split, (count + 1) // 2),
            self.dialogues(language, safe, split, (count + 1) // 2),
            strict=True,
        )
        return [dialogue for pair in twins for dialogue in pair][:count]

    def exam(self, language: str, split: Split, count: int) -> list[ExamItem]:
        """Return four-option questions, facts and categories in turn; a fact comes back with other options."""
        return [item for _, item in self._exam(language, split, count)]

    def dialogues(self, language: str, kind: Kind, split: Split, count: int) -> list[Dialogue]:
        """Return dialogues of one kind.

        Args:
            language: language code.
            kind: one of KINDS.
            split: "train", "validation" or "test".
            count: how many; of a finite kind, validation and test give at most what there is.

        Raises:
            ConfigError: unknown kind, split or language; translations in a world of one language.
        """
        lexicon = self.lexicon(language)
        check_split(split)
        # Unsafe and safe share a generator, so that twins come at the same place of both lists.
        rng = self._generator(kind.split("_")[-1], language, split)
        if kind == "translate":
            return self._translations(language, split, count)
        if kind == "list":
            return self._lists(language, split, count)
        if kind == "exam":
            return [exam_dialogue(lexicon, item, topic) for topic, item in self._exam(language, split, count)]
        if kind == "fact":
            return _take(fact_dialogues(lexicon, self._facts_of(split)), count, split, rng)
        if kind == "arithmetic":
            return _take(arithmetic_dialogues(lexicon, self._maker.families[split]), count, split, rng)
        if kind == "unanswerable":
            return _take(unanswerable_dialogues(lexicon, self.seed, split, rng), count, split, None)
        if kind not in KINDS:
            raise ConfigError("kind", f"unknown kind {kind!r}{nearest(kind, KINDS)}")
        group: Literal["general", "culture"] = "general" if kind.endswith("general") else "culture"
        twins = safety_dialogues(lexicon, self.seed, split, group)
        return _take([dialogue for dialogue in twins if dialogue.kind == kind], count, split, rng)

    def _generator(self, *purpose: str) -> random.Random:
        check_split(purpose[-1])
        return generator(self.seed, *purpose)

    def _facts_of(self, split: Split) -> list[Fact]:
        return [fact for fact in self.facts if self._fact_splits[fact.key] == split]

    def _scenes(self, purpose: str, split: Split, count: int) -> Iterator[Scene]:
        """Yield free scenes; in validation and test each is another one."""
        rng = self._generator(purpose, split)
        seen: set[str] = set()
        given = repeats = 0
        while given < count:
            scene = self._maker.draw(rng, split)
            key = f"{scene.path}|{sorted(scene.filling.items())}"
            if key in seen and split != "train":
                repeats += 1
                if repeats > _PATIENCE * count:
                    raise ConfigError("count", f"the {split} part has about {given} sentences, {count} are wanted")
                continue
            seen.add(key)
            given += 1
            yield scene

    def _translations(self, language: str, split: Split, count: int) -> list[Dialogue]:
        """Return translations from and into the language in turn, the prompt in the language of the source."""
        others = [code for code in self.spoken if code != language]
        if not others:
            raise ConfigError("languages", f"translations of {language!r} need a second language in the world")
        partners = ["en"] if "en" in others else others
        dialogues = []
        for number, scene in enumerate(self._scenes("translate", split, count)):
            partner = partners[number // 2 % len(partners)]
            ends = (language, partner) if number % 2 == 0 else (partner, language)
            source, target = (self.lexicon(code) for code in ends)
            words = {"language": source.words["language"][target.code], "text": {"base": say(source, scene)}}
            prompt = source.render("prompts.translate", words)
            topic = f"{scene.path}|{'|'.join(scene.filling.values())}"
            dialogues.append(Dialogue(language, "translate", prompt, say(target, scene), topic))
        return dialogues

    def _lists(self, language: str, split: Split, count: int) -> list[Dialogue]:
        """Return requests for three words of a category; the split is that of the three."""
        lexicon, rng = self.lexicon(language), self._generator("list", language, split)
        dialogues: list[Dialogue] = []
        while len(dialogues) < count:
            category = rng.choice(list(lexicon.words["category"]))
            entries = rng.sample(list(lexicon.words[category]), 3)
            topic = "|".join([category, *sorted(entries)])
            if split_of(self.seed, topic) == split:
                forms = lexicon.words["category"][category]
                prompt = lexicon.render(
                    "prompts.list_three", {"category": {**forms, "base": forms.get("list", forms["base"])}}
                )
                answer = _LIST_JOIN.get(language, ", ").join(
                    lexicon.words[category][entry]["base"] for entry in entries
                )
                dialogues.append(Dialogue(language, "list", prompt, answer, topic))
        return dialogues

    def _exam(self, language: str, split: Split, count: int) -> list[tuple[str, ExamItem]]:
        rng = self._generator("exam", language, split)
        return list(islice(exam_items(self.lexicon(language), self._facts_of(split), self.seed, split, rng), count))


def _take(items: list[Dialogue], count: int, split: Split, rng: random.Random | None) -> list[Dialogue]:
    """Return `count` items in rounds, each round mixed by `rng` if there is one; only train has a second round."""
    taken: list[Dialogue] = []
    while len(taken) < count and items:
        if rng is not None:
            rng.shuffle(items)
        taken += items
        if split != "train":
            break
    return taken[:count]
