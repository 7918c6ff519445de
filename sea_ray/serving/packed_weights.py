"""Weights of linear layers in the order in which oneDNN reads them, for products on a processor.

A step of answers is a product of a few rows with every weight of the model. torch's `linear` gives it to MKL, which takes the
weight as it lies; oneDNN takes one that was put in its blocks beforehand, in 0.6 of the time on an AMD EPYC (16 rows, 1536 x 512,
float32). A packed weight is in the place of the plain one, of the same size, shape and type, and gives back the same bits.

The operators are those that torch's compiler puts into its code for processors. Their names are not torch's public interface:
where a build of torch lacks them, the layers stay as they are.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn

ROWS = 16
"""Rows of a product that oneDNN is told to expect; others are as right, and 1 to 1024 were all faster than MKL's."""

LEAST_VALUES = 1 << 17
"""Smaller weights stay plain: to call oneDNN costs 13 us, `linear` 2 us."""


class PackedLinear(nn.Linear):
    """A linear layer whose weight is packed; hooks and bias are those of the layer that it was."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return W x + b, as `nn.Linear` does up to rounding."""
        output: torch.Tensor = torch.ops.mkldnn._linear_pointwise.default(input, self.weight, self.bias, "none", [], "")
        return output


def pack_weights(model: nn.Module) -> None:
    """Pack every linear weight for which it pays, each in place of the plain one.

    A weight that another module has, too, such as a head tied to the embedding, stays: it would be in memory twice.

    Args:
        model: float32 or bfloat16 weights on a processor are packed, others stay.
    """
    uses = Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
    chosen = [module for module in model.modules()
              if type(module) is nn.Linear and uses[id(module.weight)] == 1 and _pays(module.weight)]
    for module in chosen:
        packed = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), ROWS)
        module.weight = nn.Parameter(packed, requires_grad=False)
        module.__class__ = PackedLinear
    for parameter in model.parameters() if chosen else ():
        if not parameter.is_mkldnn:  # one that lies in the checkpoint's file would keep all of it mapped, plain weights too
            parameter.data = parameter.data.clone()


def unpack_weights(model: nn.Module) -> None:
    """Undo `pack_weights`, bit for bit."""
    for module in model.modules():
        if type(module) is PackedLinear:
            module.weight = nn.Parameter(module.weight.to_dense(), requires_grad=False)
            module.__class__ = nn.Linear  # type: ignore[assignment]


def _pays(weight: torch.Tensor) -> bool:
    """Return whether a weight is large enough, and oneDNN has products of its type here."""
    operators = torch.ops.mkldnn
    if weight.numel() < LEAST_VALUES or weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not all(hasattr(operators, name) for name in ("_linear_pointwise", "_reorder_linear_weight")):
        return False
    return weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and operators._is_mkldnn_bf16_supported())
