"""How much the output of a layer changes without an FFN channel or a value row: closed forms of Imp (Zhao et al. 2024,
arXiv 2402.18815, eq. 2), both exact. Query and key rows are in `attention_importance`.

Every sum over tokens takes a weight per token, 1 or 0: padding and the tokens that only give context never count.

Shapes: B windows, T tokens, M channels, G kv heads, R query heads per kv head, H = G * R query heads, D width of a
head, F = H * D.
"""

from __future__ import annotations

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """Return a tensor in float32, or in float64 if it is that already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def on_processor(x: Tensor) -> bool:
    """Return whether a tensor lies where caches are small and launching costs nothing, and not on an accelerator."""
    return x.device.type == "cpu"


def sum_tokens(x_BTM: Tensor, counted_BT: Tensor) -> Tensor:
    """Return sum_t w_t x_t, [B, M]; on the processor a product with a row vector, which is faster there than a masked sum.

    Args:
        x_BTM: any values.
        counted_BT: weight of each token in the type of x.
    """
    return torch.bmm(counted_BT[:, None], x_BTM)[:, 0]


def sum_absolute(x_BTM: Tensor, counted_BT: Tensor) -> Tensor:
    """Return sum_t w_t |x_t|, [B, M], in the weights' type."""
    if on_processor(x_BTM):
        return sum_tokens(wide(x_BTM).abs(), counted_BT)
    return _norm(x_BTM, counted_BT, 1)


def token_norm(x_BTM: Tensor, counted_BT: Tensor) -> Tensor:
    """Return (sum_t w_t x_t^2)^(1/2), [B, M], in the weights' type."""
    if on_processor(x_BTM):
        return sum_tokens(wide(x_BTM).square(), counted_BT).sqrt_()
    return _norm(x_BTM, counted_BT, 2)


def _norm(x_BTM: Tensor, counted_BT: Tensor, order: int) -> Tensor:
    """Return the norm over tokens in two kernels; the second widens as it reads, so bfloat16 is never stored in float32."""
    masked_BTM = x_BTM * counted_BT[..., None].to(x_BTM.dtype)
    return torch.linalg.vector_norm(masked_BTM, order, dim=1, dtype=counted_BT.dtype)


def count_positive(x_BTM: Tensor, counted_BT: Tensor) -> Tensor:
    """Return how many of the tokens that count have x > 0, [B, M], in the weights' type.

    Ones are written in place of a boolean mask: as floats they are summed five times as fast on the processor, and without
    being widened first on a GPU.
    """
    if on_processor(x_BTM):
        return sum_tokens(torch.gt(x_BTM, 0, out=torch.empty_like(x_BTM, dtype=counted_BT.dtype)), counted_BT)
    least_BT1 = torch.where(counted_BT > 0, 0, torch.inf)[..., None].to(x_BTM.dtype)
    return torch.gt(x_BTM, least_BT1, out=torch.empty_like(x_BTM)).sum(1, dtype=counted_BT.dtype)


def channel_importance(act_BTM: Tensor, counted_BT: Tensor, norm_M: Tensor) -> Tensor:
    """Return Imp of FFN channels, [B, M]: (sum_t h_tk^2)^(1/2) * ||W_down[:, k]||. Exact.

    Without channel k the layer's output changes by h_tk * W_down[:, k] at token t.

    Args:
        act_BTM: h = silu(gate) * up, the input of down_proj.
        counted_BT: 1 where a token counts, else 0.
        norm_M: norms of the columns of W_down.
    """
    return token_norm(act_BTM, counted_BT) * norm_M


def value_gram(output_weight: Tensor, num_kv_heads: int, d_head: int) -> Tensor:
    """Return the Gram matrices of the W_o columns that read one v neuron, [R, R, G, D]; what is not on their diagonals twice
    as large, since `value_importance` meets each pair of heads once.

    Args:
        output_weight: weight of o_proj, [d_model, H * D].
        num_kv_heads: G.
        d_head: D.
    """
    columns = wide(output_weight).unflatten(1, (num_kv_heads, -1, d_head))
    gram_RRGD = torch.einsum("mgrd,mgsd->rsgd", columns, columns)
    return gram_RRGD * (2 - torch.eye(len(gram_RRGD), dtype=gram_RRGD.dtype, device=gram_RRGD.device))[..., None, None]


def value_importance(context_BTF: Tensor, counted_BT: Tensor, gram_RRGD: Tensor) -> Tensor:
    """Return Imp of v rows with their o columns, [B, G * D]: Imp^2 = sum_t o_t^T Gram o_t. Exact.

    Zeroing v row (g, d) zeroes dimension d of the context of every query head of group g and nothing else.

    Args:
        context_BTF: input of o_proj.
        counted_BT: 1 where a token counts, else 0.
        gram_RRGD: from `value_gram`.
    """
    num_rep, _, num_groups, d_head = gram_RRGD.shape
    masked_BTF = context_BTF * counted_BT[..., None].to(context_BTF.dtype)
    context_BTGRD = wide(masked_BTF).unflatten(2, (num_groups, num_rep, d_head))
    square_BGD = context_BTGRD.new_zeros(len(context_BTF), num_groups, d_head)
    for r in range(num_rep):  # with all s >= r at once: a sum for each pair of heads would keep a GPU waiting for launches
        product_BTGSD = context_BTGRD[:, :, :, r : r + 1] * context_BTGRD[:, :, :, r:]
        square_BGD += (product_BTGSD.sum(1) * gram_RRGD[r, r:].transpose(0, 1)).sum(2)
    return square_BGD.clamp_min_(0).sqrt_().flatten(1)
