"""From lm-evaluation-harness' samples to figures with intervals, and to details by which models can be paired.

Shape letters: I items, C counts of character n-grams, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics import CHRF

from sea_ray.evaluation.answers import chrf
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.evaluation.figures import Detail, Figure, Interval, bootstrap, wilson

NAMES = {"acc": "accuracy", "acc_norm": "accuracy_norm"}
"""The harness' name of a metric -> this project's, where they differ."""

Sample = Mapping[str, Any]


def figures_of(title: str, code: str, task: Any, samples: Sequence[Sample], values: Mapping[str, Any], config: EvaluationConfig
               ) -> list[Figure]:
    """Return a figure for each metric under each filter; the value is the harness' own.

    Args:
        title: of the figures.
        code: language.
        task: the harness' task.
        samples: one for each item and filter.
        values: "metric,filter" -> value.
        config: resamples and seed.
    """
    figures = []
    for name in dict.fromkeys(one["filter"] for one in samples):
        own = [one for one in samples if one["filter"] == name]
        for metric in own[0]["metrics"]:
            value = float(values[f"{metric},{name}"])
            low, high = interval([one[metric] for one in own], metric, config)
            figures.append(Figure(
                task=title, metric=_shown(metric, name), language=code, value=value, n=len(own), low=min(low, value),
                high=max(high, value), higher_is_better=bool(task.higher_is_better()[metric])))
    return figures


def interval(scores: Sequence[Any], metric: str, config: EvaluationConfig) -> Interval:
    """Return the 95 % interval of a metric: Wilson's of hits, else by drawing items with replacement.

    Args:
        scores: of the items: 0 or 1, a number whose mean counts, (nats, bytes) or (reference, answer).
        metric: the harness' name of it.
        config: resamples and seed.
    """
    if metric == "chrf":
        return bootstrap(_counts(scores), chrf, config.bootstrap_samples, config.seed)
    if metric == "bits_per_byte":
        sums = np.array([(-nats / math.log(2), size) for nats, size in scores])
        return bootstrap(sums, lambda sums_RC: sums_RC[:, 0] / sums_RC[:, 1], config.bootstrap_samples, config.seed)
    if set(scores) <= {0, 1}:
        return wilson(int(sum(scores)), len(scores))
    return bootstrap(np.array(scores, float)[:, None], lambda sums_RC: sums_RC[:, 0] / len(scores), config.bootstrap_samples,
                     config.seed)


def mean_of_sources(title: str, code: str, pairs: Sequence[Sequence[tuple[str, str]]], config: EvaluationConfig) -> Figure:
    """Return the mean chrF into a language over the languages out of which is translated, as the paper's tables have it.

    A resample draws the same sentences of every source, since these are translations of each other.

    Args:
        title: of the figure.
        code: target.
        pairs: of each source, reference and answer of the same sentences in the same order.
        config: resamples and seed.
    """
    counts_IC = np.concatenate([_counts(one) for one in pairs], axis=1)
    parts = len(pairs)

    def mean(sums_RC: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.mean([chrf(part_RC) for part_RC in np.split(sums_RC, parts, axis=1)], axis=0)

    value = float(mean(counts_IC.sum(0, keepdims=True))[0])
    low, high = bootstrap(counts_IC, mean, config.bootstrap_samples, config.seed)
    return Figure(task=title, metric="chrf", language=code, value=value, n=len(counts_IC), low=min(low, value),
                  high=max(high, value), higher_is_better=True)


def details_of(title: str, code: str, task: Any, samples: Sequence[Sample], *, chat: bool) -> list[Detail]:
    """Return what happened to each item, scored by the first metric under the last filter.

    Args:
        title: of the figures.
        code: language.
        task: the harness' task.
        samples: one for each item and filter.
        chat: prompts were put into the model's chat format; details have them without it, the same for every model.
    """
    last = samples[-1]["filter"]
    details = []
    for one in sorted((one for one in samples if one["filter"] == last), key=lambda one: one["doc_id"]):
        metric = one["metrics"][0]
        bare = chat and task.OUTPUT_TYPE != "loglikelihood_rolling"
        details.append(Detail(
            task=title, language=code, item=int(one["doc_id"]), response=_response(task, one),
            prompt=str(task.doc_to_text(one["doc"]) if bare else one["arguments"][0][0]), reference=_reference(task, one),
            score=_score(one[metric], metric), metric="sentence_chrf" if metric == "chrf" else _shown(metric, last)))
    return details


def _shown(metric: str, filtered: str) -> str:
    return NAMES.get(metric, metric) + ("" if filtered == "none" else f"_{filtered.replace('-', '_')}")


def _response(task: Any, sample: Sample) -> str:
    if task.OUTPUT_TYPE == "multiple_choice":
        return str(task.doc_to_choice(sample["doc"])[int(np.argmax([one[0][0] for one in sample["resps"]]))])
    return "" if task.OUTPUT_TYPE == "loglikelihood_rolling" else str(sample["resps"][0][0])


def _reference(task: Any, sample: Sample) -> str:
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return ""  # the text itself
    target = sample["target"]
    return str(task.doc_to_choice(sample["doc"])[target] if isinstance(target, int) else target)


def _score(value: Any, metric: str) -> float:
    if metric == "chrf":
        return float(CHRF().sentence_score(value[1], [value[0]]).score)
    if metric == "bits_per_byte":
        return float(-value[0] / math.log(2) / value[1])
    return float(value)


def _counts(pairs: Sequence[tuple[str, str]]) -> NDArray[np.floating]:
    """Return sacrebleu's n-gram counts of each pair of reference and answer, [I, C]."""
    references, answers = ([pair[place] for pair in pairs] for place in (0, 1))
    return np.array(CHRF()._extract_corpus_statistics(answers, [references]), dtype=float)
