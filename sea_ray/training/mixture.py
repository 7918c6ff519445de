"""The mixture of sources: which sample is drawn when, as a pure function of (seed, step).

Any worker can ask for any step at once, so a run resumes at the very next sample with another number of workers.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping

import numpy as np

from sea_ray.errors import ConfigError, nearest

SCHEDULE_SAMPLES = 1 << 16
"""Longest schedule before it repeats; a source's share is a whole number of draws in it (error below 0.001 %)."""


class Mixture:
    """Draws samples of several sources in asked shares, each source in seeded permuted epochs.

    Draws are stratified: after any number n of draws a source of share w was drawn less than one time more or fewer
    than n * w (Tijdeman, "The chairman assignment problem", Discrete Mathematics 32, 1980).
    """

    def __init__(self, sizes: Mapping[str, int], weights: Mapping[str, float], seed: int,
                 max_epochs: float | None, total_samples: int) -> None:
        """Make the schedule.

        Args:
            sizes: source -> number of its samples.
            weights: source -> wanted share, not necessarily normalised; a source without one is not drawn.
            seed: of the permutations.
            max_epochs: most often that a sample is drawn in the run; None for no limit.
            total_samples: draws of the whole run.

        Raises:
            ConfigError: unknown or empty source, negative weight, or sources too small for the run.
        """
        _check(sizes, weights, total_samples)
        self.seed, self.total_samples = seed, total_samples
        self.sizes = {name: sizes[name] for name in weights if weights[name] > 0}
        self.effective_weights = _water_filled(self.sizes, weights, max_epochs, total_samples)
        self._names = tuple(self.sizes)
        length = min(total_samples, SCHEDULE_SAMPLES)
        quotas = _quotas(np.array([self.effective_weights[name] for name in self._names]), length)
        for name, quota in zip(self._names, quotas, strict=True):
            if quota == 0 and total_samples > length:  # in a shorter run a source may well come to less than one draw
                raise ConfigError(f"weights.{name}", f"share {self.effective_weights[name]:.2g} is less than one of "
                                                     f"{length} draws: raise it or set it to 0")
        self._quotas = quotas
        self._source_N = _schedule(quotas)
        self._rank_N = _ranks(self._source_N, len(quotas))

    def batch(self, step: int, batch_size: int) -> list[tuple[str, int]]:
        """Return the (source, sample) pairs of a step's global batch.

        Args:
            step: from 0.
            batch_size: samples of a step, the same for all steps.
        """
        pairs = []
        for draw in range(step * batch_size, (step + 1) * batch_size):
            round_, slot = divmod(draw, len(self._source_N))
            source = int(self._source_N[slot])
            name = self._names[source]
            epoch, place = divmod(round_ * int(self._quotas[source]) + int(self._rank_N[slot]), self.sizes[name])
            pairs.append((name, int(_permutation(self.seed, name, epoch, self.sizes[name])[place])))
        return pairs

    def realised(self, num_steps: int, batch_size: int) -> dict[str, float]:
        """Return source -> share of the first `num_steps` batches that it makes up."""
        draws = num_steps * batch_size
        rounds, rest = divmod(draws, len(self._source_N))
        counts = rounds * self._quotas + np.bincount(self._source_N[:rest], minlength=len(self._names))
        return {name: float(count) / draws for name, count in zip(self._names, counts, strict=True)}

    def epochs(self, num_steps: int, batch_size: int) -> dict[str, float]:
        """Return source -> how often each of its samples is drawn in the first `num_steps` batches."""
        draws = num_steps * batch_size
        return {name: share * draws / self.sizes[name]
                for name, share in self.realised(num_steps, batch_size).items()}


def _check(sizes: Mapping[str, int], weights: Mapping[str, float], total_samples: int) -> None:
    if total_samples < 1:
        raise ConfigError("total_samples", f"{total_samples} is below 1")
    for name, weight in weights.items():
        if name not in sizes:
            raise ConfigError(f"weights.{name}", f"there is no such source{nearest(name, sizes)}")
        if not 0 <= weight < float("inf"):
            raise ConfigError(f"weights.{name}", f"{weight} is not a share: 0 or more is needed")
        if weight > 0 and sizes[name] < 1:
            raise ConfigError(f"weights.{name}", f"the source is empty but has weight {weight}: set it to 0")
    if sum(weights.values()) <= 0:
        raise ConfigError("weights", "no source has a weight above 0")


def _water_filled(sizes: Mapping[str, int], weights: Mapping[str, float], max_epochs: float | None,
                  total_samples: int) -> dict[str, float]:
    """Return shares min(cap, level * weight) that sum to 1: what a capped source can't give, the others share."""
    wanted = {name: weights[name] for name in sizes}
    total = sum(wanted.values())
    if max_epochs is None:
        return {name: weight / total for name, weight in wanted.items()}
    caps = {name: max_epochs * size / total_samples for name, size in sizes.items()}
    if sum(caps.values()) < 1 - 1e-9:
        raise ConfigError("max_epochs", f"{total_samples} samples are asked of sources that give "
                                        f"{int(sum(caps.values()) * total_samples)} in {max_epochs} epochs: raise it, "
                                        "shorten the run or add data")
    shares: dict[str, float] = {}
    free, room = dict(wanted), 1.0
    while free:
        level = room / sum(free.values())
        full = {name: caps[name] for name, weight in free.items() if level * weight > caps[name]}
        if not full:
            return {name: shares.get(name, level * wanted[name]) for name in sizes}
        shares |= full
        room -= sum(full.values())
        free = {name: weight for name, weight in free.items() if name not in full}
    return {name: shares[name] for name in sizes}


def _quotas(shares: np.ndarray, length: int) -> np.ndarray:
    """Return whole numbers of draws that sum to `length`, by largest remainders."""
    exact = shares / shares.sum() * length
    quotas = np.floor(exact + 1e-9).astype(np.int64)
    late = np.argsort(quotas - exact, kind="stable")[: length - quotas.sum()]
    quotas[late] += 1
    return quotas


def _schedule(quotas: np.ndarray) -> np.ndarray:
    """Return the source of each draw of one round, by Tijdeman's rule.

    At draw n the sources that are at least 1 / (2k - 2) behind their share are eligible; of them the one whose deficit
    would first reach its bound 1 - 1 / (2k - 2) is drawn.
    """
    length, num_sources = int(quotas.sum()), len(quotas)
    if num_sources == 1:
        return np.zeros(length, np.int16)
    margin = 1 / (2 * num_sources - 2)
    share = np.maximum(quotas / length, 1e-12)
    drawn = np.zeros(num_sources)
    order = np.empty(length, np.int16)
    for draw in range(length):
        deficit = share * (draw + 1) - drawn
        slack = np.where(deficit >= margin - 1e-9, (1 - margin - deficit) / share, np.inf)
        source = int(slack.argmin())
        order[draw] = source
        drawn[source] += 1
    return order


def _ranks(source_N: np.ndarray, num_sources: int) -> np.ndarray:
    """Return, for each draw, how often its source was drawn before."""
    rank_N = np.empty(len(source_N), np.int64)
    for source in range(num_sources):
        mine = source_N == source
        rank_N[mine] = np.arange(mine.sum())
    return rank_N


@functools.lru_cache(maxsize=256)
def _permutation(seed: int, name: str, epoch: int, size: int) -> np.ndarray:
    """Return the order of a source's samples in one epoch."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), epoch]).permutation(size)
