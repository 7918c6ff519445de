"""Asking a teacher model: numbered requests to any OpenAI-compatible endpoint, a few at a time.

The answer of a request is one line of a file, so a broken-off run goes on with the numbers that are missing and pays for none
twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from sea_ray.artifacts import fingerprint
from sea_ray.errors import ConfigError, DataError, MachineError
from sea_ray.tracking import Tracker

_OBJECT = re.compile(r"\{.*\}", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Who is asked, how often, and what it costs."""

    url: str
    """Root of an OpenAI-compatible API, such as "https://api.example.com/v1"."""
    model: str
    """Model that answers."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; the key itself is never configured."""
    requests_per_language: int = 100
    """Requests to the teacher; each gives one instruction at most, or four questions of a story."""
    examples: int = 4
    """Conversations of the language that a request for an instruction shows."""
    concurrency: int = 8
    """Requests under way at one time."""
    max_tokens: int = 512
    """Longest answer, tokens."""
    temperature: float = 0.8
    max_retries: int = 5
    """Further attempts after a failure, with growing pauses."""
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
        for name in ("requests_per_language", "examples", "concurrency", "max_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(name, f"{getattr(self, name)} is below 1")
        for name in ("max_retries", "temperature", "input_price", "output_price"):
            if getattr(self, name) < 0:
                raise ConfigError(name, f"{getattr(self, name)} is negative")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer of the teacher, as its line in the log."""

    number: int
    """Of the request."""
    asked: str
    """Digest of who was asked what, and how."""
    text: str
    prompt_tokens: int
    answer_tokens: int


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
    key = os.environ.get(config.key_variable)
    if not key:
        raise ConfigError("key_variable", f"the environment has no {config.key_variable}; put the teacher's key there")
    folder.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_ask(config, key, requests, folder, tracker))


async def _ask(config: TeacherConfig, key: str, requests: Mapping[str, Sequence[str]], folder: Path,
               tracker: Tracker) -> dict[str, list[Answer]]:
    import openai

    answers = {}
    async with openai.AsyncOpenAI(base_url=config.url, api_key=key, max_retries=config.max_retries) as client:
        for code, prompts in requests.items():
            log = folder / f"{code}.log.jsonl"
            done = _read_log(log, [_digest(config, prompt) for prompt in prompts])
            with log.open("a", encoding="utf-8") as stream:
                await _ask_missing(client, config, prompts, done, stream, tracker.child(code))
            answers[code] = [done[number] for number in sorted(done)]
    return answers


async def _ask_missing(client: Any, config: TeacherConfig, prompts: Sequence[str], done: dict[int, Answer], stream: TextIO,
                       tracker: Tracker) -> None:
    """Ask what is not done, a few at a time; each answer is written when it comes."""
    import openai

    missing = [number for number in range(len(prompts)) if number not in done]
    waiting = iter(missing)  # shared by all that ask: each takes the next
    failures: list[Exception] = []

    async def ask_next() -> None:
        for number in waiting:
            if failures:
                return  # what is under way elsewhere is waited for: it is paid
            try:
                await answer(number)
            except openai.OpenAIError as error:
                failures.append(error)

    async def answer(number: int) -> None:
        reply = await client.chat.completions.create(
            model=config.model, messages=[{"role": "user", "content": prompts[number]}],
            max_tokens=config.max_tokens, temperature=config.temperature, seed=config.seed + number)
        usage = reply.usage
        done[number] = Answer(number=number, asked=_digest(config, prompts[number]), text=reply.choices[0].message.content or "",
                              prompt_tokens=usage.prompt_tokens if usage else 0,
                              answer_tokens=usage.completion_tokens if usage else 0)
        stream.write(json.dumps(asdict(done[number]), ensure_ascii=False) + "\n")
        stream.flush()
        tracker.log(len(done), answers=len(done))

    async with asyncio.TaskGroup() as group:
        for _ in range(min(config.concurrency, len(missing))):
            group.create_task(ask_next())
    if failures:
        raise _explained(failures[0], config) from failures[0]


def _explained(error: Exception, config: TeacherConfig) -> ConfigError | MachineError:
    import openai

    if isinstance(error, openai.APIStatusError) and error.status_code in (400, 401, 403, 404, 422):
        return ConfigError("model", f"the teacher at {config.url} refuses: {error}")
    return MachineError(f"the teacher at {config.url} does not answer ({error}); the answers that came are kept, the same "
                        "command goes on")


def _digest(config: TeacherConfig, prompt: str) -> str:
    """Return a digest of who is asked what, and how; a model may move to another address."""
    return fingerprint([config.model, config.max_tokens, config.temperature, config.seed, prompt])


def _read_log(log: Path, wanted: Sequence[str]) -> dict[int, Answer]:
    """Return the answers of earlier runs to the wanted requests; a last line that broke off is cut away."""
    if not log.exists():
        return {}
    whole, _, rest = log.read_text(encoding="utf-8").rpartition("\n")
    if rest:
        log.write_text(whole + "\n" if whole else "", encoding="utf-8")
    found = {}
    for line, text in enumerate(whole.split("\n") if whole else [], 1):  # an answer may hold other line separators
        try:
            answer = Answer(**json.loads(text))
            if answer.number < len(wanted) and wanted[answer.number] == answer.asked:
                found[answer.number] = answer
        except (ValueError, TypeError) as error:
            raise DataError(f"not an answer of a teacher ({error!r}); remove the line", log, line) from error
    return found


def json_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object of an answer, whatever stands around it, or None where there is none."""
    found = _OBJECT.search(text)
    try:
        value = json.loads(found[0]) if found else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
