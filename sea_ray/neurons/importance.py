"""How much the output of a layer changes without a neuron: closed forms of Imp (Zhao et al. 2024, arXiv 2402.18815,
eq. 2).

FFN channels and value rows are exact; query and key rows are first order in the removed logits, before the rotary
embedding.

Shapes: B windows, T tokens, M channels, G kv heads, R query heads per kv head, H = G * R query heads, D width of a
head, P (window, head) pairs, E = D / 2 rotary pairs; I, J tokens as query and as key.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Attention probabilities computed at once: 1 MB in float32 stays in cache, far below O(T^2) of all heads together.
CHUNK_PROBABILITIES = 1 << 18


def wide(x: Tensor) -> Tensor:
    """Return a tensor in float32, or in float64 if it is that already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def channel_importance(act_BTM: Tensor, norm_M: Tensor) -> Tensor:
    """Return Imp of FFN channels, [B, M]: (sum_t h_tk^2)^(1/2) * ||W_down[:, k]||. Exact.

    Without channel k the layer's output changes by h_tk * W_down[:, k] at token t.

    Args:
        act_BTM: h = silu(gate) * up, the input of down_proj.
        norm_M: norms of the columns of W_down.
    """
    return wide(act_BTM).square().sum(1).sqrt_() * norm_M  # five times as fast as vector_norm over tokens on CPU


def value_gram(output_weight: Tensor, num_kv_heads: int, d_head: int) -> Tensor:
    """Return the Gram matrices of the W_o columns that read one v neuron, [R, R, G, D].

    Args:
        output_weight: weight of o_proj, [d_model, H * D].
        num_kv_heads: G.
        d_head: D.
    """
    columns = wide(output_weight).unflatten(1, (num_kv_heads, -1, d_head))
    return torch.einsum("mgrd,mgsd->rsgd", columns, columns)


def value_importance(context_BTF: Tensor, gram_RRGD: Tensor) -> Tensor:
    """Return Imp of v rows with their o columns, [B, G * D]: Imp^2 = sum_t o_t^T Gram o_t. Exact.

    Zeroing v row (g, d) zeroes dimension d of the context of every query head of group g and nothing else.

    Args:
        context_BTF: input of o_proj, F = H * D.
        gram_RRGD: from `value_gram`.
    """
    num_rep, _, num_groups, d_head = gram_RRGD.shape
    context_BTGRD = wide(context_BTF).unflatten(2, (num_groups, num_rep, d_head))
    square_BGD = context_BTGRD.new_zeros(len(context_BTF), num_groups, d_head)
    for r in range(num_rep):
        for s in range(r + 1):
            moment_BGD = (context_BTGRD[:, :, :, r] * context_BTGRD[:, :, :, s]).sum(1)
            square_BGD += moment_BGD * gram_RRGD[r, s] * (1 if r == s else 2)
    return square_BGD.clamp_min_(0).sqrt_().flatten(1)


def attention_importance(q_BTF: Tensor, k_BTF: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> tuple[Tensor, Tensor]:
    """Return first-order Imp of q rows, [B, H * D], and of k rows, [B, G * D].

    Imp is the norm of the change of the causal attention probabilities, over the query heads that read the row.

    Args:
        q_BTF: output of q_proj with its bias, F = H * D.
        k_BTF: output of k_proj with its bias, F = G * D.
        cos_TD, sin_TD: rotary embedding; both halves of D hold the same angles.
    """
    (num_windows, num_tokens), d_head = q_BTF.shape[:2], cos_TD.shape[1]
    q_BHTD = wide(q_BTF).unflatten(2, (-1, d_head)).transpose(1, 2)
    k_BGTD = wide(k_BTF).unflatten(2, (-1, d_head)).transpose(1, 2)
    num_heads, num_groups = q_BHTD.shape[1], k_BGTD.shape[1]
    q_PTD = q_BHTD.flatten(0, 1)
    k_PTD = k_BGTD.repeat_interleave(num_heads // num_groups, 1).flatten(0, 1)
    cos_TE, sin_TE = (wide(x_TD)[:, : d_head // 2] for x_TD in (cos_TD, sin_TD))
    step = max(1, CHUNK_PROBABILITIES // num_tokens**2)
    chunks = zip(q_PTD.split(step), k_PTD.split(step), strict=True)
    squares = [_probability_change(q, k, cos_TE, sin_TE) for q, k in chunks]
    q_PD, k_PD = (torch.cat(parts).clamp_min_(0).div_(d_head) for parts in zip(*squares, strict=True))
    k_BGD = k_PD.view(num_windows, num_groups, -1, d_head).sum(2)
    return q_PD.sqrt_().view(num_windows, -1), k_BGD.sqrt_().flatten(1)


def _probability_change(q_PTD: Tensor, k_PTD: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> tuple[Tensor, Tensor]:
    """Return D * Imp^2 of each q row and each k row of single heads, both [P, D].

    Removing logits delta changes softmax probabilities A by dA_ij = -A_ij (delta_ij - m_i), m_i = sum_j A_ij delta_ij,
    to first order, so with B = A * A:  ||dA||^2 = sum_ij B_ij delta_ij^2 - 2 sum_i m_i e_i + sum_i m_i^2 sum_j B_ij,
    e_i = sum_j B_ij delta_ij. A row before the rotation reaches its own rotated dimension by cos and its pair's by
    +-sin, so every sum over j is a product of A or B with a [T, D] matrix, and no [T, T, D] is ever formed.
    """
    d_pair = cos_TE.shape[1]
    q1, q2 = q_PTD.split(d_pair, 2)
    k1, k2 = k_PTD.split(d_pair, 2)
    q1_cos, q2_cos, q1_sin, q2_sin = q1 * cos_TE, q2 * cos_TE, q1 * sin_TE, q2 * sin_TE
    k1_cos, k2_cos, k1_sin, k2_sin = k1 * cos_TE, k2 * cos_TE, k1 * sin_TE, k2 * sin_TE
    turned_q1, turned_q2 = q1_cos - q2_sin, q2_cos + q1_sin
    turned_k1, turned_k2 = k1_cos - k2_sin, k2_cos + k1_sin
    a_PIJ = torch.cat((turned_q1, turned_q2), 2) @ torch.cat((turned_k1, turned_k2), 2).mT
    future_IJ = torch.full(a_PIJ.shape[1:], -torch.inf, dtype=a_PIJ.dtype, device=a_PIJ.device).triu_(1)
    a_PIJ = torch.add(future_IJ, a_PIJ, alpha=(2 * d_pair) ** -0.5, out=a_PIJ).softmax(2)
    parts = torch.cat((k1_cos, k1_sin, k2_cos, k2_sin), 2)
    a_k1_cos, a_k1_sin, a_k2_cos, a_k2_sin = (a_PIJ @ parts).split(d_pair, 2)
    b_PIJ = a_PIJ.square_()
    b_sum = b_PIJ.sum(2, keepdim=True)
    moments = b_PIJ @ torch.cat((parts, _second_powers(turned_k1, turned_k2)), 2)
    b_k1_cos, b_k1_sin, b_k2_cos, b_k2_sin = moments[..., : 4 * d_pair].split(d_pair, 2)
    of_k = _turned_back(moments[..., 4 * d_pair :], cos_TE, sin_TE)
    of_q = _turned_back(b_PIJ.mT @ _second_powers(turned_q1, turned_q2), cos_TE, sin_TE)

    a_k1, a_k2 = a_k1_cos - a_k2_sin, a_k2_cos + a_k1_sin
    b_k1, b_k2 = b_k1_cos - b_k2_sin, b_k2_cos + b_k1_sin
    # (logits of the row, mean m_i, weighted sum e_i) of the first and the second dimension of each rotary pair
    q_rows = (
        (q1, q1_cos * a_k1 + q1_sin * a_k2, q1_cos * b_k1 + q1_sin * b_k2, of_k[0]),
        (q2, q2_cos * a_k2 - q2_sin * a_k1, q2_cos * b_k2 - q2_sin * b_k1, of_k[1]),
    )
    k_rows = (
        (k1, turned_q1 * a_k1_cos + turned_q2 * a_k1_sin, turned_q1 * b_k1_cos + turned_q2 * b_k1_sin, of_q[0]),
        (k2, turned_q2 * a_k2_cos - turned_q1 * a_k2_sin, turned_q2 * b_k2_cos - turned_q1 * b_k2_sin, of_q[1]),
    )

    def change(rows: tuple[tuple[Tensor, Tensor, Tensor, Tensor], ...]) -> Tensor:
        return torch.cat(
            [
                (row.square() * second + mean * (mean * b_sum - 2 * weighted)).sum(1)
                for row, mean, weighted, second in rows
            ],
            1,
        )

    return change(q_rows), change(k_rows)


def _second_powers(first: Tensor, second: Tensor) -> Tensor:
    """Return the squares and the product of the two dimensions of each rotary pair, [P, T, 3 E]."""
    return torch.cat((first.square(), second.square(), first * second), 2)


def _turned_back(moments: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> tuple[Tensor, Tensor]:
    """Return the second moments of a rotary pair after turning it back by each token's angle, two of [P, T, E].

    Args:
        moments: sums of `_second_powers`, [P, T, 3 E].
        cos_TE, sin_TE: the angles.
    """
    first, second, product = moments.split(cos_TE.shape[1], 2)
    cos_square, sin_square = cos_TE.square(), sin_TE.square()
    crossed = product * (2 * cos_TE * sin_TE)
    return first * cos_square + second * sin_square + crossed, second * cos_square + first * sin_square - crossed
