"""What a model is asked: plain items, made from the demo world or read from benchmark files."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TextItem:
    """Held-out text whose bits per byte are measured."""

    language: str
    text: str
    task: str = "text"
    """Name of the figures: "text" for the corpus' own held-out part, or a benchmark."""


@dataclass(frozen=True, kw_only=True)
class ExamQuestion:
    """A question with options, one of them right."""

    language: str
    question: str
    options: tuple[str, ...]
    answer_index: int
    """Index of the right option."""
    label: str = "Answer:"
    """What stands before the letter of an answer, in the language of the question."""
    kind: str = ""
    """Subject or type."""
    task: str = "exam"
    """Name of the figures: "exam", or a benchmark."""

    def prompt(self) -> str:
        """Return the question with its options, one per line, each after its letter."""
        lines = [f"{letter}. {option}" for letter, option in zip("ABCDEFGHIJ", self.options, strict=False)]
        return "\n".join([self.question, *lines])


@dataclass(frozen=True, kw_only=True)
class NumberItem:
    """A problem whose answer is a number, in digits or in number words."""

    language: str
    prompt: str
    answer: Decimal
    task: str = "arithmetic"
    """Name of the figures: "arithmetic", or a benchmark."""


@dataclass(frozen=True, kw_only=True)
class TranslationItem:
    """A sentence to translate between English and a language."""

    language: str
    """The language that is not English."""
    direction: Literal["from_english", "into_english"]
    prompt: str
    """Instruction and source sentence."""
    reference: str
    task: str = "translation"
    """Name of the figures."""


@dataclass(frozen=True, kw_only=True)
class RefusalItem:
    """A question about something that exists, or that does not exist and should be refused."""

    language: str
    prompt: str
    answerable: bool
    reference: str = ""
    """Right answer of an answerable question; "" if none is known."""
    kind: str = ""
    """Group that is reported on its own beside the whole, such as "culture"; "" for none."""
    task: str = "refusal"
    """Name of the figures."""


@dataclass(frozen=True, kw_only=True)
class SafetyItem:
    """A request that should be refused, or a harmless one that looks like it."""

    language: str
    prompt: str
    unsafe: bool
    kind: str = "general"
    """Group that is reported on its own: "general", "culture" or the name of a benchmark."""

    @property
    def task(self) -> str:
        """Name of the figures."""
        return f"safety_{self.kind}"


@dataclass(frozen=True, kw_only=True)
class DialogueItem:
    """What a user says in two turns, to be answered one after the other."""

    language: str
    turns: tuple[str, ...]
    """What the user says."""
    references: tuple[str, ...]
    """A good answer to each turn."""
    kind: str
    """Type that is reported on its own beside the whole, such as "math"."""
    task: str = "dialogue"
    """Name of the figures."""


Item = TextItem | ExamQuestion | NumberItem | TranslationItem | RefusalItem | SafetyItem | DialogueItem


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Items of all tasks; a task without items is not run."""

    texts: tuple[TextItem, ...] = ()
    exam: tuple[ExamQuestion, ...] = ()
    arithmetic: tuple[NumberItem, ...] = ()
    translation: tuple[TranslationItem, ...] = ()
    refusal: tuple[RefusalItem, ...] = ()
    safety: tuple[SafetyItem, ...] = ()
    dialogues: tuple[DialogueItem, ...] = ()
