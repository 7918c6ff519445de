"""Controls: sets of equal size that should not help a language as much as its own neurons do.

Shapes: L layers, N neurons of a kind of site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sea_ray.errors import ConfigError
from sea_ray.neurons.sets import NeuronKey, NeuronSet, overlap_matrix
from sea_ray.neurons.sites import Architecture, Indices


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


def least_related(sets: Mapping[str, NeuronSet]) -> dict[str, str]:
    """Return, per language, the other one whose set overlaps least with its own; ties by order.

    Args:
        sets: language -> set, of at least two languages.
    """
    languages = tuple(sets)
    found = {}
    for language, shares in zip(languages, overlap_matrix(sets).shares, strict=True):
        found[language] = min((share, place) for place, share in enumerate(shares) if languages[place] != language)[1]
    return {language: languages[place] for language, place in found.items()}


def wrong_language_neurons(sets: Mapping[str, NeuronSet]) -> dict[str, NeuronSet]:
    """Return, per language, the set of the language that is least related; of equal size where all have one budget.

    Args:
        sets: language -> its own set.

    Raises:
        ConfigError: there is no other language.
    """
    if len(sets) < 2:
        raise ConfigError("selection.method", f"wrong_language needs the set of another language than {', '.join(sets)}; "
                          "measure at least 2 languages")
    return {language: replace(sets[other], language=language) for language, other in least_related(sets).items()}
