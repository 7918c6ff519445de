"""Asking a teacher model for data: requests per language, and what the answers cost."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sea_ray.asking import Answer, EndpointConfig, Question, client
from sea_ray.asking import ask as ask_endpoint
from sea_ray.errors import ConfigError
from sea_ray.tracking import Tracker

_OBJECT = re.compile(r"\{.*\}", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(EndpointConfig):
    """Who is asked, how often, and what it costs."""

    ROLE: ClassVar[str] = "teacher"

    requests_per_language: int = 100
    """Requests to the teacher; each gives one instruction at most, or four questions of a story."""
    examples: int = 4
    """Conversations of the language that a request for an instruction shows."""
    temperature: float = 0.8
    """Of its answers; at 0 it says the same each time, as far as the endpoint does."""
    repeated_jaccard: float = 0.7
    """An instruction that shares this part of its character shingles with an earlier one or an example is left out."""
    input_price: float = 0.0
    """Of a million prompt tokens, in the currency that the bill shall be in."""
    output_price: float = 0.0
    """Of a million answer tokens."""
    seed: int = 0
    """Of the teacher's draws, of the choice of examples and of invented names."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        for name in ("requests_per_language", "examples"):
            if getattr(self, name) < 1:
                raise ConfigError(name, f"{getattr(self, name)} is below 1")
        for name in ("input_price", "output_price"):
            if getattr(self, name) < 0:
                raise ConfigError(name, f"{getattr(self, name)} is negative")


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What came of it, earlier runs into the same folder included."""

    outcomes: Mapping[str, Counter[str]]
    """Language -> what became of the answers -> how many."""
    prompt_tokens: int
    answer_tokens: int
    cost: float
    """By the configured prices."""

    @classmethod
    def of(cls, config: TeacherConfig, outcomes: Mapping[str, Counter[str]],
           answers: Mapping[str, Sequence[Answer]]) -> Generated:
        """Return outcomes with what the answers cost."""
        every = [answer for some in answers.values() for answer in some]
        prompt, answer = sum(one.prompt_tokens for one in every), sum(one.answer_tokens for one in every)
        return cls(outcomes=outcomes, prompt_tokens=prompt, answer_tokens=answer,
                   cost=(prompt * config.input_price + answer * config.output_price) / 1e6)


def ask(config: TeacherConfig, requests: Mapping[str, Sequence[str]], folder: Path, tracker: Tracker) -> dict[str, list[Answer]]:
    """Return the teacher's answers to the requests of each language, in their order; what the logs hold is not asked again.

    Args:
        config: who is asked.
        requests: language -> what is asked; the place in the list is the number of a request.
        folder: holds CODE.log.jsonl with every answer.
        tracker: told how many answers of a language are there.

    Raises:
        ConfigError: no key, a refused key or an unknown model.
        DataError: a damaged log.
        MachineError: the teacher cannot be reached, or fails again and again.
    """
    endpoint = client(config)
    folder.mkdir(parents=True, exist_ok=True)

    async def opened() -> dict[str, list[Answer]]:
        async with endpoint as one:
            return {code: await ask_endpoint(one, config, [Question(text, number) for number, text in enumerate(texts)],
                                             folder / f"{code}.log.jsonl", tracker.child(code))
                    for code, texts in requests.items()}

    return asyncio.run(opened())


def json_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object of an answer, whatever stands around it, or None where there is none."""
    found = _OBJECT.search(text)
    try:
        value = json.loads(found[0]) if found else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
