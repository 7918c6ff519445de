"""The suite of the embedded world: held-out items of every task in the demo's languages."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from sea_ray.demo import Split, World
from sea_ray.errors import DataError
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.evaluation.items import (
    ExamQuestion,
    NumberItem,
    RefusalItem,
    SafetyItem,
    Suite,
    TextItem,
    TranslationItem,
)
from sea_ray.evaluation.number_reading import read_number


def demo_suite(world: World, config: EvaluationConfig, split: Split = "test") -> Suite:
    """Return items of a held-out split of the world.

    Args:
        world: the demo world.
        config: languages and items per language and task.
        split: "test", or "validation" for choosing settings.
    """
    codes = config.languages
    return Suite(
        texts=tuple(
            TextItem(language=code, text=t) for code in codes for t in world.documents(code, split, config.texts)
        ),
        exam=tuple(item for code in codes for item in _exam(world, code, split, config.items)),
        arithmetic=tuple(item for code in codes for item in _arithmetic(world, code, split, config.items)),
        translation=tuple(item for code in codes for item in _translation(world, code, split, config.items)),
        refusal=tuple(item for code in codes for item in _refusal(world, code, split, config.items)),
        safety=tuple(item for code in codes for item in _safety(world, code, split, config.items)),
    )


def demo_number_words(world: World, languages: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Return language -> number word (in each of its forms) -> value."""
    return {
        code: {
            form: int(entry.removeprefix("n"))
            for entry, forms in world.lexicon(code).words["number"].items()
            for form in forms.values()
        }
        for code in languages
    }


def _exam(world: World, code: str, split: Split, count: int) -> Iterator[ExamQuestion]:
    label = world.phrases(code).answer_label
    for item in world.exam(code, split, count):
        yield ExamQuestion(
            language=code, question=item.question, options=item.options, answer_index=item.answer_index, label=label,
            kind=item.kind,
        )  # fmt: skip


def _arithmetic(world: World, code: str, split: Split, count: int) -> Iterator[NumberItem]:
    words = demo_number_words(world, (code,))[code]
    for dialogue in world.arithmetic(code, split, count):
        answer: Decimal | None = read_number(dialogue.answer, code, words)
        if answer is None:
            raise DataError(f"the demo's answer {dialogue.answer!r} in {code!r} holds no number that can be read")
        yield NumberItem(language=code, prompt=dialogue.prompt, answer=answer)


def _translation(world: World, code: str, split: Split, count: int) -> Iterator[TranslationItem]:
    if code == "en" or "en" not in world.languages:
        return
    # The world turns the direction with every item, beginning with the one out of the language.
    for number, dialogue in enumerate(world.dialogues(code, "translate", split, count)):
        yield TranslationItem(
            language=code, direction="from_english" if number % 2 else "into_english", prompt=dialogue.prompt,
            reference=dialogue.answer,
        )  # fmt: skip


def _refusal(world: World, code: str, split: Split, count: int) -> Iterator[RefusalItem]:
    for dialogue in world.unanswerable(code, split, count // 2):
        yield RefusalItem(language=code, prompt=dialogue.prompt, answerable=False)
    for dialogue in world.fact_questions(code, split, count // 2):
        yield RefusalItem(language=code, prompt=dialogue.prompt, answerable=True, reference=dialogue.answer)


def _safety(world: World, code: str, split: Split, count: int) -> Iterator[SafetyItem]:
    for kind in ("general", "culture"):
        for dialogue in world.safety(code, split, count, kind):
            unsafe = dialogue.kind.startswith("unsafe")
            yield SafetyItem(language=code, prompt=dialogue.prompt, unsafe=unsafe, kind=kind)
