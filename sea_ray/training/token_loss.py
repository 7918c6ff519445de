"""The loss of a batch: cross-entropy at the loss targets only, with logits that never exist whole.

Shape letters: B sequences, T tokens, N loss targets, C targets of a chunk, D d_model, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from sea_ray.errors import ConfigError
from sea_ray.training.sequences import Batch

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
"""Models whose logits are exactly W h, without bias, scale or cap: for others this loss would be a plausible lie."""

CPU_CHUNK_LOGITS = 1 << 19
"""2 MiB of logits stay in a core's cache: a 1M model on one core trains 10-20 % faster than with whole logits."""

ACCELERATOR_CHUNK_LOGITS = 1 << 26
"""256 MiB of logits fill an accelerator."""


class TokenLoss(nn.Module):
    """A causal language model as a function from a batch to the sum of its token losses."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Wrap a model; its parameters stay its own.

        Raises:
            ConfigError: if the model type's output layer is not known to be a plain matrix.
        """
        super().__init__()
        if model.config.model_type not in MODEL_TYPES:
            raise ConfigError("", f"model type {model.config.model_type!r} cannot be trained; known: "
                                  f"{', '.join(MODEL_TYPES)}")
        self.model = model

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return -sum log p(target | tokens before it in its segment), nats, a scalar."""
        hidden_BTD = self.model.base_model(
            input_ids=batch.input_ids_BT, position_ids=batch.position_ids_BT, use_cache=False).last_hidden_state
        hidden_ND = hidden_BTD.flatten(0, 1).index_select(0, batch.predictor_N)
        return chunked_cross_entropy(hidden_ND, self.model.get_output_embeddings().weight, batch.target_N)


def chunked_cross_entropy(hidden_ND: torch.Tensor, weight_VD: torch.Tensor, target_N: torch.Tensor,
                          chunk_targets: int | None = None) -> torch.Tensor:
    """Return sum_n (logsumexp_v z_nv - z_n,target) with z = hidden weight^T, in float32.

    The gradient is known in closed form, dz = softmax(z) - onehot(target), so it is made chunk by chunk in the forward
    pass and only its products with `weight` and `hidden` are kept.

    Args:
        hidden_ND: final hidden states.
        weight_VD: output embeddings.
        target_N: ids.
        chunk_targets: targets whose logits exist at a time; None chooses by device and vocabulary.
    """
    if chunk_targets is None:
        budget = CPU_CHUNK_LOGITS if hidden_ND.device.type == "cpu" else ACCELERATOR_CHUNK_LOGITS
        chunk_targets = max(64, budget // weight_VD.shape[0])
    device_type = hidden_ND.device.type
    mixed = torch.is_autocast_enabled(device_type)
    compute = torch.get_autocast_dtype(device_type) if mixed else hidden_ND.dtype
    with torch.autocast(device_type, enabled=False):
        return _ChunkedCrossEntropy.apply(hidden_ND, weight_VD, target_N, chunk_targets, compute)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ND: torch.Tensor, weight_VD: torch.Tensor, target_N: torch.Tensor,
                chunk_targets: int, compute: torch.dtype) -> torch.Tensor:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden_ND = torch.empty_like(hidden_ND) if needs_hidden else None
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if needs_weight else None
        weight = weight_VD.to(compute)
        loss = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        minus_one = loss.new_full((min(chunk_targets, len(target_N)), 1), -1.0)
        for start in range(0, len(target_N), chunk_targets):
            chunk = slice(start, start + chunk_targets)
            hidden_CD, target_C1 = hidden_ND[chunk].to(compute), target_N[chunk, None]
            z_CV = (hidden_CD @ weight.T).float()
            z_target_C1 = z_CV.gather(1, target_C1)
            top_C1 = z_CV.amax(1, keepdim=True)
            z_CV.sub_(top_C1).exp_()
            total_C1 = z_CV.sum(1, keepdim=True)
            loss += (total_C1.log() + top_C1 - z_target_C1).sum()
            if not (needs_hidden or needs_weight):
                continue
            z_CV.div_(total_C1).scatter_add_(1, target_C1, minus_one[: len(target_C1)])
            grad_CV = z_CV.to(compute)
            if grad_hidden_ND is not None:
                grad_hidden_ND[chunk] = grad_CV @ weight
            if grad_weight_VD is not None:
                grad_weight_VD += (grad_CV.T @ hidden_CD).float()
        if grad_weight_VD is not None:
            grad_weight_VD = grad_weight_VD.to(weight_VD.dtype)
        ctx.save_for_backward(grad_hidden_ND, grad_weight_VD)
        return loss

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad_loss,) = grad_outputs
        grads = (None if grad is None else grad * grad_loss.to(grad.dtype) for grad in ctx.saved_tensors)
        return (*grads, None, None, None)
