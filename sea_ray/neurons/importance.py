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


def sum_tokens(x_BTM: Tensor, counted_BT: Tensor) -> Tensor:
    """Return sum_t w_t x_t, [B, M]; a product with a row vector, which is faster than a masked sum.

    Args:
        x_BTM: any values.
        counted_BT: weight of each token in the type of x.
    """
    return torch.bmm(counted_BT[:, None], x_BTM)[:, 0]


def channel_importance(act_BTM: Tensor, counted_BT: Tensor, norm_M: Tensor) -> Tensor:
    """Return Imp of FFN channels, [B, M]: (sum_t h_tk^2)^(1/2) * ||W_down[:, k]||. Exact.

    Without channel k the layer's output changes by h_tk * W_down[:, k] at token t.

    Args:
        act_BTM: h = silu(gate) * up, the input of down_proj.
        counted_BT: 1 where a token counts, else 0.
        norm_M: norms of the columns of W_down.
    """
    return sum_tokens(wide(act_BTM).square(), counted_BT).sqrt_() * norm_M


def value_gram(output_weight: Tensor, num_kv_heads: int, d_head: int) -> Tensor:
    """Return the Gram matrices of the W_o columns that read one v neuron, [R, R, G, D].

    Args:
        output_weight: weight of o_proj, [d_model, H * D].
        num_kv_heads: G.
        d_head: D.
    """
    columns = wide(output_weight).unflatten(1, (num_kv_heads, -1, d_head))
    return torch.einsum("mgrd,mgsd->rsgd", columns, columns)


def value_importance(context_BTF: Tensor, counted_BT: Tensor, gram_RRGD: Tensor) -> Tensor:
    """Return Imp of v rows with their o columns, [B, G * D]: Imp^2 = sum_t o_t^T Gram o_t. Exact.

    Zeroing v row (g, d) zeroes dimension d of the context of every query head of group g and nothing else.

    Args:
        context_BTF: input of o_proj.
        counted_BT: 1 where a token counts, else 0.
        gram_RRGD: from `value_gram`.
    """
    num_rep, _, num_groups, d_head = gram_RRGD.shape
    context_BTGRD = wide(context_BTF).unflatten(2, (num_groups, num_rep, d_head))
    square_BGD = context_BTGRD.new_zeros(len(context_BTF), num_groups, d_head)
    for r in range(num_rep):
        for s in range(r + 1):
            product_BTGD = context_BTGRD[:, :, :, r] * context_BTGRD[:, :, :, s]
            moment_BGD = sum_tokens(product_BTGD.flatten(2), counted_BT).view_as(square_BGD)
            square_BGD += moment_BGD * gram_RRGD[r, s] * (1 if r == s else 2)
    return square_BGD.clamp_min_(0).sqrt_().flatten(1)
