"""How far two judges agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement of two judges."""

    items: int
    """Judged by both."""
    share: float
    """Of the items judged alike."""
    kappa: float
    """Cohen's kappa (1960): agreement beyond what their own frequencies give by chance, 1 at most; 1 where both are of one
    mind about everything."""


def agreement(judged: Sequence[tuple[str, str]]) -> Agreement:
    """Return how far two judges agree.

    Args:
        judged: what the first and the second said of each item; one item or more.
    """
    share = sum(one == other for one, other in judged) / len(judged)
    first, second = (Counter(said) for said in zip(*judged, strict=True))
    chance = sum(first[word] * second[word] for word in first) / len(judged) ** 2
    return Agreement(items=len(judged), share=share, kappa=1.0 if chance == 1 else (share - chance) / (1 - chance))
