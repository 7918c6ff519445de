"""Proof that what was not to change did not: digests of tensors, whole and outside the selected slices."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sea_ray.neurons.sites import TensorSlice


def digest_tensor(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's type, shape and bytes.

    Args:
        tensor: dense, or one that has a dense form of the same bits, such as a weight packed for a processor.
    """
    flat = tensor.detach().to_dense().contiguous().cpu()
    digest = hashlib.sha256(f"{flat.dtype}{tuple(flat.shape)}".encode())
    digest.update(flat.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tensor_digests(model: nn.Module) -> dict[str, str]:
    """Return the digest of each parameter, tied ones once, by name.

    Args:
        model: read only.
    """
    return {name: digest_tensor(parameter) for name, parameter in model.named_parameters()}


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Digests of a model at one moment, with some slices apart."""

    outside: Mapping[str, str]
    """Tensor name -> digest of what is outside the slices (of the slices' places, zeros)."""
    inside: Mapping[str, str]
    """Tensor name -> digest of the slice, for the tensors that have one."""
    values_outside: int
    """Parameters outside the slices."""
    values_inside: int
    """Parameters inside."""


@dataclass(frozen=True, kw_only=True)
class UntouchedProof:
    """What two snapshots say about everything outside the slices."""

    tensors: int
    """Tensors compared."""
    values_outside: int
    """Parameters that had to stay."""
    values_inside: int
    """Parameters that were free to move."""
    changed_outside: tuple[str, ...]
    """Tensors in which a byte outside the slices changed."""
    unmoved_inside: tuple[str, ...]
    """Tensors whose slice did not move at all: it was free, but silently frozen."""

    @property
    def holds(self) -> bool:
        """Whether nothing outside the slices changed."""
        return not self.changed_outside

    def __str__(self) -> str:
        if not self.holds:
            names = ", ".join(self.changed_outside[:3])
            return f"NOT untouched: {len(self.changed_outside)} of {self.tensors} tensors changed outside: {names}"
        moved = f"{self.values_inside:,} selected values"
        if self.unmoved_inside:
            moved += f" (of which those in {', '.join(self.unmoved_inside[:3])} did not move)"
        return f"untouched: {self.values_outside:,} values in {self.tensors} tensors are byte-equal beside {moved}"


def snapshot(model: nn.Module, slices: Mapping[str, TensorSlice]) -> Snapshot:
    """Return digests of a model's parameters, the slices apart.

    Args:
        model: read only.
        slices: tensor name -> its free slice, from `NeuronSet.slices`.
    """
    outside, inside, values_inside, values = {}, {}, 0, 0
    for name, parameter in model.named_parameters():
        values += parameter.numel()
        if name not in slices:
            outside[name] = digest_tensor(parameter)
            continue
        place = slices[name]
        index = torch.from_numpy(place.index.copy()).to(parameter.device)
        own = parameter.detach().index_select(place.dim, index)
        values_inside += own.numel()
        inside[name] = digest_tensor(own)
        outside[name] = digest_tensor(parameter.detach().index_fill(place.dim, index, 0))
    return Snapshot(outside=outside, inside=inside, values_outside=values - values_inside, values_inside=values_inside)


def prove_untouched(before: Snapshot, after: Snapshot) -> UntouchedProof:
    """Compare two snapshots of one model, taken with the same slices.

    Args:
        before, after: from `snapshot`.
    """
    names = {**before.outside, **after.outside}
    return UntouchedProof(
        tensors=len(names),
        values_outside=before.values_outside,
        values_inside=before.values_inside,
        changed_outside=tuple(name for name in names if before.outside.get(name) != after.outside.get(name)),
        unmoved_inside=tuple(name for name in before.inside if before.inside[name] == after.inside.get(name)),
    )
