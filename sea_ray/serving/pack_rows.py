"""Language packs beside a base in memory: each row of a pass is read with the pack that it asks for, the weights stay.

A linear layer gives W x. A pack that changes the rows r of W by D gives (W x)[r] + D x there, one that changes the columns c
gives W x + D x[c]: what the base with the pack laid on it gives, up to rounding.

Shape letters: R rows under one pack, S tokens, N positions of the slice, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sea_ray.neurons.pack import LanguagePack


@dataclass(frozen=True, kw_only=True)
class _Change:
    """What a pack adds to one linear layer, in the layer's type."""

    row_N: torch.Tensor | None = None
    row_weight_NI: torch.Tensor | None = None
    bias_N: torch.Tensor | None = None
    column_N: torch.Tensor | None = None
    column_weight_ON: torch.Tensor | None = None


class PackRows:
    """The packs that are loaded for a model, and which rows of the next pass are read with which."""

    def __init__(self, model: nn.Module) -> None:
        """Args: model: of transformers; hooks are laid on the projections that a pack changes."""
        self._modules = dict(model.named_modules())
        self._changes: dict[str, dict[str, _Change]] = {}
        self._hooked: set[str] = set()
        self._rows: dict[str, torch.Tensor | None] = {}  # pack -> its rows of the pass; None: all of them
        self._device = next(model.parameters()).device

    def load(self, name: str, pack: LanguagePack) -> None:
        """Hold a pack's values beside the model.

        Args:
            name: by which rows ask for it.
            pack: of a base of the model's shape.
        """
        pack.check_shapes(self._modules[""])
        found: dict[str, dict[str, torch.Tensor]] = {}
        for tensor, (place, values) in pack.deltas.items():
            module, _, part = tensor.rpartition(".")
            weight = self._modules[module].weight
            own = found.setdefault(module, {})
            index, change = torch.from_numpy(place.index).to(self._device), torch.from_numpy(values).to(weight)
            if part == "bias":
                own |= {"row_N": index, "bias_N": change}
            elif place.dim == 0:
                own |= {"row_N": index, "row_weight_NI": change}
            else:
                own |= {"column_N": index, "column_weight_ON": change}
        for module in found.keys() - self._hooked:
            self._modules[module].register_forward_hook(self._hook(module))
            self._hooked.add(module)
        self._changes[name] = {module: _Change(**own) for module, own in found.items()}

    def __contains__(self, name: str) -> bool:
        """Return whether a pack is loaded."""
        return name in self._changes

    def num_bytes(self, name: str) -> int:
        """Return what a pack takes beside the model."""
        return sum(part.nbytes for change in self._changes[name].values() for part in vars(change).values() if part is not None)

    def lay(self, names: Sequence[str | None]) -> None:
        """Say with which pack each row of the passes to come is read.

        Args:
            names: one for each row; None reads with the model itself.
        """
        self._rows = {}
        for name in dict.fromkeys(each for each in names if each is not None):
            rows = [row for row, each in enumerate(names) if each == name]
            self._rows[name] = None if len(rows) == len(names) else torch.tensor(rows, device=self._device)

    def _hook(self, module: str) -> Any:
        def add(_module: nn.Module, inputs: tuple[torch.Tensor], output_BSO: torch.Tensor) -> None:
            for name, rows_R in self._rows.items():
                change = self._changes[name].get(module)
                if change is None:
                    continue
                if rows_R is None:
                    _add(change, inputs[0], output_BSO)
                else:
                    own_RSO = output_BSO[rows_R]
                    _add(change, inputs[0][rows_R], own_RSO)
                    output_BSO[rows_R] = own_RSO

        return add


def _add(change: _Change, input_RSI: torch.Tensor, output_RSO: torch.Tensor) -> None:
    """Add what a pack changes to a layer's output, in place."""
    if change.row_N is not None:
        if change.row_weight_NI is not None:
            output_RSO.index_add_(-1, change.row_N, input_RSI @ change.row_weight_NI.T)
        if change.bias_N is not None:
            output_RSO[..., change.row_N] += change.bias_N
    if change.column_N is not None and change.column_weight_ON is not None:
        output_RSO += input_RSI[..., change.column_N] @ change.column_weight_ON.T
