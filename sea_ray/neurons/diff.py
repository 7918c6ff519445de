"""From two models to a pack: which neurons differ, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sea_ray.errors import DataError
from sea_ray.neurons.pack import LanguagePack, slice_deltas
from sea_ray.neurons.sets import NeuronKey, NeuronSet
from sea_ray.neurons.sites import Architecture, Indices, describe
from sea_ray.neurons.untouched import tensor_digests


def diff_models(
    base: nn.Module, trained: nn.Module, language: str, training: Mapping[str, Any] | None = None
) -> LanguagePack:
    """Return the pack that leads from one model to another of the same shape.

    Args:
        base: the pack's base.
        trained: the same model after its neurons were trained, and nothing else.
        language: of the pack.
        training: record of what made it.

    Raises:
        DataError: the shapes differ, nothing differs, or something differs that no neuron owns (names the tensor).
    """
    architecture = describe(base)
    old, new = dict(base.named_parameters()), dict(trained.named_parameters())
    if {name: tensor.shape for name, tensor in old.items()} != {name: tensor.shape for name, tensor in new.items()}:
        raise DataError("the two models differ in the names or shapes of their tensors; a pack needs one architecture")
    slices = changed_neurons(old, new, architecture, language).slices(architecture)
    for name in old.keys() - slices.keys():
        if not torch.equal(old[name], new[name]):
            raise DataError(
                f"tensor {name} differs and belongs to no neuron: the model was trained elsewhere too, and "
                "a pack cannot hold it; compare with the model that neuron training returned"
            )
    if not slices:
        raise DataError("the two models are equal: there is nothing to pack")
    return LanguagePack(
        language=language,
        deltas=slice_deltas(old, new, slices.values()),
        base_digests=tensor_digests(base),
        training=training or {},
    )


def changed_neurons(
    old: Mapping[str, Tensor], new: Mapping[str, Tensor], architecture: Architecture, language: str
) -> NeuronSet:
    """Return the neurons of which any value differs.

    Args:
        old, new: tensor name -> tensor.
        architecture: of both.
        language: of the set.
    """
    indices: dict[NeuronKey, Indices] = {}
    for site, layer in architecture.keys():  # noqa: SIM118 - a method of its own, not a mapping's
        owners = []
        for place in architecture.slices(site, layer, np.arange(architecture.count(site))):
            differs = (old[place.tensor] != new[place.tensor]).cpu()
            changed = differs if differs.dim() == 1 else differs.any(1 - place.dim)
            owners.append(place.owner[changed.numpy()])
        indices[site, layer] = np.concatenate(owners)
    return NeuronSet(language=language, indices=indices)
