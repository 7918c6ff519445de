"""New instructions from a teacher model, after examples of one's own (Wang et al. 2022, Self-Instruct, arXiv 2212.10560).

Every request has a number that decides its examples.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from sea_ray.errors import DataError
from sea_ray.languages import language as known_language
from sea_ray.near_duplicates import repeats
from sea_ray.sft.conversation import Conversation
from sea_ray.sft.teacher import Answer, Generated, TeacherConfig, ask, json_object
from sea_ray.tracking import Tracker


def generate(config: TeacherConfig, examples: Mapping[str, Sequence[Conversation]], folder: Path, tracker: Tracker) -> Generated:
    """Ask the teacher and write CODE.jsonl (prompt, response) per language; what is there already is not asked again.

    Args:
        config: teacher and sizes.
        examples: language -> conversations, of one question each, that show what is wanted.
        folder: holds CODE.log.jsonl with every answer, and CODE.jsonl with the accepted instructions.
        tracker: told how many answers of a language are there.

    Returns:
        The answers of each language that were accepted, repeated and unparsed.

    Raises:
        ConfigError, MachineError: see `ask`.
        DataError: a language without examples, or a damaged log.
    """
    for code, shown in examples.items():
        if not shown:
            raise DataError(f"there is no conversation in {code!r} to show the teacher")
    requests = {code: [question(config, code, shown, number) for number in range(config.requests_per_language)]
                for code, shown in examples.items()}
    answers = ask(config, requests, folder, tracker)
    outcomes = {code: _select(config, examples[code], some, folder / f"{code}.jsonl") for code, some in answers.items()}
    return Generated.of(config, outcomes, answers)


def question(config: TeacherConfig, code: str, shown: Sequence[Conversation], number: int) -> str:
    """Return what the teacher is asked; the number decides which examples it sees."""
    draw = random.Random(f"{config.seed}/{code}/{number}")
    chosen = draw.sample(list(shown), min(config.examples, len(shown)))
    lines = [json.dumps({"prompt": one.messages[-2].content, "response": one.messages[-1].content}, ensure_ascii=False)
             for one in chosen]
    name = known_language(code).name
    return "\n".join([
        f"Here are requests to an assistant in {name}, with good answers:", *lines,
        f"Write one more request of another kind, about something else, as a person whose first language is {name} would put it,"
        f" and a correct, helpful answer. Both in {name}. Reply with one JSON object with the keys prompt and response, and"
        " nothing else."])


def _select(config: TeacherConfig, shown: Sequence[Conversation], answers: Sequence[Answer], file: Path) -> Counter[str]:
    """Write the instructions that can be read and repeat nothing, in the order of their numbers; return the outcomes."""
    pairs = [parse(answer.text) for answer in answers]
    read = [pair for pair in pairs if pair is not None]
    prompts = [*(one.messages[-2].content for one in shown), *(pair["prompt"] for pair in read)]
    repeated = repeats(prompts, config.repeated_jaccard)[len(shown):]
    kept = [pair for pair, is_repeat in zip(read, repeated, strict=True) if not is_repeat]
    file.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in kept), encoding="utf-8")
    return +Counter(accepted=len(kept), repeated=len(read) - len(kept), unparsed=len(pairs) - len(read))


def parse(text: str) -> dict[str, str] | None:
    """Return prompt and response of a teacher's answer, or None where there are none."""
    value = json_object(text) or {}
    pair = {name: value.get(name) for name in ("prompt", "response")}
    if not all(isinstance(part, str) and part.strip() for part in pair.values()):
        return None
    return {name: str(part).strip() for name, part in pair.items()}
