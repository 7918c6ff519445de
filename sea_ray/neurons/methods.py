"""Methods: from evidence about every neuron to one set of neurons per language; nothing here reads text or a model.

Shapes: L layers, N neurons of a kind of site, Z languages, R indices that the released PLND code scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sea_ray.errors import ConfigError, DataError
from sea_ray.neurons.config import SelectionConfig, SiteKind
from sea_ray.neurons.sets import NeuronKey, NeuronSet
from sea_ray.neurons.sites import Architecture, Indices
from sea_ray.neurons.statistics import Floats, ImportanceStats

Mask = NDArray[np.bool_]
Masks = dict[str, Mask]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a method reads of one language at one kind of site."""

    mean_LN: Floats
    """Mean Imp over windows."""
    share_LN: Floats | None
    """Share of windows in which the neuron was active; None: the method does not ask."""
    probability_LN: Floats
    """Share of tokens at which the gate was open; empty for sites that have no gate."""


Evidences = Mapping[SiteKind, Mapping[str, Evidence]]


def read_evidence(stats: ImportanceStats, architecture: Architecture, config: SelectionConfig) -> Evidences:
    """Return kind of site -> language -> what the method reads.

    Args:
        stats: of all languages.
        architecture: of the measured model.
        config: method and sites.

    Raises:
        ConfigError: a site or a share of strongest neurons that was not measured.
        DataError: the statistics are of another model.
    """
    evidences = {}
    for site in config.sites:
        _check_measured(stats, site, architecture)
        evidences[site] = {
            language: Evidence(
                mean_LN=stats[language, site].mean,
                share_LN=_active_share(stats, language, site, architecture, config),
                probability_LN=stats[language, site].probability,
            )
            for language in stats.languages
        }
    return evidences


def _check_measured(stats: ImportanceStats, site: SiteKind, architecture: Architecture) -> None:
    if site not in stats.sites:
        measured = ", ".join(stats.sites)
        raise ConfigError("selection.sites", f"{site!r} was not measured; detection.sites has {measured}")
    shape = stats[stats.languages[0], site].total.shape[1:]
    if shape != (architecture.num_layers, architecture.count(site)):
        raise DataError(
            f"the statistics hold {shape[0]} layers of {shape[1]} {site} neurons, the model has {architecture.num_layers} "
            f"of {architecture.count(site)}: they were measured on another model; run detection on this one"
        )


def _active_share(
    stats: ImportanceStats, language: str, site: SiteKind, architecture: Architecture, config: SelectionConfig
) -> Floats | None:
    """Return the share of windows in which each neuron is active by the method's rule, [L, N]; None: it has none."""
    part = stats[language, site]
    if config.method == "plnd_released":
        return _released_share(part.released.sum(0) / max(1, part.num_windows), site, architecture)
    if config.method == "plnd" and config.threshold:
        return part.share_at_least(config.threshold)
    if config.method == "plnd" and config.hit_frac:
        return part.hits.sum(0)[_rank(stats.ranks[site], part.total[0].size, site, config)] / max(1, part.num_windows)
    return None


def _rank(ranks: tuple[int, ...], num_neurons: int, site: SiteKind, config: SelectionConfig) -> int:
    """Return the place of hit_frac among the measured ranks."""
    rank = max(1, round(config.hit_frac * num_neurons))
    if rank not in ranks:
        measured = ", ".join(f"{rank / num_neurons:.3g}" for rank in ranks)
        raise ConfigError("selection.hit_frac", f"how often a neuron is among the strongest {config.hit_frac:g} was not "
                          f"measured at {site}; detection.top_fracs has {measured}: choose one of them or measure again")
    return ranks.index(rank)


def _released_share(share_LR: Floats, site: SiteKind, architecture: Architecture) -> Floats:
    """Return how often each neuron is a hit in the released code's sense, [L, N].

    It scores v and k in the space of all query heads and takes index c for row c // 4 of the projection (4 are the query
    heads per kv head of its models; here num_rep). A row counts when any of its indices does. The map is wrong: context
    index c belongs to row (head // num_rep) * d_head + dim, see `Architecture.context_owners`.
    """
    if site in ("ffn", "q"):
        return share_LR
    return share_LR.reshape(len(share_LR), -1, architecture.num_rep).max(2)


def sets_of(evidences: Evidences, config: SelectionConfig) -> dict[str, NeuronSet]:
    """Return each language's neurons, of whatever number.

    Args:
        evidences: kind of site -> language -> what the method reads.
        config: a method that is not one of CONTROLS, and its size.
    """
    methods: dict[str, Callable[[Mapping[str, Evidence], SelectionConfig], Masks]] = {
        "plnd": _plnd, "plnd_released": _plnd_released, "lape": _lape, "shared": _shared}
    indices: dict[str, dict[NeuronKey, Indices]] = {}
    for site, of_site in evidences.items():
        for language, mask_LN in methods[config.method](of_site, config).items():
            found: dict[NeuronKey, Indices] = {(site, n): np.flatnonzero(mask_N) for n, mask_N in enumerate(mask_LN)}
            indices.setdefault(language, {}).update(found)
    return {language: NeuronSet(language=language, indices=found) for language, found in indices.items()}


def normalised_scores(of_site: Mapping[str, Evidence]) -> dict[str, Floats]:
    """Return mean Imp per language, [L, N], in units of the language's mean over the site, so that languages
    compare."""
    tiny = np.finfo(np.float64).tiny
    return {language: seen.mean_LN / max(seen.mean_LN.mean(), tiny) for language, seen in of_site.items()}


def specificity(scores: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return each language's score in excess of the strongest other language's, [L, N]; of one language, the score
    itself.

    Args:
        scores: language -> importance, [L, N].
    """
    ordered_ZLN = np.sort(np.stack(list(scores.values())), axis=0)
    strongest = ordered_ZLN[-1]
    second = ordered_ZLN[-2] if len(ordered_ZLN) > 1 else np.zeros_like(strongest)
    return {language: score - np.where(score == strongest, second, strongest) for language, score in scores.items()}


def _top(score_LN: Floats, among_LN: Mask, config: SelectionConfig) -> Mask:
    """Return the mask of the highest scores among candidates, at most the budget; ties by position."""
    num_pools = len(score_LN) if config.budget_per == "layer" else 1
    scores, candidates = score_LN.reshape(num_pools, -1), among_LN.reshape(num_pools, -1)
    mask = np.zeros_like(candidates)
    budget = config.top_k or round(config.top_frac * mask.shape[1])
    for chosen, score, among in zip(mask, scores, candidates, strict=True):
        ranked = np.argsort(-np.where(among, score, -np.inf), kind="stable")
        chosen[ranked[: min(budget, int(among.sum()))]] = True
    return mask.reshape(score_LN.shape)


def _subtract(active: Masks, min_languages: int) -> Masks:
    """Return what is active in a language and in fewer than `min_languages` others."""
    languages_LN = np.sum(list(active.values()), axis=0)
    return {language: mask & (languages_LN - mask < min_languages) for language, mask in active.items()}


def _plnd(of_site: Mapping[str, Evidence], config: SelectionConfig) -> Masks:
    """Active in a share tau of windows (Imp >= eps, or among the strongest), or by budget; specific by rank or by
    subtraction (Zhao et al. 2024, arXiv 2402.18815, section 2)."""
    scores = normalised_scores(of_site)
    active = {
        language: np.ones_like(seen.mean_LN, dtype=bool) if seen.share_LN is None else seen.share_LN >= config.tau
        for language, seen in of_site.items()
    }
    budget = config.top_k or config.top_frac
    if config.specificity == "rank":
        excess = specificity(scores)
        if not budget:
            return {language: mask & (excess[language] > 0) for language, mask in active.items()}
        return {language: _top(excess[language], mask, config) for language, mask in active.items()}
    if budget:
        active = {language: _top(scores[language], mask, config) for language, mask in active.items()}
    return _subtract(active, config.minus_min_languages)


def _plnd_released(of_site: Mapping[str, Evidence], config: SelectionConfig) -> Masks:
    """What the released code computes (DAMO-NLP-SG/multilingual_analysis@be2b161), to compare with the paper's equation.

    In each document its score takes the strongest 12,000 FFN and 2,000 attention indices of each layer of Mistral-7B (here
    the same shares of the width); active is what is among them in every document; specific is what is not active in
    others. Its score and its map of grouped heads differ from the paper's equation, see `sums.Observation.released_BLR` and
    `_released_share`. The one difference from it: a document that runs out of memory is an error here, there it is
    dropped.
    """
    every_window = {language: seen.share_LN >= 1 for language, seen in of_site.items() if seen.share_LN is not None}
    return _subtract(every_window, config.minus_min_languages)


def _lape(of_site: Mapping[str, Evidence], config: SelectionConfig) -> Masks:
    """Lowest entropy of activation probability over languages (Tang et al. 2024, arXiv 2402.16438, eq. 3-5)."""
    probability_ZLN = np.stack([seen.probability_LN for seen in of_site.values()])
    strong_ZLN = probability_ZLN > np.quantile(probability_ZLN, config.lape_quantile)
    share_ZLN = probability_ZLN / np.maximum(probability_ZLN.sum(0), np.finfo(np.float64).tiny)
    entropy_LN = -(share_ZLN * np.log(np.where(share_ZLN > 0, share_ZLN, 1))).sum(0)
    lowest_LN = _top(-entropy_LN, np.asarray(strong_ZLN.any(0)), config)
    return {language: lowest_LN & strong_LN for language, strong_LN in zip(of_site, strong_ZLN, strict=True)}


def _shared(of_site: Mapping[str, Evidence], config: SelectionConfig) -> Masks:
    """The neurons that are strongest where they are weakest: a control that belongs to every language."""
    scores = normalised_scores(of_site)
    weakest_LN = np.min(list(scores.values()), axis=0)
    mask = _top(weakest_LN, np.ones(weakest_LN.shape, bool), config)
    return dict.fromkeys(scores, mask)
