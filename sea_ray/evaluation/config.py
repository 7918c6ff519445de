"""How much is asked, and how."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Literal

from sea_ray.errors import ConfigError
from sea_ray.languages import LANGUAGES, TWELVE, language

TASKS = ("text", "exam", "arithmetic", "translation", "refusal", "safety", "dialogue")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Tasks, sizes and prompting; the same for every model that is compared."""

    languages: tuple[str, ...] = tuple(TWELVE)
    """Languages of the items."""
    tasks: tuple[str, ...] = TASKS
    """Any of text, exam, arithmetic, translation, refusal, safety, dialogue; benchmarks belong to the task that they are like."""
    items: int = 60
    """Items per language and task (safety: per kind); of two-sided tasks half on each side, so that 60 gives 30, of dialogues as
    many of each type."""
    texts: int = 100
    """Held-out documents per language for bits per byte."""
    max_new_tokens: int = 48
    """Longest answer, tokens; of public benchmarks, too."""
    dialogue_tokens: int = 512
    """Longest answer to a turn of a dialogue, tokens."""
    prompting: Literal["chat", "plain"] = "chat"
    """Questions in the model's chat format, or as a line of text that the model continues by one line (base models)."""
    pairs: tuple[str, ...] = ("en-*", "*-en")
    """Directions of the benchmark flores, source-target, * for any language; ["*-*"] is all of them."""
    exam_scoring: Literal["letter", "text"] = "letter"
    """Score the letter of each listed option, or the words of each option after the bare question, per byte."""
    bootstrap_samples: int = 1000
    """Resamples behind each bootstrap interval."""
    seed: int = 0
    """Of the bootstrap."""

    def __post_init__(self) -> None:
        for code in self.languages:
            language(code)
        for task in self.tasks:
            if task not in TASKS:
                raise ConfigError("tasks", f"unknown task {task!r}; valid: {', '.join(TASKS)}")
        known = [f"{source}-{target}" for source in LANGUAGES for target in LANGUAGES if source != target]
        for pattern in self.pairs:
            if not any(fnmatch(pair, pattern) for pair in known):
                raise ConfigError("pairs", f"{pattern!r} is no direction; write source-target, such as en-th or *-lo")
        for name, least in (("items", 2), ("texts", 1), ("max_new_tokens", 1), ("dialogue_tokens", 1),
                            ("bootstrap_samples", 100)):
            if getattr(self, name) < least:
                raise ConfigError(name, f"{getattr(self, name)} is too few; at least {least}")

    def sources(self, target: str) -> list[str]:
        """Return the languages out of which flores is translated into one."""
        return [code for code in LANGUAGES if code != target and any(fnmatch(f"{code}-{target}", one) for one in self.pairs)]
