"""The tasks: each asks a Generator about its items and turns the answers into figures per language."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.evaluation.figures import Detail, Figure, bootstrap, proportion
from sea_ray.evaluation.generator import Generator
from sea_ray.evaluation.items import ExamQuestion, Item, TextItem

ItemT = TypeVar("ItemT", bound=Item)
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class TaskResult:
    """Figures of one task and what happened to its items."""

    figures: list[Figure]
    details: list[Detail]


def grouped(items: Sequence[ItemT], answers: Sequence[AnswerT]) -> dict[tuple[str, str], list[tuple[ItemT, AnswerT]]]:
    """Return (task, language) -> items with their answers, in order: what a figure is made of."""
    groups: dict[tuple[str, str], list[tuple[ItemT, AnswerT]]] = {}
    for item, answer in zip(items, answers, strict=True):
        groups.setdefault((item.task, item.language), []).append((item, answer))
    return groups


def ask(generator: Generator, prompts: Sequence[str], config: EvaluationConfig) -> list[str]:
    """Return greedy answers, stripped: as a chat, or as the continuation of the prompt's line."""
    if config.prompting == "chat":
        conversations = [[{"role": "user", "content": prompt}] for prompt in prompts]
        answers = generator.chat(conversations, config.max_new_tokens)
    else:
        answers = generator.complete([f"{prompt}\n" for prompt in prompts], config.max_new_tokens, ("\n",))
    return [answer.strip() for answer in answers]


def evaluate_texts(generator: Generator, items: Sequence[TextItem], config: EvaluationConfig) -> TaskResult:
    """Measure bits per byte: -sum log2 p / UTF-8 bytes over all texts; the bootstrap draws texts."""
    figures, details = [], []
    logprobs = generator.rolling_loglikelihoods([item.text for item in items])
    for (task, code), pairs in grouped(items, logprobs).items():
        bits = [-logprob / math.log(2) for _, logprob in pairs]
        sizes = [len(item.text.encode()) for item, _ in pairs]
        low, high = bootstrap(
            np.array([bits, sizes]).T, lambda sums: sums[:, 0] / sums[:, 1], config.bootstrap_samples, config.seed
        )
        value = sum(bits) / sum(sizes)
        figures.append(
            Figure(task=task, metric="bits_per_byte", language=code, value=value, n=len(pairs), low=low, high=high,
                   higher_is_better=False)
        )  # fmt: skip
        details += [
            Detail(task=task, language=code, item=number, prompt=item.text, response="", score=bit / size,
                   metric="bits_per_byte")
            for number, ((item, _), bit, size) in enumerate(zip(pairs, bits, sizes, strict=True))
        ]
    return TaskResult(figures, details)


def evaluate_exam(generator: Generator, items: Sequence[ExamQuestion], config: EvaluationConfig) -> TaskResult:
    """Measure exam accuracy by option log-likelihood: no answer has to be parsed, no model is favoured by its manners.

    With exam_scoring "letter" the context is the question with its lettered options and the answer label, and the
    letter is scored; with "text" the context is the bare question and each option's own words are scored, per byte, so
    that long options are not punished (lm-evaluation-harness calls it acc_norm).

    With prompting "chat" the context is put into the model's chat format.
    """
    requests, owners = [], []
    for number, item in enumerate(items):
        prompt = item.prompt() if config.exam_scoring == "letter" else item.question
        chat = config.prompting == "chat"
        context = generator.render([{"role": "user", "content": prompt}]) if chat else f"{prompt}\n"
        for place, option in enumerate(item.options):
            lettered = (f"{context}{item.label}", f" {'ABCDEFGHIJ'[place]}")
            requests.append(lettered if config.exam_scoring == "letter" else (context, option))
            owners.append(number)
    scores: list[list[float]] = [[] for _ in items]
    for owner, (_, continuation), reply in zip(owners, requests, generator.loglikelihoods(requests), strict=True):
        per = 1 if config.exam_scoring == "letter" else len(continuation.encode())
        scores[owner].append(reply.logprob / per)
    figures, details = [], []
    for (task, code), pairs in grouped(items, [int(np.argmax(options)) for options in scores]).items():
        hits = [choice == item.answer_index for item, choice in pairs]
        figures.append(proportion(task, "accuracy", code, hits, higher_is_better=True))
        details += [
            Detail(task=task, language=code, item=number, prompt=item.prompt(), response=item.options[choice],
                   score=float(hit), metric="accuracy", reference=item.options[item.answer_index])
            for number, ((item, choice), hit) in enumerate(zip(pairs, hits, strict=True))
        ]  # fmt: skip
    return TaskResult(figures, details)
