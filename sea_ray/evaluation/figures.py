"""Figures with their intervals: the only form in which a result leaves this room."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sea_ray.artifacts import fingerprint, plain, read_json, write_json
from sea_ray.errors import ConfigError, nearest

Z95 = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""
FEW = 30
"""With fewer items an interval says little; such figures are marked."""

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number."""

    task: str
    """What was asked, such as "exam" or "safety_culture"."""
    metric: str
    """What was counted, such as "accuracy"."""
    language: str
    """Language of the items."""
    value: float
    n: int
    """Items behind the value."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""
    higher_is_better: bool

    @property
    def few(self) -> bool:
        """Whether n is below 30, too few for the interval to say much."""
        return self.n < FEW

    def __str__(self) -> str:
        mark = "*" if self.few else ""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] n={self.n}{mark}"


@dataclass(frozen=True, kw_only=True)
class Detail:
    """What happened to one item."""

    task: str
    language: str
    item: int
    """Number of the item within its task and language; the same for every model, so that models can be paired."""
    prompt: str
    response: str
    """Answer of the model; empty where it only scored."""
    score: float | None
    """What the item adds to its task's main metric; None where a judge's answer could not be read."""
    metric: str = ""
    """What the score is, such as "accuracy"; models are compared in pairs where it has a name."""
    turn: int = 1
    """Of a dialogue."""
    kind: str = ""
    """Group within the task that is reported on its own, such as "culture"; "" for none."""
    reference: str = ""
    """A right answer; "" where none is known."""


@dataclass(frozen=True, kw_only=True)
class EvalReport:
    """All figures of one model."""

    model: str
    """Readable name of what was evaluated."""
    figures: tuple[Figure, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The evaluation's configuration and what else decides the figures: "decoding", "checkpoint" (fingerprint of what was
    asked), "prompts" (task/language -> digest of its items)."""
    details: tuple[Detail, ...] = ()
    """One per item."""

    def figure(self, task: str, metric: str, language: str) -> Figure:
        """Return a figure.

        Raises:
            ConfigError: it was not measured; names what was.
        """
        for figure in self.figures:
            if (figure.task, figure.metric, figure.language) == (task, metric, language):
                return figure
        known = [f"{figure.task}/{figure.metric}/{figure.language}" for figure in self.figures]
        raise ConfigError(
            "evaluation", f"{task}/{metric}/{language} was not measured{nearest(f'{task}/{metric}/{language}', known)}"
        )

    def of(self, task: str, metric: str) -> dict[str, Figure]:
        """Return language -> figure of one metric, in measured order."""
        return {f.language: f for f in self.figures if (f.task, f.metric) == (task, metric)}

    def prompts(self) -> dict[str, str]:
        """Return "task/language" -> digest of what was asked there: reports whose digests agree have the same items."""
        asked: dict[str, list[object]] = {}
        for detail in self.details:
            row = [detail.item, detail.turn, detail.kind, detail.prompt, detail.reference]
            asked.setdefault(f"{detail.task}/{detail.language}", []).append(row)
        return {key: fingerprint(rows) for key, rows in asked.items()}

    def save(self, folder: Path) -> None:
        """Write report.json and details.jsonl."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "details.jsonl").open("w", encoding="utf-8") as stream:
            for detail in self.details:
                stream.write(json.dumps(plain(detail), ensure_ascii=False) + "\n")
        head = {"model": self.model, "settings": plain(self.settings), "figures": plain(self.figures)}
        write_json(folder / "report.json", head)

    @classmethod
    def load(cls, folder: Path) -> EvalReport:
        """Read what `save` wrote."""
        head = read_json(folder / "report.json")
        with (folder / "details.jsonl").open(encoding="utf-8") as stream:
            details = tuple(Detail(**json.loads(line)) for line in stream)
        figures = tuple(Figure(**figure) for figure in head["figures"])
        return cls(model=head["model"], figures=figures, settings=head["settings"], details=details)


def wilson(hits: int, n: int) -> Interval:
    """Return the 95 % interval of a proportion (Wilson 1927, equation for the score interval).

    Args:
        hits: items that count.
        n: all items, at least one.
    """
    if not 0 <= hits <= n or n < 1:
        raise ValueError(f"{hits} hits of {n} items is no proportion")
    share, z2 = hits / n, Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def bootstrap(
    values: NDArray[np.floating],
    statistic: Callable[[NDArray[np.floating]], NDArray[np.floating]],
    num_samples: int,
    seed: int,
) -> Interval:
    """Return the 95 % percentile interval of a statistic of sums over items (Efron 1979).

    Args:
        values: [items, columns]; an item is drawn as a whole.
        statistic: [samples, columns] of sums over the drawn items -> [samples].
        num_samples: samples with replacement, each of as many items as there are.
        seed: of the draws.
    """
    n = len(values)
    # How often each item is drawn, sample by sample: one matrix product then gives all sums.
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=num_samples)
    low, high = np.percentile(statistic(counts @ values), [2.5, 97.5])
    return float(low), float(high)


def proportion(task: str, metric: str, language: str, hits: Sequence[bool], *, higher_is_better: bool) -> Figure:
    """Return the share of items that hit, with its Wilson interval."""
    low, high = wilson(sum(hits), len(hits))
    return Figure(
        task=task, metric=metric, language=language, value=sum(hits) / len(hits), n=len(hits), low=low, high=high,
        higher_is_better=higher_is_better,
    )  # fmt: skip
