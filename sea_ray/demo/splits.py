"""What belongs to train, validation and test: a stable hash of seed and key decides, never order or Python's hash.

Endless sets (sentence combinations) are split one key at a time; small sets (facts, names) are dealt by rank of their
hash, so that the shares hold exactly and no split is left empty by bad luck.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Literal, get_args

from sea_ray.errors import ConfigError, nearest

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Shares = Mapping[Split, float]

SHARES: Shares = {"train": 0.65, "validation": 0.10, "test": 0.25}
"""Shares of every kind of item. A quarter for test keeps the intervals of the small sets (192 facts) bearable."""
CULTURE_SHARES: Shares = {"train": 0.50, "validation": 0.10, "test": 0.40}
"""There are 24 culture combinations per language: fewer test prompts would say nothing."""


def digest(seed: int, *key: object) -> int:
    """Return 64 bits that depend on nothing but seed and key."""
    text = "\x1f".join(map(str, (seed, *key)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def generator(seed: int, *key: object) -> random.Random:
    """Return the random generator of one purpose, such as ("documents", "th", "train")."""
    return random.Random(digest(seed, "generator", *key))


def split_of(seed: int, key: str, shares: Shares = SHARES) -> Split:
    """Return the split of one key of an endless set."""
    place = digest(seed, "split", key) / 2**64
    for split, share in shares.items():
        if place < share:
            return split
        place -= share
    return "test"


def deal(seed: int, keys: Iterable[str], shares: Shares = SHARES) -> dict[str, Split]:
    """Return the split of each key of a small set; the shares hold to the nearest whole key."""
    ranked = sorted(keys, key=lambda key: (digest(seed, "split", key), key))
    splits: dict[str, Split] = {}
    total = 0.0
    for split, share in shares.items():
        start, total = total, total + share
        for key in ranked[round(start * len(ranked)) : round(total * len(ranked))]:
            splits[key] = split
    return splits


def check_split(split: str) -> None:
    """Raise ConfigError for a name that is no split."""
    if split not in SPLITS:
        raise ConfigError("split", f"unknown split {split!r}{nearest(split, SPLITS)}")
