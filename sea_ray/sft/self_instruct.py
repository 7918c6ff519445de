"""New instructions from a teacher model, after examples of one's own (Wang et al. 2022, Self-Instruct, arXiv 2212.10560).

Any OpenAI-compatible endpoint can be the teacher. Every request has a number that decides its examples; its answer is one line of
a file, so a broken-off run goes on with the numbers that are missing and pays for none twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from sea_ray.artifacts import fingerprint
from sea_ray.errors import ConfigError, DataError, MachineError
from sea_ray.languages import LANGUAGES
from sea_ray.near_duplicates import repeats
from sea_ray.sft.conversation import Conversation
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
    """Questions to the teacher; each gives one instruction at most."""
    examples: int = 4
    """Conversations of the language that each question shows."""
    concurrency: int = 8
    """Questions under way at one time."""
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
    """Of the choice of examples."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("requests_per_language", "examples", "concurrency", "max_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(name, f"{getattr(self, name)} is below 1")
        for name in ("max_retries", "temperature", "input_price", "output_price"):
            if getattr(self, name) < 0:
                raise ConfigError(name, f"{getattr(self, name)} is negative")


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What came of it, earlier runs into the same folder included."""

    outcomes: Mapping[str, Counter[str]]
    """Language -> accepted, repeated, unparsed -> answers."""
    prompt_tokens: int
    answer_tokens: int
    cost: float
    """By the configured prices."""


def generate(config: TeacherConfig, examples: Mapping[str, Sequence[Conversation]], folder: Path, tracker: Tracker) -> Generated:
    """Ask the teacher and write CODE.jsonl (prompt, response) per language; what is there already is not asked again.

    Args:
        config: teacher and sizes.
        examples: language -> conversations, of one question each, that show what is wanted.
        folder: holds CODE.log.jsonl with every answer, and CODE.jsonl with the accepted instructions.
        tracker: told how many answers of a language are there.

    Raises:
        ConfigError: no key, a refused key or an unknown model.
        DataError: a language without examples, or a damaged log.
        MachineError: the teacher cannot be reached, or fails again and again.
    """
    key = os.environ.get(config.key_variable)
    if not key:
        raise ConfigError("key_variable", f"the environment has no {config.key_variable}; put the teacher's key there")
    folder.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_generate(config, key, examples, folder, tracker))


async def _generate(config: TeacherConfig, key: str, examples: Mapping[str, Sequence[Conversation]], folder: Path,
                    tracker: Tracker) -> Generated:
    import openai

    outcomes, tokens = {}, Counter[str]()
    async with openai.AsyncOpenAI(base_url=config.url, api_key=key, max_retries=config.max_retries) as client:
        for code, shown in examples.items():
            if not shown:
                raise DataError(f"there is no conversation in {code!r} to show the teacher")
            log = folder / f"{code}.log.jsonl"
            done = _read_log(log, {number: _asked(config, code, shown, number) for number in range(config.requests_per_language)})
            missing = [number for number in range(config.requests_per_language) if number not in done]
            with log.open("a", encoding="utf-8") as stream:
                await _ask_all(client, config, code, shown, missing, done, stream, tracker)
            answers = [done[number] for number in sorted(done)]
            outcomes[code] = _select(config, shown, answers, folder / f"{code}.jsonl")
            for answer in answers:
                tokens.update(prompt=answer["prompt_tokens"], answer=answer["answer_tokens"])
    cost = (tokens["prompt"] * config.input_price + tokens["answer"] * config.output_price) / 1e6
    return Generated(outcomes=outcomes, prompt_tokens=tokens["prompt"], answer_tokens=tokens["answer"], cost=cost)


async def _ask_all(client: Any, config: TeacherConfig, code: str, shown: Sequence[Conversation], missing: Sequence[int],
                   done: dict[int, dict[str, Any]], stream: TextIO, tracker: Tracker) -> None:
    """Ask the missing numbers, a few at a time; each answer is written when it comes."""
    import openai

    waiting = iter(missing)  # shared by all that ask: each takes the next

    failures: list[Exception] = []

    async def ask() -> None:
        for number in waiting:
            if failures:
                return  # what is under way elsewhere is waited for: it is paid
            try:
                await answer(number)
            except openai.OpenAIError as error:
                failures.append(error)

    async def answer(number: int) -> None:
        reply = await client.chat.completions.create(
            model=config.model, messages=[{"role": "user", "content": question(config, code, shown, number)}],
            max_tokens=config.max_tokens, temperature=config.temperature, seed=config.seed + number)
        usage = reply.usage
        done[number] = {"number": number, "asked": _asked(config, code, shown, number),
                        "text": reply.choices[0].message.content or "",
                        "prompt_tokens": usage.prompt_tokens if usage else 0,
                        "answer_tokens": usage.completion_tokens if usage else 0}
        stream.write(json.dumps(done[number], ensure_ascii=False) + "\n")
        stream.flush()
        tracker.child(code).log(len(done), answers=len(done))

    async with asyncio.TaskGroup() as group:
        for _ in range(min(config.concurrency, len(missing))):
            group.create_task(ask())
    if failures:
        raise _explained(failures[0], config) from failures[0]


def _explained(error: Exception, config: TeacherConfig) -> ConfigError | MachineError:
    import openai

    if isinstance(error, openai.APIStatusError) and error.status_code in (400, 401, 403, 404, 422):
        return ConfigError("model", f"the teacher at {config.url} refuses: {error}")
    return MachineError(f"the teacher at {config.url} does not answer ({error}); the answers that came are kept, the same "
                        "command goes on")


def question(config: TeacherConfig, code: str, shown: Sequence[Conversation], number: int) -> str:
    """Return what the teacher is asked; the number decides which examples it sees."""
    draw = random.Random(f"{config.seed}/{code}/{number}")
    chosen = draw.sample(list(shown), min(config.examples, len(shown)))
    lines = [json.dumps({"prompt": one.messages[-2].content, "response": one.messages[-1].content}, ensure_ascii=False)
             for one in chosen]
    name = LANGUAGES[code].name
    return "\n".join([
        f"Here are requests to an assistant in {name}, with good answers:", *lines,
        f"Write one more request of another kind, about something else, as a person whose first language is {name} would put it,"
        f" and a correct, helpful answer. Both in {name}. Reply with one JSON object with the keys prompt and response, and"
        " nothing else."])


def _asked(config: TeacherConfig, code: str, shown: Sequence[Conversation], number: int) -> str:
    """Return a digest of who is asked what, and how; a model may move to another address."""
    return fingerprint([config.model, config.max_tokens, config.temperature, config.seed,
                        question(config, code, shown, number)])


def _read_log(log: Path, wanted: Mapping[int, str]) -> dict[int, dict[str, Any]]:
    """Return the answers of earlier runs to the wanted questions; a last line that broke off is cut away."""
    if not log.exists():
        return {}
    whole, _, rest = log.read_text(encoding="utf-8").rpartition("\n")
    if rest:
        log.write_text(whole + "\n" if whole else "", encoding="utf-8")
    found = {}
    for line, text in enumerate(whole.split("\n") if whole else [], 1):  # an answer may hold other line separators
        try:
            answer = json.loads(text)
            if wanted.get(int(answer["number"])) == answer["asked"]:
                found[int(answer["number"])] = answer
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"not an answer of a teacher ({error!r}); remove the line", log, line) from error
    return found


def _select(config: TeacherConfig, shown: Sequence[Conversation], answers: Sequence[Mapping[str, Any]],
            file: Path) -> Counter[str]:
    """Write the instructions that can be read and repeat nothing, in the order of their numbers; return the outcomes."""
    pairs = [parse(answer["text"]) for answer in answers]
    read = [pair for pair in pairs if pair is not None]
    prompts = [*(one.messages[-2].content for one in shown), *(pair["prompt"] for pair in read)]
    repeated = repeats(prompts, config.repeated_jaccard)[len(shown):]
    kept = [pair for pair, is_repeat in zip(read, repeated, strict=True) if not is_repeat]
    file.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in kept), encoding="utf-8")
    return +Counter(accepted=len(kept), repeated=len(read) - len(kept), unparsed=len(pairs) - len(read))


def parse(text: str) -> dict[str, str] | None:
    """Return prompt and response of a teacher's answer, or None where there are none."""
    found = _OBJECT.search(text)
    try:
        value = json.loads(found[0]) if found else None
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    pair = {name: value.get(name) for name in ("prompt", "response")}
    if not all(isinstance(part, str) and part.strip() for part in pair.values()):
        return None
    return {name: str(part).strip() for name, part in pair.items()}
