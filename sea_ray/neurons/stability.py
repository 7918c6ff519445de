"""Stability: how far two measurements select the same neurons, and how much text a wanted agreement needs.

Shapes: L layers, N neurons of a kind of site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sea_ray.neurons.config import CONTROLS, SelectionConfig, SiteKind
from sea_ray.neurons.methods import Evidence, Evidences, read_evidence, sets_of
from sea_ray.neurons.sets import NeuronSet, jaccard
from sea_ray.neurons.sites import Architecture
from sea_ray.neurons.statistics import Floats, ImportanceStats, SiteStatistics

MOST_WINDOWS = 2**20
"""Above this many windows a prediction is none."""
DRAWN_VALUES = 500_000
"""Small models draw several pairs of measurements, up to about this many values, since their sets are small."""
MOST_PAIRS = 16


def reference(config: SelectionConfig) -> SelectionConfig:
    """Return the config of the sets that a method's neurons come from: a control's are those of plnd."""
    return replace(config, method="plnd") if config.method in CONTROLS else config


def stability(stats: ImportanceStats, architecture: Architecture, config: SelectionConfig) -> dict[str, float]:
    """Return, per language, the Jaccard index of the sets that the even and the odd windows alone select; 0 where
    neither selects any. A control is judged by the sets that it is made from.

    Args:
        stats: of all languages.
        architecture: of the measured model.
        config: method and size.
    """
    own = reference(config)
    halves = [sets_of(read_evidence(stats.half(parity), architecture, own), own) for parity in (0, 1)]
    return _agreement(*halves)


def _agreement(first: Mapping[str, NeuronSet], second: Mapping[str, NeuronSet]) -> dict[str, float]:
    return {
        language: jaccard(first[language], second[language]) if first[language].count else 0.0 for language in first
    }


def windows_for_jaccard(
    stats: ImportanceStats, architecture: Architecture, config: SelectionConfig, target: float, seed: int
) -> dict[str, int | None]:
    """Predict, per language, of how many windows two measurements must be for their sets to agree by `target`.

    The expected agreement of two measurements of n windows is simulated from the stored sums, see `_expected_jaccard`.
    It is too high: measured means spread more than true ones, by their own noise, and windows of one text resemble each
    other. Both act like fewer windows by a constant factor, and the halves tell it: n / 2 over the number of windows at
    which the simulation agrees as they do, at least 1. (On gamma-distributed Imp, 2,000 to 8,000 neurons and 64 windows
    this is within a factor of 2 where the halves agree by 0.2 or more, and too high by up to 5 below.)

    Args:
        stats: of all languages; all are taken to be measured on as many windows.
        architecture: of the measured model.
        config: method and size.
        target: wanted Jaccard index, above 0.
        seed: of the draws.

    Returns:
        Language -> windows of each of the two (halves that are to agree need twice as many together); None: more than
        MOST_WINDOWS, or a rule that asks for every window and so does not settle.
    """
    own = reference(config)
    if own.method == "plnd_released" or (own.tau == 1 and (own.threshold or own.hit_frac)):
        return dict.fromkeys(stats.languages)
    measured = stability(stats, architecture, own)
    needed: dict[str, int | None] = {}
    for language, curve_C in _expected_jaccard(stats, architecture, own, seed).items():
        half = stats[language, own.sites[0]].num_windows / 2
        simulated, anchor = _first_reaching(curve_C, target), _first_reaching(curve_C, measured[language])
        windows = np.inf if simulated is None else np.ceil(simulated * max(1.0, half / (anchor or half)))
        needed[language] = int(windows) if windows <= MOST_WINDOWS else None
    return needed


def _first_reaching(curve_C: Floats, target: float) -> float | None:
    """Return the windows at which a curve over 1, 2, 4, ... windows first reaches a value, linear in their logarithm."""
    reached = np.flatnonzero(curve_C >= target)
    if not len(reached):
        return None
    place = int(reached[0])
    if not place:
        return 1.0
    below, above = curve_C[place - 1], curve_C[place]
    return float(2 ** (place - 1 + (target - below) / (above - below)))


def _expected_jaccard(
    stats: ImportanceStats, architecture: Architecture, config: SelectionConfig, seed: int
) -> dict[str, Floats]:
    """Return language -> mean Jaccard index of two drawn measurements of 1, 2, 4, ... MOST_WINDOWS windows.

    Mean Imp is drawn normal around the measured one with standard deviation s / sqrt(n), not below 0; the number of
    active windows binomial; the openings of a gate normal with the variance of as many independent tokens. All are
    independent between neurons.
    """
    evidences = read_evidence(stats, architecture, config)
    deviations = {key: _deviation(part) for key, part in stats.parts.items()}
    num_values = sum(architecture.num_layers * architecture.count(site) for site in evidences) * len(stats.languages)
    pairs = min(MOST_PAIRS, max(1, DRAWN_VALUES // num_values))
    curves: dict[str, list[float]] = {language: [] for language in stats.languages}
    for num_windows in (2**power for power in range(MOST_WINDOWS.bit_length())):
        found = []
        for pair in range(pairs):
            # Each measurement has one stream for all numbers of windows, so that the curve is smooth.
            first, second = (np.random.default_rng([seed, pair, member]) for member in (0, 1))
            drawn = (_redraw(evidences, deviations, num_windows, stats.window_tokens, it) for it in (first, second))
            found.append(_agreement(*(sets_of(evidence, config) for evidence in drawn)))
        for language, curve in curves.items():
            curve.append(float(np.mean([agreement[language] for agreement in found])))
    return {language: np.array(curve) for language, curve in curves.items()}


def _deviation(part: SiteStatistics) -> Floats:
    """Return the standard deviation of one window's Imp, [L, N]."""
    variance_LN = part.squares.sum(0) / max(1, part.num_windows) - np.square(part.mean)
    return np.sqrt(np.maximum(0, variance_LN) * part.num_windows / max(1, part.num_windows - 1))


def _redraw(
    evidences: Evidences,
    deviations: Mapping[tuple[str, SiteKind], Floats],
    num_windows: int,
    window_tokens: int,
    generator: np.random.Generator,
) -> Evidences:
    """Return what another measurement of `num_windows` windows could show."""

    def redraw(seen: Evidence, deviation_LN: Floats) -> Evidence:
        mean_LN, share_LN, gate_LN = seen.mean_LN, seen.share_LN, seen.probability_LN
        mean_LN = mean_LN + deviation_LN / np.sqrt(num_windows) * generator.standard_normal(mean_LN.shape)
        gate_sd_LN = np.sqrt(gate_LN * (1 - gate_LN) / (num_windows * window_tokens))
        gate_LN = gate_LN + gate_sd_LN * generator.standard_normal(gate_LN.shape)
        if share_LN is not None:
            share_LN = generator.binomial(num_windows, np.minimum(1, share_LN)) / num_windows
        return Evidence(mean_LN=np.maximum(0, mean_LN), share_LN=share_LN, probability_LN=np.clip(gate_LN, 0, 1))

    return {
        site: {language: redraw(seen, deviations[language, site]) for language, seen in of_site.items()}
        for site, of_site in evidences.items()
    }
