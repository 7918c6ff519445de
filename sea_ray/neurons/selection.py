"""Selection: from stored importance statistics to one set of neurons per language; no text is read again.

Shapes: L layers, N neurons of a kind of site, Z languages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sea_ray.errors import ConfigError
from sea_ray.neurons.config import SelectionConfig, SiteKind
from sea_ray.neurons.sets import NeuronKey, NeuronSet, jaccard
from sea_ray.neurons.sites import Architecture, Indices
from sea_ray.neurons.statistics import Floats, ImportanceStats

Masks = dict[str, NDArray[np.bool_]]


def select_neurons(stats: ImportanceStats, architecture: Architecture, config: SelectionConfig) -> dict[str, NeuronSet]:
    """Return each language's neurons.

    Args:
        stats: of all languages; specificity compares them with each other.
        architecture: of the measured model.
        config: method and size.

    Raises:
        ConfigError: a site that was not measured, or a set that is empty or nearly everything.
    """
    sets = _select(stats, architecture, config)
    for language, neurons in sets.items():
        _check_size(neurons, language, stats, architecture, config)
    return sets


def _select(stats: ImportanceStats, architecture: Architecture, config: SelectionConfig) -> dict[str, NeuronSet]:
    for site in config.sites:
        if site not in stats.sites:
            measured = ", ".join(stats.sites)
            raise ConfigError("selection.sites", f"{site!r} was not measured; detection.sites has {measured}")
    if config.method in ("random", "random_matched"):
        references = _select(stats, architecture, replace(config, method="plnd"))
        matched = config.method == "random_matched"
        return {
            language: random_neurons(reference, architecture, seed=config.seed + place, matched=matched)
            for place, (language, reference) in enumerate(references.items())
        }
    select = {"plnd": _plnd, "lape": _lape, "shared": _shared}[config.method]
    indices: dict[str, dict[NeuronKey, Indices]] = {language: {} for language in stats.languages}
    for site in config.sites:
        for language, mask_LN in select(stats, site, config).items():
            indices[language] |= {(site, layer): np.flatnonzero(mask_N) for layer, mask_N in enumerate(mask_LN)}
    return {language: NeuronSet(language=language, indices=found) for language, found in indices.items()}


def normalised_scores(stats: ImportanceStats, site: SiteKind) -> dict[str, Floats]:
    """Return mean Imp per language, [L, N], in units of the language's mean over the site, so that languages
    compare."""
    means = {language: stats[language, site].mean for language in stats.languages}
    return {language: mean_LN / max(mean_LN.mean(), np.finfo(np.float64).tiny) for language, mean_LN in means.items()}


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


def _top(score_LN: Floats, among_LN: NDArray[np.bool_], top_frac: float) -> NDArray[np.bool_]:
    """Return the mask of the highest scores among candidates, at most the budget of `top_frac` of all; ties by
    position."""
    budget = round(top_frac * score_LN.size)
    ranked = np.argsort(-np.where(among_LN, score_LN, -np.inf), axis=None, kind="stable")[
        : min(budget, int(among_LN.sum()))
    ]
    mask = np.zeros(score_LN.size, bool)
    mask[ranked] = True
    return mask.reshape(score_LN.shape)


def _plnd(stats: ImportanceStats, site: SiteKind, config: SelectionConfig) -> Masks:
    """Active where Imp >= eps in a share tau of windows (or by budget), specific by rank or by subtraction (method
    section 2)."""
    scores = normalised_scores(stats, site)
    everywhere = np.ones_like(next(iter(scores.values())), dtype=bool)
    active = {
        language: stats[language, site].share_at_least(config.threshold) >= config.tau
        if config.threshold
        else everywhere
        for language in scores
    }
    if config.specificity == "rank":
        excess = specificity(scores)
        if not config.top_frac:
            return {language: mask & (excess[language] > 0) for language, mask in active.items()}
        return {language: _top(excess[language], mask, config.top_frac) for language, mask in active.items()}
    if config.top_frac:
        active = {language: _top(scores[language], mask, config.top_frac) for language, mask in active.items()}
    languages_LN = np.sum(list(active.values()), axis=0)
    return {language: mask & (languages_LN - mask < config.minus_min_languages) for language, mask in active.items()}


def _lape(stats: ImportanceStats, site: SiteKind, config: SelectionConfig) -> Masks:
    """Lowest entropy of activation probability over languages (Tang et al. 2024, arXiv 2402.16438, eq. 3-5)."""
    probability_ZLN = np.stack([stats[language, site].probability for language in stats.languages])
    strong_ZLN = probability_ZLN > np.quantile(probability_ZLN, config.lape_quantile)
    share_ZLN = probability_ZLN / np.maximum(probability_ZLN.sum(0), np.finfo(np.float64).tiny)
    entropy_LN = -(share_ZLN * np.log(np.where(share_ZLN > 0, share_ZLN, 1))).sum(0)
    lowest_LN = _top(-entropy_LN, np.asarray(strong_ZLN.any(0)), config.top_frac)
    return {language: lowest_LN & strong_LN for language, strong_LN in zip(stats.languages, strong_ZLN, strict=True)}


def _shared(stats: ImportanceStats, site: SiteKind, config: SelectionConfig) -> Masks:
    """The neurons that are strongest where they are weakest: a control that belongs to every language."""
    scores = normalised_scores(stats, site)
    weakest_LN = np.min(list(scores.values()), axis=0)
    mask = _top(weakest_LN, np.ones(weakest_LN.shape, bool), config.top_frac)
    return dict.fromkeys(scores, mask)


def _check_size(
    neurons: NeuronSet, language: str, stats: ImportanceStats, architecture: Architecture, config: SelectionConfig
) -> None:
    rule = f"threshold {config.threshold:g}" if config.threshold else f"top_frac {config.top_frac:g}"
    key = "selection.threshold" if config.threshold else "selection.top_frac"
    totals = {site: architecture.count(site) * architecture.num_layers for site in config.sites}
    if not neurons.count:
        highest = ", ".join(f"{site} {stats[language, site].mean.max():.3g}" for site in config.sites)
        remedy = f"lower {key}" if config.threshold else f"raise {key}"
        if config.specificity == "minus" and config.method == "plnd":
            remedy += f" or raise selection.minus_min_languages ({config.minus_min_languages})"
        windows = stats[language, config.sites[0]].num_windows
        raise ConfigError(
            key,
            f"{rule} selects 0 of {sum(totals.values()):,} neurons for {language!r} (highest mean Imp: {highest}): "
            f"{remedy}, or check the {language!r} corpus ({windows} windows)",
        )
    for site, total in totals.items():
        chosen = sum(neurons.counts(site, architecture.num_layers))
        if chosen > config.max_share * total:
            remedy = f"{'raise' if config.threshold else 'lower'} {key} or raise selection.max_share"
            raise ConfigError(
                key,
                f"{rule} selects {chosen:,} of {total:,} {site} neurons for {language!r}, nearly everything (the limit "
                f"is {config.max_share:.0%}): {remedy}",
            )


def random_neurons(reference: NeuronSet, architecture: Architecture, *, seed: int, matched: bool = True) -> NeuronSet:
    """Return a random control: as many neurons as a reference set, none of them in it as long as there are others.

    Args:
        reference: the set to match.
        architecture: of the model.
        seed: of the draw.
        matched: equal counts in each layer and site; otherwise in each kind of site over all layers.
    """
    generator = np.random.default_rng(seed)
    indices: dict[NeuronKey, Indices] = {}
    for site in reference.sites:
        taken_LN = np.zeros((architecture.num_layers, architecture.count(site)), bool)
        for layer in range(architecture.num_layers):
            taken_LN[layer, reference.indices.get((site, layer), np.empty(0, np.int64))] = True
        drawn_LN = np.zeros_like(taken_LN)
        pools = zip(taken_LN, drawn_LN, strict=True) if matched else [(taken_LN.reshape(-1), drawn_LN.reshape(-1))]
        for taken, drawn in pools:
            free_first = [generator.permutation(np.flatnonzero(taken == held)) for held in (False, True)]
            drawn[np.concatenate(free_first)[: taken.sum()]] = True
        indices |= {(site, layer): np.flatnonzero(drawn_LN[layer]) for layer in range(architecture.num_layers)}
    return NeuronSet(language=reference.language, indices=indices)


def stability(stats: ImportanceStats, architecture: Architecture, config: SelectionConfig) -> dict[str, float]:
    """Return, per language, the Jaccard index of the sets that the even and the odd windows alone select."""
    even, odd = (_select(stats.half(parity), architecture, config) for parity in (0, 1))
    return {language: jaccard(even[language], odd[language]) for language in even}
