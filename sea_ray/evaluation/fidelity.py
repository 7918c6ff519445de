"""Does an answer keep to the language of its question? A share of generated answers, per task and language."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

from sea_ray.evaluation.figures import Figure, proportion
from sea_ray.languages import language

IsLanguage = Callable[[str, str], bool]
"""Text and code -> whether the text is in that language."""


def keeps_language(answer: str, code: str, is_language: IsLanguage) -> bool:
    """Return whether an answer is in a language: most of its letters are of the language's script, and it is identified so.

    Args:
        answer: with letters; one that has none, such as "42", is in every language.
        code: the language.
        is_language: tells languages of one script apart.
    """
    letters = [letter for letter in answer if letter.isalpha()]
    own = sum(unicodedata.name(letter, "").startswith(language(code).script) for letter in letters)
    return 2 * own >= len(letters) and (not letters or is_language(answer, code))


def fidelity(task: str, code: str, answers: Sequence[str], is_language: IsLanguage) -> list[Figure]:
    """Return the share of answers in the language, of those that have letters; no figure where none has."""
    judged = [answer for answer in answers if any(map(str.isalpha, answer))]
    kept = [keeps_language(answer, code, is_language) for answer in judged]
    return [proportion(task, "in_language", code, kept, higher_is_better=True)] if kept else []
