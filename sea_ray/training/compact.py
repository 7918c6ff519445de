"""Training selected neurons only: their rows and columns are small parameters of their own, the dense weights are
frozen.

The parameter is the change against the base (so weight decay pulls towards the base, and a float32 change below a
bfloat16 base's resolution is kept). Inside the context an affected nn.Linear writes base + change into its frozen
weight before it multiplies: forward and dX are those of the substituted weight at the price of a plain linear layer,
and only the selected part of dW is ever formed:

    rows     dTheta = dY[:, idx]^T X
    columns  dTheta = dY^T X[:, idx], of which only X[:, idx] is saved

The changes are ordinary parameters of the model: DDP, DeepSpeed, clipping and any optimiser see them as the only ones
that train. On exit the base's rows are put back byte for byte. torch.compile takes the whole in one graph, but no run is
compiled: on one core, 4 layers of width 256, a step took 206 ms in place of 211 after 65 s of compilation.

Shapes: S all tokens of a batch, I inputs and O outputs of a linear layer, n selected rows or columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sea_ray.errors import ConfigError
from sea_ray.neurons.pack import SliceDelta
from sea_ray.neurons.sets import NeuronSet
from sea_ray.neurons.sites import TensorSlice, describe

PREFIX = "compact_"


class _Substitution:
    """One slice of one frozen tensor, its base values and the parameter that holds their change."""

    def __init__(self, place: TensorSlice, dense: nn.Parameter) -> None:
        self.place, self.dense = place, dense
        self.index = torch.tensor(place.index, device=dense.device)
        self.base = dense.detach().index_select(place.dim, self.index)
        # float32 masters for any base: a step of 1e-5 on a weight of 0.02 is below bfloat16's resolution.
        master = torch.promote_types(dense.dtype, torch.float32)
        self.change = nn.Parameter(torch.zeros_like(self.base, dtype=master, memory_format=torch.contiguous_format))

    def write(self, dense: Tensor) -> None:
        """Put base + change into the dense tensor, rounded to its type exactly as a pack's `apply` rounds."""
        if self.base.device != dense.device:
            self.base, self.index = self.base.to(dense.device), self.index.to(dense.device)
        dense.index_copy_(self.place.dim, self.index, (self.base + self.change.detach()).to(dense.dtype))

    def restore(self) -> None:
        """Put the base back; a weight that an engine keeps in partitions was never written outside its gather."""
        if self.dense.numel():
            self.dense.detach().index_copy_(self.place.dim, self.index, self.base.to(self.dense.dtype))


class _SubstitutedLinear(torch.autograd.Function):
    """Linear layer of which only some rows (with bias elements) or columns have a gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        change: Tensor,
        bias_change: Tensor | None,
        linear: nn.Linear,
        weight: _Substitution,
        bias: _Substitution | None,
    ) -> Tensor:
        weight.write(linear.weight.detach())
        if bias is not None:
            bias.write(linear.bias.detach())
        ctx.linear, ctx.weight = linear, weight
        ctx.save_for_backward(x if weight.place.dim == 0 else x.index_select(-1, weight.index))
        return F.linear(x, linear.weight, linear.bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (saved,), substitution = ctx.saved_tensors, ctx.weight
        needs_x, needs_change, needs_bias = ctx.needs_input_grad[:3]
        grad_x = grad_change = grad_bias = None
        if needs_x:
            weight = ctx.linear.weight.detach()
            substitution.write(weight)  # an engine that partitions weights gathered it anew, without the substitution
            grad_x = (grad_y @ weight.to(grad_y.dtype)).to(saved.dtype)
        grad_SO, saved_SI = grad_y.flatten(0, -2), saved.flatten(0, -2).to(grad_y.dtype)
        if substitution.place.dim == 0:
            grad_Sn = grad_SO.index_select(1, substitution.index)
            grad_change = grad_Sn.T @ saved_SI if needs_change else None
            grad_bias = grad_Sn.sum(0) if needs_bias else None
        elif needs_change:
            grad_change = (saved_SI.T @ grad_SO).T  # 4 times as fast as grad_SO.T @ saved_SI for few columns
        master = substitution.change.dtype
        return (
            grad_x,
            None if grad_change is None else grad_change.to(master),
            None if grad_bias is None else grad_bias.to(master),
            None,
            None,
            None,
        )


def _forward(linear: Any, weight: _Substitution, bias: _Substitution | None, x: Tensor) -> Tensor:
    bias_change = None if bias is None else bias.change
    return _SubstitutedLinear.apply(x, weight.change, bias_change, linear, weight, bias)


@dataclass(frozen=True, kw_only=True)
class CompactNeurons:
    """The parameters that train in place of a set of neurons."""

    neurons: NeuronSet
    """What trains."""
    parameters: Mapping[str, nn.Parameter]
    """Dense tensor name -> change of its slice, float32, laid out as in the tensor."""
    slices: Mapping[str, TensorSlice]
    """Dense tensor name -> its slice."""

    @property
    def num_values(self) -> int:
        """Values that train."""
        return sum(place.numel() for place in self.parameters.values())

    def deltas(self) -> dict[str, SliceDelta]:
        """Return the trained changes as they are now, for a LanguagePack; also after the context has closed."""
        return {
            name: SliceDelta(self.slices[name], parameter.detach().float().cpu().clone().numpy())
            for name, parameter in self.parameters.items()
        }


@contextmanager
def compact_neurons(model: nn.Module, neurons: NeuronSet) -> Iterator[CompactNeurons]:
    """Make a set of neurons the only thing that trains in a model.

    Inside the block every parameter of the model is frozen and the compact ones stand beside the weights they change,
    as `...down_proj.compact_weight`; after any forward pass the model's weights are those of the trained model.
    Nothing below the lowest selected layer is back-propagated, since nothing there requires a gradient.

    Args:
        model: a transformers causal language model; as it was, byte for byte, when the block ends.
        neurons: what trains.

    Raises:
        ConfigError: the set is empty, or the model is already inside such a block.
        DataError: the set was selected on a model of another shape.
    """
    slices = neurons.slices(describe(model))
    if not slices:
        raise ConfigError("selection", f"the set of {neurons.language!r} holds no neuron: nothing would train")
    dense = dict(model.named_parameters())
    if any(name.rpartition(".")[2].startswith(PREFIX) for name in dense):
        raise ConfigError("training", "the model already trains compact neurons; close that block first")
    trained_before = {parameter: parameter.requires_grad for parameter in dense.values()}
    substitutions = {name: _Substitution(place, dense[name]) for name, place in slices.items()}
    linears: dict[str, Any] = {
        name: model.get_submodule(name) for name in dict.fromkeys(name.rpartition(".")[0] for name in slices)
    }
    try:
        model.requires_grad_(False)
        for name, linear in linears.items():
            weight, bias = substitutions[f"{name}.weight"], substitutions.get(f"{name}.bias")
            linear.register_parameter(f"{PREFIX}weight", weight.change)
            if bias is not None:
                linear.register_parameter(f"{PREFIX}bias", bias.change)
            linear.forward = partial(_forward, linear, weight, bias)
        parameters = {name: substitution.change for name, substitution in substitutions.items()}
        yield CompactNeurons(neurons=neurons, parameters=parameters, slices=slices)
    finally:
        for linear in linears.values():
            linear.__dict__.pop("forward", None)
            for own in ("weight", "bias"):
                linear._parameters.pop(PREFIX + own, None)
        for substitution in substitutions.values():
            substitution.restore()
        for parameter, requires_grad in trained_before.items():
            parameter.requires_grad_(requires_grad)
