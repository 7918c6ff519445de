"""Dialogues of open questions, such as SeaBench: the model answers every turn, and rules give 1 to 10 points.

The rules see letters and no meaning. They tell an answer in the right language that shares words with the reference from one
that does not, and that is all: a right answer in other words gets few points, a wrong one in the same words many. They are
there so that a figure costs nothing and needs no endpoint; what counts is a judge (`dialogue_judge.py`), and how far the two
agree is measured wherever both have judged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics import CHRF

from sea_ray.errors import DataError
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.evaluation.fidelity import IsLanguage, fidelity, keeps_language
from sea_ray.evaluation.figures import Detail, Figure, bootstrap, proportion
from sea_ray.evaluation.generator import Generator, Message
from sea_ray.evaluation.items import DialogueItem
from sea_ray.evaluation.tasks import TaskResult, grouped

FULL_CHRF = 50.0
"""chrF to the reference from which on an answer gets all points: a choice, no measurement."""
SHORT, LONG = 0.25, 4.0
"""Length of an answer, as a multiple of the reference's, below and above which it loses points."""
LOWEST, HIGHEST = 1.0, 10.0


def evaluate_dialogues(
    generator: Generator, items: Sequence[DialogueItem], config: EvaluationConfig, is_language: IsLanguage
) -> TaskResult:
    """Ask every turn, the model's own answers in between, and let the rules give points.

    A turn that no longer fits the model's context is not asked; it counts as an empty answer, in `unanswered` and in the
    points.
    """
    figures, details = [], []
    answers = converse(generator, items, config)
    for (task, code), pairs in grouped(items, answers).items():
        points = [[rule_points(answer, reference, code, is_language)
                   for answer, reference in zip(said, item.references, strict=True)] for item, said in pairs]
        for name, places in groups_of(task, [item.kind for item, _ in pairs]).items():
            empty = [not answer for place in places for answer in pairs[place][1]]
            figures.append(points_figure(name, "points_rules", code, [points[place] for place in places], config))
            figures.append(proportion(name, "unanswered", code, empty, higher_is_better=False))
        figures += fidelity(task, code, [answer for _, said in pairs for answer in said], is_language)
        details += [
            Detail(task=task, language=code, item=number, turn=turn + 1, prompt=item.turns[turn], response=said[turn],
                   reference=item.references[turn], kind=item.kind, score=points[number][turn], metric="points_rules")
            for number, (item, said) in enumerate(pairs) for turn in range(len(item.turns))
        ]  # fmt: skip
    return TaskResult(figures, details)


def converse(generator: Generator, items: Sequence[DialogueItem], config: EvaluationConfig) -> list[list[str]]:
    """Return the answers to each dialogue's turns, stripped; "" to a turn that does not fit the context, and to those after it.

    Raises:
        DataError: no first turn at all can be asked.
    """
    answers: list[list[str]] = [[] for _ in items]
    for turn in range(max((len(item.turns) for item in items), default=0)):
        open_ = [place for place, item in enumerate(items) if turn < len(item.turns) and all(answers[place])]
        conversations = [_so_far(items[place].turns[: turn + 1], answers[place]) for place in open_]
        said = dict(zip(open_, _say(generator, conversations, config, must=turn == 0), strict=True))
        for place, item in enumerate(items):
            if turn < len(item.turns):
                answers[place].append(said.get(place, ""))
    return answers


def _so_far(turns: Sequence[str], answers: Sequence[str]) -> list[Message]:
    pairs = zip(turns, [*answers, None], strict=True)
    return [{"role": role, "content": text} for pair in pairs
            for role, text in zip(("user", "assistant"), pair, strict=True) if text is not None]


def _say(
    generator: Generator, conversations: Sequence[Sequence[Message]], config: EvaluationConfig, *, must: bool
) -> list[str]:
    """Return the next answers; what is refused is halved until those that are refused by themselves are found."""
    if not conversations:
        return []
    try:
        if config.prompting == "chat":
            answers = generator.chat(conversations, config.dialogue_tokens)
        else:
            prompts = ["".join(f"{message['content']}\n" for message in talk) for talk in conversations]
            answers = generator.complete(prompts, config.dialogue_tokens, ("\n",))
    except DataError:
        if len(conversations) > 1:
            middle = len(conversations) // 2
            halves = (conversations[:middle], conversations[middle:])
            answers = [answer for half in halves for answer in _say(generator, half, config, must=False)]
        else:
            answers = [""]
        if must and not any(answers):
            raise
    return [answer.strip() for answer in answers]


def rule_points(answer: str, reference: str, code: str, is_language: IsLanguage) -> float:
    """Return 1 to 10 points: 1 + 9 * likeness * length * language.

    likeness = min(1, chrF / 50); length = min(1, r / 0.25, 4 / r) with r = letters of the answer / of the reference;
    language = 0 where the reference keeps to the language of the question and the answer does not, else 1.
    """
    if not answer:
        return LOWEST
    likeness = min(1.0, CHRF().sentence_score(answer, [reference]).score / FULL_CHRF)
    ratio = len(answer) / len(reference)
    length = min(1.0, ratio / SHORT, LONG / ratio)
    strays = keeps_language(reference, code, is_language) and not keeps_language(answer, code, is_language)
    return LOWEST + (HIGHEST - LOWEST) * likeness * length * (not strays)


def groups_of(task: str, kinds: Sequence[str]) -> dict[str, list[int]]:
    """Return name of figures -> places: the whole task, and each of its kinds as "task_kind"."""
    groups = {task: list(range(len(kinds)))}
    for place, kind in enumerate(kinds):
        if kind:
            groups.setdefault(f"{task}_{kind}", []).append(place)
    return groups


def points_figure(
    task: str, metric: str, code: str, points: Sequence[Sequence[float]], config: EvaluationConfig
) -> Figure:
    """Return the mean over all turns; the bootstrap draws dialogues, whose turns belong together.

    Args:
        task: name of the figure.
        metric: name of the points.
        code: language.
        points: of the turns of each dialogue, of which each has one or more.
        config: samples and seed of the bootstrap.
    """
    sums = np.array([[sum(turns), len(turns)] for turns in points], dtype=float)
    low, high = bootstrap(sums, lambda drawn: drawn[:, 0] / drawn[:, 1], config.bootstrap_samples, config.seed)
    value = float(sums[:, 0].sum() / sums[:, 1].sum())
    if len(points) == 1:  # resamples of one dialogue are all alike, which is no certainty
        low, high = LOWEST, HIGHEST
    return Figure(task=task, metric=metric, language=code, value=value, n=len(points), low=min(low, value),
                  high=max(high, value), higher_is_better=True)  # fmt: skip
