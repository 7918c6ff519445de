"""Questions to an OpenAI-compatible endpoint, a few under way at one time.

Every answer is one line of a log, so a broken-off run goes on with what is missing and pays for none twice.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TextIO

from sea_ray.artifacts import NOT_IDENTITY, fingerprint
from sea_ray.errors import ConfigError, DataError, MachineError
from sea_ray.tracking import Tracker


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """Who is asked, and how."""

    ROLE: ClassVar[str] = "endpoint"
    """What errors call it."""

    url: str
    """Root of an OpenAI-compatible API, such as "https://api.example.com/v1"."""
    model: str
    """Model that answers."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; the key itself is never configured."""
    concurrency: int = 8
    """Questions under way at one time."""
    max_tokens: int = 512
    """Longest answer, tokens."""
    temperature: float = 0.0
    """Of its answers; at 0 it says the same each time, as far as the endpoint does."""
    max_retries: int = 5
    """Further attempts after a failure, a time-out or a 429, with growing pauses or as long as the endpoint asks for."""
    timeout_s: float = field(default=120.0, metadata=NOT_IDENTITY)
    """Longest wait for one answer, seconds."""
    seed: int = 0
    """Of the answers, where the endpoint heeds it."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("concurrency", "max_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(name, f"{getattr(self, name)} is below 1")
        if not self.timeout_s > 0:
            raise ConfigError("timeout_s", f"{self.timeout_s} is not above 0")
        for name in ("max_retries", "temperature"):
            if getattr(self, name) < 0:
                raise ConfigError(name, f"{getattr(self, name)} is negative")


@dataclass(frozen=True)
class Question:
    """What is asked."""

    text: str
    number: int = 0
    """Tells questions of the same text apart, and is added to the seed."""

    def asked(self, config: EndpointConfig) -> str:
        """Return a digest of who is asked what, and how; a model may move to another address."""
        return fingerprint([config.model, config.max_tokens, config.temperature, config.seed, self.text])


@dataclass(frozen=True)
class Answer:
    """What came back, and what it took."""

    text: str
    prompt_tokens: int
    answer_tokens: int


def client(config: EndpointConfig) -> AbstractAsyncContextManager[Any]:
    """Return a client for an asynchronous `with`.

    Raises:
        ConfigError: the environment has no key.
    """
    import openai

    key = os.environ.get(config.key_variable)
    if not key:
        raise ConfigError("key_variable", f"the environment has no {config.key_variable}; put the {config.ROLE}'s key there")
    return openai.AsyncOpenAI(base_url=config.url, api_key=key, max_retries=config.max_retries,
                              timeout=config.timeout_s)


async def ask(endpoint: Any, config: EndpointConfig, questions: Sequence[Question], log: Path,
              tracker: Tracker) -> list[Answer]:
    """Return an answer to each question; what the log holds is not asked again.

    Args:
        endpoint: the opened client.
        config: who is asked, and how.
        questions: none twice, by text and number.
        log: JSON Lines, appended to.
        tracker: told how many answers are there.

    Raises:
        ConfigError: a refused key or an unknown model.
        DataError: a damaged log.
        MachineError: the endpoint cannot be reached, or fails again and again.
    """
    keys = [(question.number, question.asked(config)) for question in questions]
    done = _read_log(log, set(keys), config.ROLE)
    missing = [(key, question) for key, question in zip(keys, questions, strict=True) if key not in done]
    with log.open("a", encoding="utf-8") as stream:
        await _ask_all(endpoint, config, missing, done, stream, tracker)
    return [done[key] for key in keys]


_Key = tuple[int, str]


async def _ask_all(endpoint: Any, config: EndpointConfig, missing: Sequence[tuple[_Key, Question]], done: dict[_Key, Answer],
                   stream: TextIO, tracker: Tracker) -> None:
    """Ask what is missing, a few at a time; each answer is written when it comes."""
    import openai

    waiting = iter(missing)  # shared by all that ask: each takes the next

    failures: list[Exception] = []

    async def take() -> None:
        for key, question in waiting:
            if failures:
                return  # what is under way elsewhere is waited for: it is paid
            try:
                await answer(key, question)
            except openai.OpenAIError as error:
                failures.append(error)

    async def answer(key: _Key, question: Question) -> None:
        try:
            reply = await endpoint.chat.completions.create(
                model=config.model, messages=[{"role": "user", "content": question.text}], max_tokens=config.max_tokens,
                temperature=config.temperature, seed=config.seed + question.number)
        except json.JSONDecodeError as error:
            raise openai.OpenAIError(f"it sent what is no JSON: {error.doc[:80]!r}") from error
        found = _answer(reply)
        done[key] = found
        line = {"number": key[0], "asked": key[1], "text": found.text, "prompt_tokens": found.prompt_tokens,
                "answer_tokens": found.answer_tokens}
        stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        stream.flush()
        tracker.log(len(done), answers=len(done))

    async with asyncio.TaskGroup() as group:
        for _ in range(min(config.concurrency, len(missing))):
            group.create_task(take())
    if failures:
        raise _explained(failures[0], config) from failures[0]


def _answer(reply: Any) -> Answer:
    """Return what a reply holds; "" where the endpoint kept the text back."""
    import openai

    choices = getattr(reply, "choices", None)
    if not isinstance(choices, list) or any(choice.message is None for choice in choices):
        raise openai.OpenAIError(f"it sent what is no chat completion: {str(reply)[:80]!r}")
    usage = reply.usage
    return Answer(choices[0].message.content or "" if choices else "", usage.prompt_tokens if usage else 0,
                  usage.completion_tokens if usage else 0)


def _explained(error: Exception, config: EndpointConfig) -> ConfigError | MachineError:
    import openai

    if isinstance(error, openai.APIStatusError) and error.status_code in (400, 401, 403, 404, 422):
        return ConfigError("model", f"the {config.ROLE} at {config.url} refuses: {error}")
    return MachineError(f"the {config.ROLE} at {config.url} does not answer ({error}); the answers that came are kept, the same "
                        "command goes on")


def _read_log(log: Path, wanted: set[_Key], role: str) -> dict[_Key, Answer]:
    """Return the answers of earlier runs to the wanted questions; a last line that broke off is cut away."""
    if not log.exists():
        return {}
    whole, _, rest = log.read_text(encoding="utf-8").rpartition("\n")
    if rest:
        log.write_text(whole + "\n" if whole else "", encoding="utf-8")
    found = {}
    for line, text in enumerate(whole.split("\n") if whole else [], 1):  # an answer may hold other line separators
        try:
            values = json.loads(text)
            key = (int(values["number"]), values["asked"])
            if key in wanted:
                found[key] = Answer(values["text"], values["prompt_tokens"], values["answer_tokens"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"not an answer of a {role} ({error!r}); remove the line", log, line) from error
    return found
