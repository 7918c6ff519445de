"""Merging packs of one base, and how much they interfere.

Shapes: Z packs, N neurons of one site in one layer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sea_ray.errors import ConfigError, DataError
from sea_ray.neurons.config import MergeRule
from sea_ray.neurons.pack import LanguagePack, SliceDelta
from sea_ray.neurons.sets import NeuronKey
from sea_ray.neurons.sites import TensorSlice


@dataclass(frozen=True, kw_only=True)
class InterferenceReport:
    """What packs have in common before they are merged."""

    rule: MergeRule
    """How overlap was resolved."""
    languages: tuple[str, ...]
    """Order of rows and columns."""
    neurons: tuple[int, ...]
    """Neurons of each pack."""
    merged_neurons: int
    """Neurons of the merged pack."""
    contested_neurons: int
    """Neurons that more than one pack changes."""
    shared: tuple[tuple[int, ...], ...]
    """Neurons that two packs share; on the diagonal, a pack's own."""
    cosine: tuple[tuple[float | None, ...], ...]
    """Cosine of two packs' deltas on the neurons they share: 1 they agree, 0 unrelated, -1 they undo each other; None:
    no neuron is shared, or one did not move."""


def merge_packs(packs: Sequence[LanguagePack], rule: MergeRule = "add") -> tuple[LanguagePack, InterferenceReport]:
    """Return one pack that does what several do.

    Args:
        packs: of one base, each of its own language.
        rule: of neurons that several packs change. add: sum of deltas; mean: their mean; strongest: the delta of
            largest norm, whole neurons; refuse: raise.

    Returns:
        The merged pack, applied like any other, and what the packs had in common.

    Raises:
        DataError: packs of different bases (names languages and tensor).
        ConfigError: overlap under rule "refuse".
    """
    if not packs:
        raise DataError("no packs to merge; train at least one language")
    _check_one_base(packs)
    norms = _norms(packs)
    members = {key: norm_ZN >= 0 for key, norm_ZN in norms.items()}
    contested = sum(int((member_ZN.sum(0) > 1).sum()) for member_ZN in members.values())
    if rule == "refuse" and contested:
        raise ConfigError(
            "merge.rule",
            f"refuse: {contested} neurons are changed by more than one of {len(packs)} packs "
            f"({', '.join(pack.language for pack in packs)}); choose add, mean or strongest, or select with specificity "
            "minus and minus_min_languages 1",
        )
    merged = LanguagePack(
        language="+".join(pack.language for pack in packs),
        deltas=_combine(packs, _weights(norms, rule)),
        base_digests=packs[0].base_digests,
        training={"merge_rule": rule, "packs": {pack.language: dict(pack.training) for pack in packs}},
    )
    report = InterferenceReport(
        rule=rule,
        languages=tuple(pack.language for pack in packs),
        neurons=tuple(pack.neurons.count for pack in packs),
        merged_neurons=merged.neurons.count,
        contested_neurons=contested,
        shared=_shared(members, len(packs)),
        cosine=_cosines(packs),
    )
    return merged, report


def _check_one_base(packs: Sequence[LanguagePack]) -> None:
    first = packs[0]
    for pack in packs[1:]:
        names = first.base_digests.keys() | pack.base_digests.keys()
        other = sorted(name for name in names if first.base_digests.get(name) != pack.base_digests.get(name))
        if other:
            raise DataError(
                f"packs {first.language!r} and {pack.language!r} have different bases: {len(other)} tensors "
                f"differ, first {other[0]}; train both from one base"
            )


def _norms(packs: Sequence[LanguagePack]) -> dict[NeuronKey, NDArray[np.float64]]:
    """Return the squared norm of each pack's delta of each neuron, [Z, N]; -1 where a pack does not change it."""
    size: dict[NeuronKey, int] = defaultdict(int)
    for pack in packs:
        for place, _ in pack.deltas.values():
            size[place.site, place.layer] = max(size[place.site, place.layer], int(place.owner.max()) + 1)
    norms = {key: np.full((len(packs), num_neurons), -1.0) for key, num_neurons in size.items()}
    for norm_N, place, values in (
        (norms[place.site, place.layer][number], place, values)
        for number, pack in enumerate(packs)
        for place, values in pack.deltas.values()
    ):
        squares = np.square(values.astype(np.float64))
        norm_N[place.owner] = np.maximum(norm_N[place.owner], 0)
        np.add.at(norm_N, place.owner, squares if squares.ndim == 1 else squares.sum(1 - place.dim))
    return norms


def _weights(norms: Mapping[NeuronKey, NDArray[np.float64]], rule: MergeRule) -> dict[NeuronKey, NDArray[np.float64]]:
    """Return the factor of each pack's delta of each neuron, [Z, N]."""
    weights = {}
    for key, norm_ZN in norms.items():
        member_ZN = norm_ZN >= 0
        if rule == "mean":
            weights[key] = member_ZN / np.maximum(member_ZN.sum(0), 1)
        elif rule == "strongest":
            weights[key] = (np.arange(len(norm_ZN))[:, None] == norm_ZN.argmax(0)) * 1.0
        else:
            weights[key] = member_ZN * 1.0
    return weights


def _combine(packs: Sequence[LanguagePack], weights: Mapping[NeuronKey, NDArray[np.float64]]) -> dict[str, SliceDelta]:
    """Return the weighted sum of the packs' deltas, summed in float64 so that their order does not matter."""
    by_tensor: dict[str, list[tuple[int, SliceDelta]]] = defaultdict(list)
    for number, pack in enumerate(packs):
        for name, delta in pack.deltas.items():
            by_tensor[name].append((number, delta))
    merged = {}
    for name, parts in by_tensor.items():
        place = parts[0][1].place
        index = np.unique(np.concatenate([delta.place.index for _, delta in parts]))
        owner = np.empty_like(index)
        rows = np.zeros((len(index), *np.moveaxis(parts[0][1].values, place.dim, 0).shape[1:]))
        for number, (own, values) in parts:
            positions = np.searchsorted(index, own.index)
            owner[positions] = own.owner
            weight = weights[own.site, own.layer][number][own.owner]
            rows[positions] += np.moveaxis(np.moveaxis(values, own.dim, -1) * weight, -1, 0)
        place = TensorSlice(site=place.site, layer=place.layer, tensor=name, dim=place.dim, index=index, owner=owner)
        merged[name] = SliceDelta(place, np.moveaxis(rows, 0, place.dim).astype(np.float32))
    return merged


def _shared(members: Mapping[NeuronKey, NDArray[np.bool_]], num_packs: int) -> tuple[tuple[int, ...], ...]:
    counts_ZZ = np.zeros((num_packs, num_packs), np.int64)
    for member_ZN in members.values():
        counts_ZZ += member_ZN.astype(np.int64) @ member_ZN.T.astype(np.int64)
    return tuple(tuple(map(int, row)) for row in counts_ZZ)


def _cosines(packs: Sequence[LanguagePack]) -> tuple[tuple[float | None, ...], ...]:
    cosine: list[list[float | None]] = [[1.0 if a == b else None for b in range(len(packs))] for a in range(len(packs))]
    for a, b in combinations(range(len(packs)), 2):
        products = np.zeros(3)
        for name in packs[a].deltas.keys() & packs[b].deltas.keys():
            first, second = packs[a].deltas[name], packs[b].deltas[name]
            _, mine, others = np.intersect1d(first.place.index, second.place.index, return_indices=True)
            x = first.values.take(mine, first.place.dim).astype(np.float64)
            y = second.values.take(others, second.place.dim).astype(np.float64)
            products += (x * y).sum(), (x * x).sum(), (y * y).sum()
        if products[1] and products[2]:
            cosine[a][b] = cosine[b][a] = float(products[0] / np.sqrt(products[1] * products[2]))
    return tuple(map(tuple, cosine))
