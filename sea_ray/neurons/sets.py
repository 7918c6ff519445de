"""Sets of neurons: the result of a selection, with its algebra."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sea_ray.artifacts import read_json, write_json
from sea_ray.errors import DataError
from sea_ray.neurons.config import SiteKind
from sea_ray.neurons.sites import Architecture, Indices, TensorSlice

NeuronKey = tuple[SiteKind, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class NeuronSet:
    """Neurons by kind of site and layer; immutable, equal when language and members are."""

    language: str
    """Language code, or an expression of codes for the result of set algebra."""
    indices: Mapping[NeuronKey, Indices]
    """(kind of site, layer) -> sorted distinct indices; a missing or empty entry holds none."""

    def __post_init__(self) -> None:
        """Bring entries into canonical form: sorted, distinct, none empty, keys in order."""
        canonical = {}
        for key in sorted(self.indices):
            members = np.unique(np.asarray(self.indices[key], dtype=np.int64))
            if len(members) and members[0] < 0:
                raise DataError(f"negative neuron index {members[0]} at {key[0]} of layer {key[1]}; indices start at 0")
            if len(members):
                members.setflags(write=False)
                canonical[key] = members
        object.__setattr__(self, "indices", canonical)

    @property
    def count(self) -> int:
        """Number of neurons."""
        return sum(map(len, self.indices.values()))

    @property
    def sites(self) -> tuple[SiteKind, ...]:
        """Kinds of sites that hold a neuron."""
        return tuple(dict.fromkeys(site for site, _ in self.indices))

    def counts(self, site: SiteKind, num_layers: int) -> list[int]:
        """Return the number of neurons of a site in each layer."""
        return [len(self.indices.get((site, layer), ())) for layer in range(num_layers)]

    def values(self, architecture: Architecture) -> int:
        """Return the number of parameters that the neurons own."""
        return sum(len(members) * architecture.values_per_neuron(site) for (site, _), members in self.indices.items())

    def share(self, architecture: Architecture) -> float:
        """Return the neurons' share of all parameters of the model."""
        return self.values(architecture) / architecture.total_values

    def slices(self, architecture: Architecture) -> dict[str, TensorSlice]:
        """Return what the neurons own, by tensor name.

        Raises:
            DataError: an index or layer that the architecture does not have.
        """
        found = {}
        for (site, layer), members in self.indices.items():
            if layer >= architecture.num_layers or members[-1] >= architecture.count(site):
                raise DataError(
                    f"set of {self.language!r} holds {site} neuron {members[-1]} of layer {layer}, the model has "
                    f"{architecture.num_layers} layers of {architecture.count(site)}: it was selected on another model"
                )
            found.update({part.tensor: part for part in architecture.slices(site, layer, members)})
        return found

    def _combine(self, other: NeuronSet, symbol: str, rule: Callable[[Indices, Indices], Indices]) -> NeuronSet:
        none = np.empty(0, np.int64)
        keys = {**self.indices, **other.indices}
        name = self.language if self.language == other.language else f"({self.language}{symbol}{other.language})"
        return NeuronSet(
            language=name,
            indices={key: rule(self.indices.get(key, none), other.indices.get(key, none)) for key in keys},
        )

    def __or__(self, other: NeuronSet) -> NeuronSet:
        return self._combine(other, "|", np.union1d)

    def __and__(self, other: NeuronSet) -> NeuronSet:
        return self._combine(other, "&", np.intersect1d)

    def __sub__(self, other: NeuronSet) -> NeuronSet:
        return self._combine(other, "-", np.setdiff1d)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NeuronSet):
            return NotImplemented
        return self.language == other.language and self.same_members(other)

    def __hash__(self) -> int:
        return hash((self.language, self.count, tuple(self.indices)))

    def same_members(self, other: NeuronSet) -> bool:
        """Return whether both hold the same neurons, whatever their languages."""
        return self.indices.keys() == other.indices.keys() and all(
            np.array_equal(members, other.indices[key]) for key, members in self.indices.items()
        )

    def to_json(self) -> dict[str, object]:
        """Return plain containers."""
        return {
            "language": self.language,
            "neurons": [
                {"site": site, "layer": layer, "indices": members.tolist()}
                for (site, layer), members in self.indices.items()
            ],
        }

    @classmethod
    def from_json(cls, record: Mapping[str, object]) -> NeuronSet:
        """Return the set of a `to_json` record."""
        entries: list[dict] = record["neurons"]  # type: ignore[assignment]
        return cls(
            language=str(record["language"]),
            indices={(entry["site"], entry["layer"]): np.array(entry["indices"], np.int64) for entry in entries},
        )

    def save(self, folder: Path) -> None:
        """Write neurons.json into a folder that exists."""
        write_json(folder / "neurons.json", self.to_json())

    @classmethod
    def load(cls, folder: Path) -> NeuronSet:
        """Read what `save` wrote."""
        return cls.from_json(read_json(folder / "neurons.json"))


@dataclass(frozen=True, kw_only=True)
class OverlapMatrix:
    """How much the sets of languages share."""

    languages: tuple[str, ...]
    """Order of rows and columns."""
    shares: tuple[tuple[float, ...], ...]
    """|A and B| / min(|A|, |B|): 1 on the diagonal, 0 where one is empty."""


def overlap_matrix(sets: Mapping[str, NeuronSet]) -> OverlapMatrix:
    """Return how much each pair of sets shares.

    Args:
        sets: language -> set.
    """
    shares = tuple(
        tuple((first & second).count / max(1, min(first.count, second.count)) for second in sets.values())
        for first in sets.values()
    )
    return OverlapMatrix(languages=tuple(sets), shares=shares)


def jaccard(first: NeuronSet, second: NeuronSet) -> float:
    """Return |A and B| / |A or B|, 1 for two empty sets."""
    union = (first | second).count
    return (first & second).count / union if union else 1.0
