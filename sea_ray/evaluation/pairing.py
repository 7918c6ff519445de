"""Two models on the same items: does a difference stand beyond chance, when every figure is asked at once?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from sea_ray.errors import ConfigError
from sea_ray.evaluation.figures import FEW, Detail, EvalReport

SAMPLES = 10_000
"""Resamples of a paired bootstrap: its smallest p-value is 1 in so many."""
BESIDE = frozenset({"seconds", "prompts", "checkpoint", "bootstrap_samples", "seed", "overlap"})
"""Settings that change no answer and no score, or are compared by themselves."""
MODELS_OWN = frozenset({"backend", "cut", "prompt_hash"})
"""What lm-evaluation-harness says of how it reached a model, of its context, and of prompts in its chat format."""
LOWER_IS_BETTER = frozenset({"bits_per_byte"})
"""Scores of which less is better."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One score of two models on the same items of one task and language."""

    task: str
    metric: str
    """What an item's score is."""
    language: str
    first: float
    second: float
    low: float
    """Lower end of the 95 % interval of second - first (paired bootstrap over items)."""
    high: float
    n: int
    """Items that both models have a score of."""
    unread: int
    """Items left out because the judge's answer on one of them could not be read."""
    test: str
    """"McNemar" (exact) for scores of 0 and 1, else "bootstrap"."""
    p: float
    """Probability of a difference at least so large if there were none."""
    holm: float = 1.0
    """The same, adjusted for the number of differences that were looked at."""

    @property
    def better(self) -> bool:
        """Whether the second model is the better one here, be it by chance."""
        return (self.second < self.first) if self.metric in LOWER_IS_BETTER else (self.second > self.first)

    def is_real(self, level: float = 0.05) -> bool:
        """Return whether the adjusted p-value stays below a level."""
        return self.holm < level

    def __str__(self) -> str:
        mark = "*" if self.n < FEW else ""
        return (f"{self.task} {self.metric} {self.language}: {self.first:.3f} -> {self.second:.3f}, difference "
                f"{self.second - self.first:+.3f} [{self.low:+.3f}, {self.high:+.3f}], n={self.n}{mark}, {self.test} "
                f"p={self.p:.3g}, after Holm {self.holm:.3g}")


def compare(first: EvalReport, second: EvalReport) -> tuple[Difference, ...]:
    """Return the difference of every task and language, tested in pairs and adjusted for their number.

    Scores are those of the items: accuracy, right or wrong side of a refusal, chrF of a sentence, points of a dialogue (the mean
    of its turns). Bits per byte weigh a text by its bytes.

    Raises:
        ConfigError: the two were not asked the same, in the same way; with what differs.
    """
    differences = unlike(first, second)
    if differences:
        raise ConfigError("", f"{first.model!r} and {second.model!r} can't be paired: {'; '.join(differences)}. Evaluate both "
                              "with the same evaluation and benchmarks")
    return holm([one for pairs in _pairs(first, second) if (one := _difference(*pairs))])


def unlike(first: EvalReport, second: EvalReport) -> list[str]:
    """Return in words what differs in how two models were asked and what; empty if nothing does."""
    found = [f"{path} is {'not set' if one is None else one} and {'not set' if other is None else other}"
             for path, one, other in settings_differences(_how(first), _how(second))]
    mine, theirs = first.prompts(), second.prompts()
    for report in (first, second):
        if nameless := {detail.task for detail in report.details if not detail.metric}:
            found.append(f"the scores of {', '.join(sorted(nameless))} in {report.model!r} have no name, as older versions wrote "
                         "them")
    for words, keys in (("only the first was asked", mine.keys() - theirs.keys()),
                        ("only the second was asked", theirs.keys() - mine.keys()),
                        ("other items in", {key for key in mine.keys() & theirs.keys() if mine[key] != theirs[key]})):
        if keys:
            found.append(f"{words} {', '.join(sorted(keys)[:8])}{f' and {len(keys) - 8} more' if len(keys) > 8 else ''}")
    return found


def _how(report: EvalReport) -> dict[str, Any]:
    """Return the settings that decide answers and scores, without what is the model's own."""
    settings = {key: value for key, value in report.settings.items() if key not in BESIDE}
    if harness := settings.get("harness"):
        tasks = {name: _without_models_own(task) for name, task in harness["tasks"].items()}
        settings["harness"] = {**_without_models_own(harness), "tasks": tasks}
    return settings


def _without_models_own(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in MODELS_OWN}


def holm(found: Sequence[Difference]) -> tuple[Difference, ...]:
    """Return differences with p-values adjusted so that one false find among all has at most the level's chance.

    Of m sorted p-values the k-th, from 0, becomes the largest of (m - i) p_i for i <= k, 1 at most (Holm 1979).
    """
    adjusted, most = dict[int, float](), 0.0
    for rank, place in enumerate(sorted(range(len(found)), key=lambda place: found[place].p)):
        most = max(most, min(1.0, (len(found) - rank) * found[place].p))
        adjusted[place] = most
    return tuple(replace(one, holm=adjusted[place]) for place, one in enumerate(found))


def mcnemar(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the exact two-sided p-value of McNemar's test: of b + c items on which the two differ, as few as min(b, c) one way.

    p = min(1, 2 P(X <= min(b, c))) with X binomial of b + c and 1/2 (McNemar 1947, in its exact form).
    """
    gained = sum(other > one for one, other in zip(first, second, strict=True))
    lost = sum(other < one for one, other in zip(first, second, strict=True))
    return min(1.0, 2 * float(binom.cdf(min(gained, lost), gained + lost, 0.5)))


Items = Mapping[int, list[Detail]]
"""Number of an item -> its turns."""


def _pairs(first: EvalReport, second: EvalReport) -> Iterator[tuple[Items, Items]]:
    mine, theirs = map(_items, (first, second))
    yield from ((items, theirs[key]) for key, items in mine.items())


def _items(report: EvalReport) -> dict[tuple[str, str], dict[int, list[Detail]]]:
    found: dict[tuple[str, str], dict[int, list[Detail]]] = {}
    for detail in report.details:
        found.setdefault((detail.task, detail.language), {}).setdefault(detail.item, []).append(detail)
    return found


def _difference(mine: Items, theirs: Items) -> Difference | None:
    """Return the difference of one task and language; None where no item has a score of both."""
    head = next(iter(mine.values()))[0]
    scores = [(one, other, _weight(mine[item][0])) for item in mine
              if (one := _score(mine[item])) is not None and (other := _score(theirs[item])) is not None]
    if not scores:
        return None
    table = np.array(scores, dtype=float)
    first, second = (float((table[:, side] * table[:, 2]).sum() / table[:, 2].sum()) for side in (0, 1))
    low, high, p = _bootstrap(table)
    is_binary = set(table[:, :2].flatten()) <= {0.0, 1.0}
    return Difference(task=head.task, metric=head.metric, language=head.language, first=first, second=second, low=low, high=high,
                      n=len(scores), unread=len(mine) - len(scores), test="McNemar" if is_binary else "bootstrap",
                      p=mcnemar(table[:, 0].tolist(), table[:, 1].tolist()) if is_binary else p)


def _score(turns: Sequence[Detail]) -> float | None:
    read = [turn.score for turn in turns if turn.score is not None]
    return sum(read) / len(read) if len(read) == len(turns) else None


def _weight(detail: Detail) -> float:
    return len(detail.prompt.encode()) if detail.metric == "bits_per_byte" else 1.0


def _bootstrap(table: NDArray[np.floating]) -> tuple[float, float, float]:
    """Return the 95 % interval of the weighted mean difference, and how often one about 0 is at least so large.

    p = (1 + #{|d* - d| >= |d|}) / (samples + 1): the distribution of d* about d stands for that about 0 (Efron and Tibshirani
    1993, chapter 16). Resamples of a few items are too much alike, so p is never below 2^(1 - n), what all n signs alike are
    worth.

    Args:
        table: [items, 3]: first score, second score, weight.
    """
    counts = _draws(len(table))
    change = (table[:, 1] - table[:, 0]) * table[:, 2]
    drawn = (counts @ change) / (counts @ table[:, 2])
    value = change.sum() / table[:, 2].sum()
    low, high = np.percentile(drawn, [2.5, 97.5])
    # Equal differences are equal but for rounding: no difference at all must give p = 1.
    extreme = np.abs(drawn - value) >= abs(value) * (1 - 1e-9) - 1e-12
    return float(low), float(high), max(float((1 + extreme.sum()) / (SAMPLES + 1)), 2.0 ** (1 - len(table)))


@lru_cache(maxsize=1)
def _draws(n: int) -> NDArray[np.floating]:
    """Return how often each of n items is drawn, [samples, n]; tasks of one size follow each other and share it."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=SAMPLES).astype(np.float32)


def settings_differences(first: Mapping[str, Any], second: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield dotted path, first and second value of each place where two nested settings differ; None where one lacks it."""
    for key in dict.fromkeys((*first, *second)):
        one, other, name = first.get(key), second.get(key), f"{path}.{key}" if path else str(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from settings_differences(one, other, name)
        elif one != other:
            yield name, one, other
