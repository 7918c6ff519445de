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

# Attention probabilities computed at once: 4 MB in float32 stays in cache and far below O(T^2) of all heads together.
CHUNK_PROBABILITIES = 1 << 20


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
    return torch.linalg.vector_norm(wide(act_BTM), dim=1) * norm_M


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


def attention_importance(q_BTF: Tensor, k_BTF: Tensor, cos_BTD: Tensor, sin_BTD: Tensor) -> tuple[Tensor, Tensor]:
    """Return first-order Imp of q rows, [B, H * D], and of k rows, [B, G * D].

    Imp is the norm of the change of the causal attention probabilities, over the query heads that read the row.

    Args:
        q_BTF: output of q_proj with its bias, F = H * D.
        k_BTF: output of k_proj with its bias, F = G * D.
        cos_BTD, sin_BTD: rotary embedding, of which B may be 1.
    """
    (num_windows, num_tokens), d_head = q_BTF.shape[:2], cos_BTD.shape[2]
    q_BHTD = wide(q_BTF).unflatten(2, (-1, d_head)).transpose(1, 2)
    k_BGTD = wide(k_BTF).unflatten(2, (-1, d_head)).transpose(1, 2)
    num_heads, num_groups = q_BHTD.shape[1], k_BGTD.shape[1]
    q_PTD = q_BHTD.flatten(0, 1)
    k_PTD = k_BGTD.repeat_interleave(num_heads // num_groups, 1).flatten(0, 1)
    cos_PTD, sin_PTD = (wide(x).expand(num_windows, -1, -1).repeat_interleave(num_heads, 0) for x in (cos_BTD, sin_BTD))
    step = max(1, CHUNK_PROBABILITIES // num_tokens**2)
    chunks = zip(*(x.split(step) for x in (q_PTD, k_PTD, cos_PTD, sin_PTD)), strict=True)
    q_PD, k_PD = (torch.cat(parts) for parts in zip(*(_probability_change(*chunk) for chunk in chunks), strict=True))
    k_BGD = k_PD.view(num_windows, num_groups, -1, d_head).sum(2)
    return q_PD.sqrt_().view(num_windows, -1), k_BGD.sqrt_().flatten(1)


def _probability_change(q_PTD: Tensor, k_PTD: Tensor, cos_PTD: Tensor, sin_PTD: Tensor) -> tuple[Tensor, Tensor]:
    """Return Imp^2 of each q row and each k row of single heads, both [P, D].

    Removing logits delta changes softmax probabilities A by dA_ij = -A_ij (delta_ij - m_i), m_i = sum_j A_ij delta_ij,
    to first order, so with B = A * A:  ||dA||^2 = sum_ij B_ij delta_ij^2 - 2 sum_i m_i e_i + sum_i m_i^2 sum_j B_ij,
    e_i = sum_j B_ij delta_ij. A row before the rotation reaches its own rotated dimension by cos ("direct") and its
    pair's by +-sin ("crossed"), so all sums over j are a few products of A and B with [T, D] matrices and no [T, T, D]
    is ever formed.
    """
    d_head = q_PTD.shape[2]
    sign_D = q_PTD.new_ones(d_head)
    sign_D[d_head // 2 :] = -1
    cross_PTD = sin_PTD * sign_D
    rotated_q = q_PTD * cos_PTD + _swap(q_PTD * cross_PTD)
    direct, crossed = k_PTD * cos_PTD, k_PTD * cross_PTD
    rotated_k = direct + _swap(crossed)
    future_IJ = torch.ones(q_PTD.shape[1], q_PTD.shape[1], dtype=torch.bool, device=q_PTD.device).triu_(1)
    a_PIJ = (rotated_q @ rotated_k.mT).mul_(d_head**-0.5).masked_fill_(future_IJ, -torch.inf).softmax(-1)
    a_direct, a_crossed = (a_PIJ @ torch.cat((direct, crossed), 2)).split(d_head, 2)
    b_PIJ = a_PIJ.square_()
    moments = b_PIJ @ torch.cat((direct, crossed, rotated_k.square(), _pair_product(rotated_k)), 2)
    b_direct, b_crossed, b_square, b_pair = moments.split((d_head, d_head, d_head, d_head // 2), 2)
    b_sum = b_PIJ.sum(2, keepdim=True)

    a_k, b_k = a_direct + _swap(a_crossed), b_direct + _swap(b_crossed)
    mean = cos_PTD * a_k + cross_PTD * _swap(a_k)
    weighted = cos_PTD * b_k + cross_PTD * _swap(b_k)
    second = (
        cos_PTD.square() * b_square
        + cross_PTD.square() * _swap(b_square)
        + 2 * cos_PTD * cross_PTD * torch.cat((b_pair, b_pair), 2)
    )
    q_square = (q_PTD.square() * (second - 2 * mean * weighted + mean.square() * b_sum)).sum(1)

    other_q = _swap(rotated_q)
    mean = rotated_q * a_direct + other_q * a_crossed
    weighted = rotated_q * b_direct + other_q * b_crossed
    t_square, t_pair = (b_PIJ.mT @ torch.cat((rotated_q.square(), _pair_product(rotated_q)), 2)).split(
        (d_head, d_head // 2), 2
    )
    second = (
        direct.square() * t_square
        + crossed.square() * _swap(t_square)
        + 2 * direct * crossed * torch.cat((t_pair, t_pair), 2)
    )
    k_square = (second - 2 * mean * weighted + mean.square() * b_sum).sum(1)
    return q_square.clamp_min_(0).div_(d_head), k_square.clamp_min_(0).div_(d_head)


def _swap(x_PTD: Tensor) -> Tensor:
    """Return each dimension's rotary pair: r + D/2 modulo D."""
    return x_PTD.roll(x_PTD.shape[-1] // 2, -1)


def _pair_product(x_PTD: Tensor) -> Tensor:
    """Return the product of the two dimensions of each rotary pair, [P, T, E]."""
    first, second = x_PTD.chunk(2, -1)
    return first * second
