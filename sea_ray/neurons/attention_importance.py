"""How much attention probabilities change without a query or a key row, before the rotary embedding (Zhao et al. 2024,
arXiv 2402.18815, eq. 2).

Removing a row of q_proj or k_proj, with its bias element, takes logits delta away from one head. `exact` runs the
softmax again for every row, a few query tokens at a time; `first_order` has a closed form in products of the [T, T]
probabilities with [T, D] matrices. Where queries and keys are normalised (Qwen3) the other dimensions of the head grow
when one is removed, and both follow that.

Shapes: B windows, T tokens, H query heads, G kv heads, D width of a head, E = D / 2 rotary pairs, P heads treated
together, C query tokens treated together; I, J tokens as query and as key. The model keeps the first of all rotary pairs
before the second of all; here the two of a pair lie side by side, so that a pair is a complex number and its rotation a
product.

Products are of float32 on a GPU too, for a bfloat16 model too, though they are most of the time there: the closed form takes
large sums from each other where a token attends to one other nearly alone. With TF32's 10 bits (emulated, random heads of 512
tokens with a strong sink) Imp of q rows was 1.3 % wrong in the median and 130 % at most; rounding queries and keys to bfloat16
makes 0.25 and 2.5 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sea_ray.neurons.config import QueryKeyMode
from sea_ray.neurons.importance import on_processor, wide

CPU_CHUNK_VALUES = 1 << 18
"""1 MiB of float32 stays in a core's cache, far below the probabilities of all heads together."""
ACCELERATOR_CHUNK_VALUES = 1 << 25
"""128 MiB of float32 fill an accelerator."""
CPU_QUERY_TOKENS = 128
"""Query tokens treated together see no key after the last of them, so that half of a long window is never computed."""
ACCELERATOR_QUERY_TOKENS = 512
"""The same where a small product would not fill the device; Qwen2-7B's 28 heads of 2,048 tokens then are four products, as many
as of 1,024 tokens and half of the heads, which compute a sixth more."""


@dataclass(frozen=True, kw_only=True)
class HeadNorm:
    """The RMS norm of a head's query or key before it is rotated (Qwen3)."""

    weight_D: Tensor
    """Scale of each dimension."""
    eps: float
    """Added to the mean square."""

    def __call__(self, x_HTD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normalised vectors, and by how much the others grow when a dimension is removed, both [H, T, D].

        With rho^2 = mean_k x_k^2 + eps, dimension r leaves rho_r^2 = rho^2 - x_r^2 / D, so the others are multiplied by
        rho / rho_r.
        """
        square_HTD = x_HTD.square()
        mean_HT1 = square_HTD.mean(2, keepdim=True) + self.eps
        return x_HTD * mean_HT1.rsqrt() * self.weight_D, (mean_HT1 / (mean_HT1 - square_HTD / x_HTD.shape[2])).sqrt()


class AttentionScores(NamedTuple):
    """Scores of the rows of one layer's attention."""

    q: Tensor
    """Imp of q rows, [B, H * D]: norm of the change of the head's probabilities."""
    k: Tensor
    """Imp of k rows, [B, G * D], over the query heads that read the row."""
    released: Tensor
    """Square of what the released PLND code scores q and k rows with alike, [B, H * D]: the change of the probabilities
    when the product of the rotated row's own dimension is taken away, unscaled (DAMO-NLP-SG/multilingual_analysis
    @be2b161); to first order under `first_order`."""


def attention_importance(
    q_BTF: Tensor,
    k_BTF: Tensor,
    cos_BTD: Tensor,
    sin_BTD: Tensor,
    segment_BT: Tensor,
    counted_BT: Tensor,
    mode: QueryKeyMode,
    norms: tuple[HeadNorm, HeadNorm] | None = None,
) -> AttentionScores:
    """Return the scores of q and k rows of causal attention that stays inside its segment.

    Args:
        q_BTF: output of q_proj with its bias, F = H * D.
        k_BTF: output of k_proj with its bias, F = G * D.
        cos_BTD, sin_BTD: rotary embedding; both halves of D hold the same angles.
        segment_BT: number of the document that each token belongs to.
        counted_BT: 1 where a token counts as a query, else 0.
        mode: exact or first_order.
        norms: of queries and of keys, where the family has them.
    """
    d_head = cos_BTD.shape[2]
    q_BHTD, k_BGTD = (wide(x).unflatten(2, (-1, d_head)).transpose(1, 2) for x in (q_BTF, k_BTF))
    num_rep = q_BHTD.shape[1] // k_BGTD.shape[1]
    score = _exact if mode == "exact" else _first_order
    on_cpu, num_tokens = on_processor(q_BTF), q_BTF.shape[1]
    limit = CPU_CHUNK_VALUES if on_cpu else ACCELERATOR_CHUNK_VALUES
    block = min(num_tokens, CPU_QUERY_TOKENS if on_cpu else ACCELERATOR_QUERY_TOKENS)
    step = max(1, limit // (block * num_tokens))
    rows: list[tuple[Tensor, ...]] = []
    for window, (q_HTD, k_GTD) in enumerate(zip(q_BHTD, k_BGTD, strict=True)):
        k_HTD = k_GTD.repeat_interleave(num_rep, 0)
        turn = _Turn.by(wide(cos_BTD[window]), wide(sin_BTD[window]))
        hidden_IJ = _hidden(segment_BT[window], q_HTD.dtype)
        heads = [_Heads.of(q, k, norms, turn) for q, k in zip(q_HTD.split(step), k_HTD.split(step), strict=True)]
        sums: list[tuple[Tensor, ...]] = []  # one per block of query tokens; squares over tokens add
        for start in range(0, num_tokens, block):
            stop = min(start + block, num_tokens)
            parts = [score(some.queries(start, stop), hidden_IJ[start:stop, :stop], counted_BT[window, start:stop], limit)
                     for some in heads]
            sums.append(tuple(torch.cat(squares) for squares in zip(*parts, strict=True)))
        rows.append(tuple(sum(squares[1:], squares[0]) for squares in zip(*sums, strict=True)))
    q_BHD, k_BHD, released_BHD = (_unpaired(torch.stack(squares)).clamp_min(0) for squares in zip(*rows, strict=True))
    k_BGD = k_BHD.unflatten(1, (-1, num_rep)).sum(2)
    return AttentionScores(q_BHD.sqrt_().flatten(1), k_BGD.sqrt_().flatten(1), released_BHD.flatten(1))


def _hidden(segment_T: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what is added to logits, [I, J]: -inf at later tokens and at other documents."""
    apart_IJ = segment_T[:, None] != segment_T
    later_IJ = torch.ones_like(apart_IJ).triu_(1)
    zeros_IJ = torch.zeros(apart_IJ.shape, dtype=dtype, device=segment_T.device)
    return zeros_IJ.masked_fill_(apart_IJ | later_IJ, -torch.inf)


def _paired(x: Tensor) -> Tensor:
    """Return vectors [..., D] with the two dimensions of each rotary pair side by side."""
    return x.unflatten(-1, (2, -1)).mT.flatten(-2)


def _unpaired(x: Tensor) -> Tensor:
    """Return what `_paired` was given."""
    return x.unflatten(-1, (-1, 2)).mT.flatten(-2)


def _pairs(x: Tensor) -> Tensor:
    """View paired vectors [..., D] as complex numbers [..., E]."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def _dimensions(z: Tensor) -> Tensor:
    """View complex numbers [..., E] as paired vectors [..., D]."""
    return torch.view_as_real(z).flatten(-2)


def _quarter(x: Tensor) -> Tensor:
    """Return vectors whose rotary pairs are turned by 90 degrees: (-second, first)."""
    return _dimensions(_pairs(x) * 1j)


class _Turn(NamedTuple):
    """The rotation of each token's rotary pairs."""

    turn_TE: Tensor
    """e^(i angle), complex."""
    cos_sin_T2D: Tensor
    """Cosine and sine of each dimension's angle."""

    @classmethod
    def by(cls, cos_TD: Tensor, sin_TD: Tensor) -> _Turn:
        """Return the rotation of a model's rotary embedding, whose two halves hold the same angles."""
        cos_sin_T2D = _paired(torch.stack((cos_TD, sin_TD), 1))
        return cls(torch.complex(*cos_sin_T2D[..., ::2].unbind(1)), cos_sin_T2D)

    def __call__(self, x: Tensor) -> Tensor:
        return _dimensions(_pairs(x) * self.turn_TE)

    def back(self, x: Tensor) -> Tensor:
        """Return a sum over other tokens of rotated vectors as this token's row meets it: turned by -angle."""
        return _dimensions(_pairs(x) * self.turn_TE.conj().resolve_conj())

    def spread(self, x: Tensor) -> Tensor:
        """Return what each dimension adds to its own rotated dimension and to its pair's, [P, T, 2 D]."""
        return (x[:, :, None] * self.cos_sin_T2D).flatten(2)


@dataclass(frozen=True, kw_only=True)
class _Heads:
    """Some query heads with the keys that they read, and how their rows are removed."""

    q_PTD: Tensor
    k_PTD: Tensor
    """Before the rotation, after the norm; all dimensions paired."""
    turned_q_PTD: Tensor
    turned_k_PTD: Tensor
    """After the rotation."""
    turn_q: _Turn
    turn_k: _Turn
    growth_q_PTD: Tensor | None
    growth_k_PTD: Tensor | None
    """By how much the head's other dimensions grow when a row is removed; None without a norm: by 1."""

    @classmethod
    def of(cls, q_PTD: Tensor, k_PTD: Tensor, norms: tuple[HeadNorm, HeadNorm] | None, turn: _Turn) -> _Heads:
        growth_q = growth_k = None
        if norms is not None:
            (q_PTD, growth_q), (k_PTD, growth_k) = norms[0](q_PTD), norms[1](k_PTD)
        q_PTD, k_PTD = _paired(q_PTD), _paired(k_PTD)
        return cls(q_PTD=q_PTD, k_PTD=k_PTD, turned_q_PTD=turn(q_PTD), turned_k_PTD=turn(k_PTD), turn_q=turn, turn_k=turn,
                   growth_q_PTD=None if growth_q is None else _paired(growth_q),
                   growth_k_PTD=None if growth_k is None else _paired(growth_k))

    def queries(self, start: int, stop: int) -> _Heads:
        """Return some query tokens with the keys that they may see."""
        def cut(x_PTD: Tensor | None, first: int) -> Any:
            return None if x_PTD is None else x_PTD[:, first:stop]

        return _Heads(
            q_PTD=cut(self.q_PTD, start), turned_q_PTD=cut(self.turned_q_PTD, start),
            growth_q_PTD=cut(self.growth_q_PTD, start), turn_q=_Turn(*(x[start:stop] for x in self.turn_q)),
            k_PTD=cut(self.k_PTD, 0), turned_k_PTD=cut(self.turned_k_PTD, 0),
            growth_k_PTD=cut(self.growth_k_PTD, 0), turn_k=_Turn(*(x[:stop] for x in self.turn_k)))

    def products(self) -> Tensor:
        """Return the logits before they are scaled and hidden, [P, I, J]."""
        return self.turned_q_PTD @ self.turned_k_PTD.mT


def _exact(heads: _Heads, hidden_IJ: Tensor, counted_T: Tensor, limit: int) -> tuple[Tensor, ...]:
    """Return Imp^2 of q rows, of k rows and the released score, each [P, D]: softmax again without each row."""
    num_heads, num_queries, d_head = heads.q_PTD.shape
    products_PIJ, scale = heads.products(), d_head**-0.5
    a_PIJ = torch.add(hidden_IJ, products_PIJ, alpha=scale).softmax(2)
    removals = _removals(heads)
    step = max(1, limit // (d_head * heads.k_PTD.shape[1]))
    squares_KPD = heads.q_PTD.new_zeros(len(removals), num_heads, d_head)
    for p in range(num_heads):
        for rows in torch.arange(num_queries, device=heads.q_PTD.device).split(step):
            for square_D, removal in zip(squares_KPD[:, p], removals, strict=True):
                logits_CDJ = removal.kept(products_PIJ, p, rows).mul_(scale).add_(hidden_IJ[rows, None])
                change_CDJ = logits_CDJ.softmax(2).sub_(a_PIJ[p, rows, None])
                square_D += counted_T[rows] @ change_CDJ.square_().sum(2)
    return squares_KPD.unbind(0)


class _Removal(NamedTuple):
    """The products of a query and a key token that one row makes up: a sum of left[i, r] * right[j, r]."""

    parts: tuple[tuple[Tensor, Tensor], ...]
    """Pairs of left and right, both [P, T, D]."""
    growth_i: Tensor | None = None
    growth_j: Tensor | None = None
    """By how much the other products grow with the query token's or the key token's row, [P, T, D]; None: they don't."""

    def kept(self, products_PIJ: Tensor, p: int, rows: Tensor) -> Tensor:
        """Return the products of some query tokens of head p without each row, [C, D, J]."""
        kept_CDJ = products_PIJ[p, rows, None]
        for left_PTD, right_PTD in self.parts:
            kept_CDJ = torch.addcmul(kept_CDJ, left_PTD[p, rows, :, None], right_PTD[p].mT, value=-1)
        if self.growth_i is not None:
            kept_CDJ *= self.growth_i[p, rows, :, None]
        if self.growth_j is not None:
            kept_CDJ *= self.growth_j[p].mT
        return kept_CDJ


def _removals(heads: _Heads) -> tuple[_Removal, _Removal, _Removal]:
    """Return what q rows, k rows and the released code's indices take away."""
    (cos_q, sin_q), (cos_k, sin_k) = heads.turn_q.cos_sin_T2D.unbind(1), heads.turn_k.cos_sin_T2D.unbind(1)
    q, k, query, key = heads.q_PTD, heads.k_PTD, heads.turned_q_PTD, heads.turned_k_PTD
    unscaled_key = key * key.shape[2] ** 0.5
    return (
        _Removal(((q * cos_q, key), (-q * sin_q, _quarter(key))), growth_i=heads.growth_q_PTD),
        _Removal(((query, k * cos_k), (-_quarter(query), k * sin_k)), growth_j=heads.growth_k_PTD),
        _Removal(((query, unscaled_key),)),
    )


_Moments = tuple[Tensor, Tensor, Tensor]
"""Mean m_i, weighted sum e_i and second moment of what each row takes away, [P, I, D]; the second moment of k rows is
[P, J, D]."""


def _first_order(heads: _Heads, hidden_IJ: Tensor, counted_T: Tensor, limit: int) -> tuple[Tensor, ...]:
    """Return Imp^2 of q rows, of k rows and the released score, each [P, D].

    Removing logits delta changes softmax probabilities A by dA_ij = -A_ij (delta_ij - m_i), m_i = sum_j A_ij delta_ij,
    to first order, so with B = A * A:  ||dA||^2 = sum_ij B_ij delta_ij^2 - 2 sum_i m_i e_i + sum_i m_i^2 sum_j B_ij,
    e_i = sum_j B_ij delta_ij, with i over the query tokens that count. A row reaches its own rotated dimension by cos and its
    pair's by +-sin, so every sum over j is a product of A or B with a [T, D] matrix, and no [T, T, D] is ever formed. Under a
    norm, delta is that of the row times the others' growth x, less (x - 1) times the logits.
    """
    q, k, query, key = heads.q_PTD, heads.k_PTD, heads.turned_q_PTD, heads.turned_k_PTD
    d_head = q.shape[2]
    products_PIJ = heads.products()
    a_PIJ = torch.add(hidden_IJ, products_PIJ, alpha=d_head**-0.5).softmax(2)
    b_PIJ = a_PIJ.square()
    b_sum = b_PIJ.sum(2, keepdim=True)
    rows_k = heads.turn_k.spread(k)
    a_cos, a_sin = (a_PIJ @ rows_k).chunk(2, 2)
    b_cos, b_sin, b_key2 = (b_PIJ @ torch.cat((rows_k, _second_powers(key)), 2)).split((d_head, d_head, 3 * d_head // 2), 2)
    a_key, b_key = a_cos + _quarter(a_sin), b_cos + _quarter(b_sin)
    quarter_query, counted_query = _quarter(query), query * counted_T[:, None]
    # those of q rows, and of the released code's indices, are still to be multiplied by the row itself
    of_q: _Moments = (heads.turn_q.back(a_key), heads.turn_q.back(b_key), _moments(b_key2, heads.turn_q))
    of_k: _Moments = (torch.addcmul(query * a_cos, quarter_query, a_sin, value=-1),
                                torch.addcmul(query * b_cos, quarter_query, b_sin, value=-1),
                                k.square() * _moments(b_PIJ.mT @ _second_powers(counted_query), heads.turn_k))
    own = _square_change(a_key, b_key, _moments(b_key2), b_sum).mul_(query).mul_(query)
    if heads.growth_q_PTD is not None:
        of_q, of_k = _with_growth(heads, a_PIJ, b_PIJ, products_PIJ, counted_T, of_q)
        squares_q = _square_change(*of_q, b_sum)
    else:
        squares_q = _square_change(*of_q, b_sum).mul_(q).mul_(q)
    mean, weighted, second = of_k
    squares_k = second.sum(1) - 2 * (counted_T @ (mean * _residual(mean, weighted, b_sum)))
    return counted_T @ squares_q / d_head, squares_k / d_head, counted_T @ own  # the released score does not scale its products


def _square_change(mean: Tensor, weighted: Tensor, second: Tensor, b_sum: Tensor) -> Tensor:
    """Return second - 2 mean weighted + mean^2 b_sum, each query token's part of ||dA||^2, [P, I, D]."""
    return torch.addcmul(second, mean, _residual(mean, weighted, b_sum), value=-2)


def _residual(mean: Tensor, weighted: Tensor, b_sum: Tensor) -> Tensor:
    return torch.addcmul(weighted, mean, b_sum, value=-0.5)


def _with_growth(heads: _Heads, a_PIJ: Tensor, b_PIJ: Tensor, products_PIJ: Tensor, counted_T: Tensor,
                 of_q: _Moments) -> tuple[_Moments, _Moments]:
    """Return the moments of q rows and of k rows of heads whose other dimensions grow when a row is removed.

    A row then takes away x D - (x - 1) L: its own products D times the growth x, less the growth of all products L.

    Args:
        heads: with growth.
        a_PIJ, b_PIJ: probabilities and their squares.
        products_PIJ: L.
        counted_T: 1 where a query token counts, else 0.
        of_q: mean, weighted sum and second moment of D alone, of q rows, before they are multiplied by the row.
    """
    assert heads.growth_q_PTD is not None
    assert heads.growth_k_PTD is not None
    q, x_q, x_k, query = heads.q_PTD, heads.growth_q_PTD, heads.growth_k_PTD, heads.turned_q_PTD
    y_q, y_k = x_q - 1, x_k - 1
    al_PIJ, bl_PIJ = a_PIJ * products_PIJ, b_PIJ * products_PIJ
    bll_PIJ = bl_PIJ * products_PIJ
    mean, weighted, second = q * of_q[0], q * of_q[1], q.square() * of_q[2]
    crossed_q = q * heads.turn_q.back(bl_PIJ @ heads.turned_k_PTD)
    grown_q = (x_q * mean - y_q * al_PIJ.sum(2, keepdim=True), x_q * weighted - y_q * bl_PIJ.sum(2, keepdim=True),
               x_q.square() * second - 2 * x_q * y_q * crossed_q + y_q.square() * bll_PIJ.sum(2, keepdim=True))
    k, quarter_query, counted_query = x_k * heads.k_PTD, _quarter(query), query * counted_T[:, None]
    rows_k = heads.turn_k.spread(k)
    (a_cos, a_sin), (b_cos, b_sin) = ((p_PIJ @ rows_k).chunk(2, 2) for p_PIJ in (a_PIJ, b_PIJ))
    second = k.square() * _moments(b_PIJ.mT @ _second_powers(counted_query), heads.turn_k)
    crossed_k = k * heads.turn_k.back(bl_PIJ.mT @ counted_query)
    grown_k = (query * a_cos - quarter_query * a_sin - al_PIJ @ y_k, query * b_cos - quarter_query * b_sin - bl_PIJ @ y_k,
               second - 2 * y_k * crossed_k + y_k.square() * (counted_T @ bll_PIJ)[..., None])
    return grown_q, grown_k


def _second_powers(x: Tensor) -> Tensor:
    """Return z^2 and |z|^2 of the rotary pairs z of vectors, [..., D + E]."""
    z = _pairs(x)
    return torch.cat((_dimensions(z * z), z.real.square() + z.imag.square()), -1)


def _moments(sums: Tensor, turn: _Turn | None = None) -> Tensor:
    """Return the second moments of the dimensions, [P, T, D], after each token turns the vectors back by its angle.

    The two dimensions of a pair have the moments (|z|^2 + Re z^2) / 2 and (|z|^2 - Re z^2) / 2.

    Args:
        sums: of `_second_powers`, [P, T, D + E].
        turn: the angles; None turns nothing.
    """
    d_pair = sums.shape[2] // 3
    square_PTE, absolute_PTE = _pairs(sums[..., : 2 * d_pair]), sums[..., 2 * d_pair :]
    if turn is not None:
        square_PTE = square_PTE * turn.turn_TE.square().conj()
    return _dimensions(torch.complex(absolute_PTE + square_PTE.real, absolute_PTE - square_PTE.real)).div_(2)
