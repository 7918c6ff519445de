"""Language packs: what training changed in a language's neurons, as deltas against a base that is named by its
digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from sea_ray.artifacts import read_json, write_json
from sea_ray.errors import DataError
from sea_ray.neurons.sets import NeuronKey, NeuronSet
from sea_ray.neurons.sites import Indices, TensorSlice
from sea_ray.neurons.untouched import tensor_digests


class SliceDelta(NamedTuple):
    """The change of one slice of one tensor."""

    place: TensorSlice
    """Which rows or columns."""
    values: NDArray[np.float32]
    """New minus base, laid out as in the tensor: [n, width] for rows, [height, n] for columns, [n] for a bias."""


class AppliedPack:
    """A pack in place; it holds the values that the pack changed, and puts them back bit for bit."""

    def __init__(
        self, kept: Mapping[str, tuple[nn.Parameter, int, Tensor, Tensor]], differing_tensors: int
    ) -> None:
        """Args: kept: tensor name -> parameter, dim, index and former values of the changed slice."""
        self._kept = dict(kept)
        self.differing_tensors = differing_tensors
        """Tensors in which the model was not the pack's base."""

    @property
    def approximate(self) -> bool:
        """Whether the deltas lie on something else than what they were trained on, so that their effect is to be
        measured again."""
        return self.differing_tensors > 0

    def remove(self) -> None:
        """Restore what was there, the last of several packs first; a second call does nothing."""
        with torch.no_grad():
            for parameter, dim, index, values in self._kept.values():
                parameter.index_copy_(dim, index, values)
        self._kept.clear()


@dataclass(frozen=True, kw_only=True, eq=False)
class LanguagePack:
    """Deltas of selected neurons, bound to the digests of their base; an artifact of one safetensors, one JSON file."""

    language: str
    """Language code; of a merged pack, the codes joined by "+"."""
    deltas: Mapping[str, SliceDelta]
    """Tensor name -> change of its slice."""
    base_digests: Mapping[str, str]
    """Digest of every parameter tensor of the base, by name."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Record of what made the deltas: plain containers."""

    @property
    def base_digest(self) -> str:
        """One digest over all tensors of the base: its identity, whatever folder it lies in."""
        return combined_digest(self.base_digests)

    @property
    def neurons(self) -> NeuronSet:
        """The neurons that the deltas belong to."""
        members: dict[NeuronKey, Indices] = {}
        for place, _ in self.deltas.values():
            key = (place.site, place.layer)
            members[key] = np.union1d(members.get(key, np.empty(0, np.int64)), place.owner)
        return NeuronSet(language=self.language, indices=members)

    @property
    def num_values(self) -> int:
        """Parameters that the pack changes."""
        return sum(values.size for _, values in self.deltas.values())

    def check_base(self, model: nn.Module) -> None:
        """Raise DataError, naming the tensor, unless every tensor of `model` is the base's."""
        found = tensor_digests(model)
        differing = self.differing(found)
        if differing:
            name = differing[0]
            raise DataError(
                f"pack {self.language!r} belongs to another base: tensor {name} has digest "
                f"{_short(found.get(name))}, in the pack's base {self.base_digest[:12]} it has "
                f"{_short(self.base_digests.get(name))}; apply it to the base that it was trained on, graft it on a "
                "descendant of that base, or train it anew"
            )

    def differing(self, found: Mapping[str, str]) -> list[str]:
        """Return the tensors whose digest is not the base's, those that the pack changes first."""
        others = sorted((self.base_digests.keys() | found.keys()) - self.deltas.keys())
        return [name for name in (*self.deltas, *others) if found.get(name) != self.base_digests.get(name)]

    def apply(self, model: nn.Module) -> AppliedPack:
        """Add the deltas to a model, in float32, rounded to its own type.

        Args:
            model: the base; its tensors are checked against the pack's digests.

        Returns:
            The handle whose `remove` restores the base bit for bit.

        Raises:
            DataError: another base (names the tensor).
        """
        self.check_base(model)
        return self._lay(model, differing_tensors=0)

    def graft(self, model: nn.Module) -> AppliedPack:
        """Add the deltas to a descendant of the base, such as the base after fine-tuning.

        What a neuron does there has changed with everything around it, so the effect is approximate and to be measured.

        Args:
            model: of the base's shape, whatever its values.

        Returns:
            The handle, which says how many tensors were not the base's; its `remove` restores the model bit for bit.

        Raises:
            DataError: the model lacks a tensor that the pack changes, or has it in another shape (names the tensor).
        """
        self.check_shapes(model)
        return self._lay(model, differing_tensors=len(self.differing(tensor_digests(model))))

    def check_shapes(self, model: nn.Module) -> None:
        """Raise DataError, naming the tensor, unless `model` has every tensor that the pack changes, in its shape."""
        parameters = dict(model.named_parameters())
        for name, (place, values) in self.deltas.items():
            found = tuple(parameters[name].shape) if name in parameters else ()
            across = [size for dim, size in enumerate(values.shape) if dim != place.dim]
            fits = len(found) == values.ndim and [size for dim, size in enumerate(found) if dim != place.dim] == across
            if not fits or place.index.max() >= found[place.dim]:
                side = "row" if place.dim == 0 else "column"
                width = f" (of {across[0]} values)" if across else ""
                raise DataError(
                    f"pack {self.language!r} does not fit: it changes {side} {place.index.max()}{width} of {name}, the model "
                    f"has {f'shape {found}' if found else 'no such tensor'}; graft it on a descendant of its base "
                    f"{self.base_digest[:12]}"
                )

    def _lay(self, model: nn.Module, *, differing_tensors: int) -> AppliedPack:
        parameters = dict(model.named_parameters())
        kept = {}
        with torch.no_grad():
            for name, (place, values) in self.deltas.items():
                parameter = parameters[name]
                index = torch.tensor(place.index, device=parameter.device)
                base = parameter.index_select(place.dim, index)
                new = base + torch.from_numpy(values).to(parameter.device)  # float32 or the base's wider type
                parameter.index_copy_(place.dim, index, new.to(parameter.dtype))
                kept[name] = (parameter, place.dim, index, base)
        return AppliedPack(kept, differing_tensors)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Apply inside a `with` block; the base is back after it."""
        handle = self.apply(model)
        try:
            yield
        finally:
            handle.remove()

    def save(self, folder: Path) -> None:
        """Write pack.safetensors and pack.json into a folder that exists."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, (place, values) in self.deltas.items():
            arrays |= {
                f"{name}/delta": np.ascontiguousarray(values),
                f"{name}/index": place.index.copy(),
                f"{name}/owner": place.owner.copy(),
            }
        save_file(arrays, folder / "pack.safetensors")
        slices = {
            name: {"site": place.site, "layer": place.layer, "dim": place.dim}
            for name, (place, _) in self.deltas.items()
        }
        write_json(
            folder / "pack.json",
            {
                "language": self.language,
                "base_digest": self.base_digest,
                "neurons": self.neurons.count,
                "values": self.num_values,
                "training": self.training,
                "slices": slices,
                "base_digests": self.base_digests,
            },
        )

    @classmethod
    def load(cls, folder: Path) -> LanguagePack:
        """Read what `save` wrote."""
        record = read_json(folder / "pack.json")
        arrays = load_file(folder / "pack.safetensors")
        deltas = {
            name: SliceDelta(
                TensorSlice(tensor=name, index=arrays[f"{name}/index"], owner=arrays[f"{name}/owner"], **place),
                arrays[f"{name}/delta"],
            )
            for name, place in record["slices"].items()
        }
        return cls(
            language=record["language"], deltas=deltas, base_digests=record["base_digests"], training=record["training"]
        )


def combined_digest(digests: Mapping[str, str]) -> str:
    """Return one SHA-256 over the digests of all tensors, in order of name."""
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none (no such tensor)"


def slice_deltas(
    base: Mapping[str, Tensor], trained: Mapping[str, Tensor], slices: Iterable[TensorSlice]
) -> dict[str, SliceDelta]:
    """Return trained minus base for some slices, in float32.

    Args:
        base, trained: tensor name -> whole tensor.
        slices: where to look.
    """
    deltas = {}
    for place in slices:
        index = torch.tensor(place.index)
        new, old = (tensors[place.tensor].detach().cpu().index_select(place.dim, index) for tensors in (trained, base))
        deltas[place.tensor] = SliceDelta(place, (new.double() - old.double()).float().numpy())
    return deltas
