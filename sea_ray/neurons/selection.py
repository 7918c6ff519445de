"""Selection: from stored importance statistics to one set of neurons per language; no text is read again."""

from __future__ import annotations

import numpy as np

from sea_ray.errors import ConfigError, DataError
from sea_ray.neurons.config import SelectionConfig
from sea_ray.neurons.controls import random_neurons, wrong_language_neurons
from sea_ray.neurons.methods import read_evidence, sets_of
from sea_ray.neurons.sets import NeuronSet
from sea_ray.neurons.sites import Architecture
from sea_ray.neurons.stability import MOST_WINDOWS, reference, stability, windows_for_jaccard
from sea_ray.neurons.statistics import ImportanceStats


def select_neurons(stats: ImportanceStats, architecture: Architecture, config: SelectionConfig) -> dict[str, NeuronSet]:
    """Return each language's neurons.

    Args:
        stats: of all languages; specificity compares them with each other.
        architecture: of the measured model.
        config: method and size.

    Raises:
        ConfigError: a site or share that was not measured, a set that is empty or nearly everything, or no other
            language for wrong_language.
        DataError: statistics of another model, or halves that agree by less than config.min_stability.
    """
    own = reference(config)
    sets = sets_of(read_evidence(stats, architecture, own), own)
    for language, neurons in sets.items():
        _check_size(neurons, language, stats, architecture, own)
    if config.min_stability:
        _check_stability(stats, architecture, config)
    if config.method == "wrong_language":
        return wrong_language_neurons(sets)
    if config.method in ("random", "random_matched"):
        matched = config.method == "random_matched"
        return {
            language: random_neurons(neurons, architecture, seed=config.seed + place, matched=matched)
            for place, (language, neurons) in enumerate(sets.items())
        }
    return sets


def _rule(config: SelectionConfig) -> tuple[str, str, str, str]:
    """Return the key that decides the size, what it says, and how to get more or fewer neurons."""
    if config.method == "plnd_released":
        more = f"raise selection.minus_min_languages ({config.minus_min_languages}) or measure fewer windows"
        return "selection.method", "plnd_released", more, "measure more windows"
    name = "top_k" if config.top_k else "top_frac"
    if config.method == "plnd" and config.threshold:
        name = "threshold"
    elif config.method == "plnd" and config.hit_frac:
        name = "hit_frac"
    key, up, down = f"selection.{name}", f"raise selection.{name}", f"lower selection.{name}"
    more, fewer = (down, up) if name == "threshold" else (up, down)
    if name == "hit_frac":
        more, fewer = f"{more} or lower selection.tau ({config.tau:g})", f"{fewer} or raise selection.tau ({config.tau:g})"
    if config.method == "lape":
        more += f" or lower selection.lape_quantile ({config.lape_quantile:g})"
    if config.method == "plnd" and config.specificity == "minus":
        more += f" or raise selection.minus_min_languages ({config.minus_min_languages})"
    return key, f"{name} {getattr(config, name):g}", more, fewer


def _check_size(
    neurons: NeuronSet, language: str, stats: ImportanceStats, architecture: Architecture, config: SelectionConfig
) -> None:
    key, rule, more, fewer = _rule(config)
    totals = {site: architecture.count(site) * architecture.num_layers for site in config.sites}
    if not neurons.count:
        highest = ", ".join(f"{site} {stats[language, site].mean.max():.3g}" for site in config.sites)
        windows = stats[language, config.sites[0]].num_windows
        raise ConfigError(
            key,
            f"{rule} selects 0 of {sum(totals.values()):,} neurons for {language!r} (highest mean Imp: {highest}): "
            f"{more}, or check the {language!r} corpus ({windows} windows)",
        )
    for site, total in totals.items():
        chosen = sum(neurons.counts(site, architecture.num_layers))
        if chosen > config.max_share * total:
            raise ConfigError(
                key,
                f"{rule} selects {chosen:,} of {total:,} {site} neurons for {language!r}, nearly everything (the limit "
                f"is {config.max_share:.0%}): {fewer} or raise selection.max_share",
            )


def _check_stability(stats: ImportanceStats, architecture: Architecture, config: SelectionConfig) -> None:
    """Raise DataError, naming each language whose halves agree too little and how much text would do."""
    asked = config.min_stability
    below = {code: found for code, found in stability(stats, architecture, config).items() if found < asked}
    if below:
        needed = windows_for_jaccard(stats, architecture, config, asked, config.seed)
        found = "; ".join(_unstable(stats, config, code, jaccard, needed[code]) for code, jaccard in below.items())
        most = max((needed[code] or np.inf) * 2 for code in below)
        remedy = (
            f"raise detection.windows_per_language to {most:,}, adding text where a language has less"
            if np.isfinite(most)
            else "select more neurons or by another rule"
        )
        raise DataError(
            f"selection.min_stability asks that the even and the odd windows select sets with a Jaccard index of {asked:g} "
            f"or more; {found}: {remedy}, or lower selection.min_stability"
        )


def _unstable(
    stats: ImportanceStats, config: SelectionConfig, language: str, jaccard: float, needed: int | None
) -> str:
    """Return what a language's halves show and what they would need."""
    part = stats[language, config.sites[0]]
    text = f"{language!r} reaches {jaccard:.2f} with {part.num_windows:,} windows ({int(part.tokens.sum()):,} tokens)"
    if needed is None:
        return f"{text} and is not predicted to with up to {2 * MOST_WINDOWS:,}"
    return f"{text} and needs about {2 * needed:,} ({2 * needed * stats.window_tokens:,} tokens)"
