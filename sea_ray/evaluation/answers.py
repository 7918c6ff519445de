"""Tasks whose answers are compared with a reference: arithmetic and translation.

Shape letters of the chrF statistics: S samples, O character n-gram orders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics import CHRF

from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.evaluation.figures import Detail, Figure, bootstrap, proportion
from sea_ray.evaluation.generator import Generator
from sea_ray.evaluation.items import NumberItem, TranslationItem
from sea_ray.evaluation.number_reading import read_number
from sea_ray.evaluation.tasks import TaskResult, ask, grouped

NumberWords = Mapping[str, Mapping[str, int]]
"""Language -> number word -> value."""
DIRECTIONS = ("from_english", "into_english")


def evaluate_arithmetic(
    generator: Generator, items: Sequence[NumberItem], config: EvaluationConfig, words: NumberWords | None = None
) -> TaskResult:
    """Measure in how many answers the last number is the right one.

    Args:
        generator: the model.
        items: problems.
        config: prompting.
        words: number words that count as numbers beside digits.
    """
    figures, details = [], []
    answers = ask(generator, [item.prompt for item in items], config)
    for (task, code), pairs in grouped(items, answers).items():
        hits = [read_number(answer, code, (words or {}).get(code)) == item.answer for item, answer in pairs]
        figures.append(proportion(task, "exact_match", code, hits, higher_is_better=True))
        details += [
            Detail(task=task, language=code, item=number, prompt=item.prompt, response=answer, score=float(hit),
                   metric="exact_match", reference=str(item.answer))
            for number, ((item, answer), hit) in enumerate(zip(pairs, hits, strict=True))
        ]
    return TaskResult(figures, details)


def evaluate_translation(
    generator: Generator, items: Sequence[TranslationItem], config: EvaluationConfig
) -> TaskResult:
    """Measure chrF (sacrebleu's default, chrF2) from and into English; the bootstrap draws sentences."""
    figures, details = [], []
    answers = ask(generator, [item.prompt for item in items], config)
    for (task, code), pairs in grouped(items, answers).items():
        for direction in DIRECTIONS:
            chosen = [(item, answer) for item, answer in pairs if item.direction == direction]
            if chosen:
                hypotheses = [answer for _, answer in chosen]
                figures.append(
                    _chrf_figure(task, code, direction, hypotheses, [item.reference for item, _ in chosen], config)
                )
        details += [
            Detail(task=task, language=code, item=number, prompt=item.prompt, response=answer,
                   score=CHRF().sentence_score(answer, [item.reference]).score,
                   metric="sentence_chrf", reference=item.reference)
            for number, (item, answer) in enumerate(pairs)
        ]  # fmt: skip
    return TaskResult(figures, details)


def _chrf_figure(
    task: str, code: str, direction: str, hypotheses: Sequence[str], references: Sequence[str], config: EvaluationConfig
) -> Figure:
    metric = CHRF()
    # sacrebleu's own bootstrap loops in Python; its per-sentence counts add up, so ours is one matrix product.
    counts = np.array(metric._extract_corpus_statistics(list(hypotheses), [list(references)]), dtype=float)
    low, high = bootstrap(counts, chrf, config.bootstrap_samples, config.seed)
    value = metric.corpus_score(list(hypotheses), [list(references)]).score
    return Figure(
        task=task, metric=f"chrf_{direction}", language=code, value=value, n=len(hypotheses),
        low=min(low, value), high=max(high, value), higher_is_better=True,
    )  # fmt: skip


def chrf(sums: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return chrF2 in percent from summed n-gram counts (Popovic 2015, equation 1; orders averaged as in sacrebleu).

    Args:
        sums: [S, 3 O]: for each order the n-grams of the hypotheses, of the references, and those in common.
    """
    hypothesis_SO, reference_SO, common_SO = (sums.reshape(len(sums), -1, 3)[:, :, part] for part in range(3))
    used_SO = (hypothesis_SO > 0) & (reference_SO > 0)
    precision_SO = np.divide(common_SO, hypothesis_SO, out=np.zeros_like(common_SO), where=used_SO)
    recall_SO = np.divide(common_SO, reference_SO, out=np.zeros_like(common_SO), where=used_SO)
    orders_S = np.maximum(used_SO.sum(1), 1)
    precision_S, recall_S = precision_SO.sum(1) / orders_S, recall_SO.sum(1) / orders_S
    factor = CHRF.BETA**2
    bottom_S = factor * precision_S + recall_S
    top_S = 100 * (1 + factor) * precision_S * recall_S
    return np.divide(top_S, bottom_S, out=np.zeros_like(top_S), where=bottom_S > 0)
