"""Sums over windows where the model is: a GPU never waits for a batch's figures, the host gets a language's at its end.

Shapes: P = 2 parities, L layers, N neurons, F = L * N, H histogram bins, B windows, K places of a ranking, R indices that the
released PLND code scores.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sea_ray.neurons.config import RELEASED_ATTENTION_SHARE, RELEASED_FFN_SHARE
from sea_ray.neurons.importance import on_processor
from sea_ray.neurons.statistics import BINS_PER_OCTAVE, LOWEST_EXPONENT, NUM_BINS, SiteStatistics


class Observation(NamedTuple):
    """What one kind of site showed in some windows."""

    importance_BLN: Tensor
    """Imp."""
    released_BLR: Tensor
    """Score of the released PLND code (DAMO-NLP-SG/multilingual_analysis@be2b161): L1 of up_proj's output for ffn, of the
    context for v, change of attention probabilities for q and k."""
    active_BLN: Tensor | None
    """Tokens at which silu(gate) > 0, int64; None for sites that have no gate."""


class SiteSums:
    """The sums of one language at one kind of site, as tensors of one device."""

    def __init__(self, empty: SiteStatistics, ranks: tuple[int, ...], device: torch.device) -> None:
        """Start at nothing.

        Args:
            empty: the statistics of nothing; says shapes and types.
            ranks: the k at which hits are counted, ascending.
            device: of what will be added.
        """
        self._ranks = ranks
        self._sums = {name: torch.zeros(value.shape, dtype=getattr(torch, value.dtype.name), device=device)
                      for name, value in vars(empty).items()}
        self._layer_is_finite: list[Tensor] = []

    def add(self, seen: Observation, parity_B: Tensor, window_tokens: int) -> None:
        """Add windows.

        Args:
            seen: what the site showed in each window.
            parity_B: 0 for windows of even number, 1 for odd, int64 on the device.
            window_tokens: tokens that each window counts.
        """
        sums, importance_BF = self._sums, seen.importance_BLN.flatten(1)
        self._layer_is_finite.append(seen.importance_BLN.isfinite().all(2))
        sums["windows"].index_add_(0, parity_B, torch.ones_like(parity_B))
        sums["tokens"].index_add_(0, parity_B, torch.full_like(parity_B, window_tokens))
        # a product with ones and zeros: what is added atomically would round in another order each time
        own_PB = torch.stack((1 - parity_B, parity_B)).double()
        sums["total"].flatten(1).addmm_(own_PB, importance_BF.double())
        sums["squares"].flatten(1).addmm_(own_PB, importance_BF.double().square())
        every_F, parity_B1 = torch.arange(importance_BF.shape[1], device=parity_B.device), parity_B[:, None]
        _count(sums["histogram"], (parity_B1 * NUM_BINS + _bins(importance_BF)) * len(every_F) + every_F)
        strongest_BK = importance_BF.topk(self._ranks[-1]).indices
        for place, rank in enumerate(self._ranks):
            _count(sums["hits"], (parity_B1 * len(self._ranks) + place) * len(every_F) + strongest_BK[:, :rank])
        share = RELEASED_FFN_SHARE if seen.active_BLN is not None else RELEASED_ATTENTION_SHARE
        sums["released"].index_add_(0, parity_B, _strongest(seen.released_BLR, share).int())
        if seen.active_BLN is not None:
            sums["active"].index_add_(0, parity_B, seen.active_BLN)

    def first_wrong(self) -> tuple[int, int] | None:
        """Return the first layer of which an importance is not finite, and its first window, counted as they were added."""
        for layer, finite_W in enumerate(torch.cat(self._layer_is_finite).T.tolist() if self._layer_is_finite else ()):
            if not all(finite_W):
                return layer, finite_W.index(False)
        return None

    def statistics(self) -> SiteStatistics:
        """Return the sums on the host."""
        return SiteStatistics(**{name: _to_host(value) for name, value in self._sums.items()})


def _count(counts: Tensor, index: Tensor) -> None:
    """Add 1 in place at each flat index; an index may occur several times."""
    counts.view(-1).scatter_add_(0, index.flatten(), counts.new_ones(1).expand(index.numel()))


def _bins(importance: Tensor) -> Tensor:
    """Return the bin of each value as `statistics.bin_position` has it; what is not a number lies in some bin."""
    position = (importance.double().log2() - LOWEST_EXPONENT) * BINS_PER_OCTAVE
    return position.nan_to_num_(0, NUM_BINS - 1, 0).clamp_(0, NUM_BINS - 1).long()


def _strongest(score_BLR: Tensor, share: float) -> Tensor:
    """Return the mask of the strongest share of each layer."""
    least = score_BLR.shape[2] - max(1, round(share * score_BLR.shape[2]))
    return score_BLR >= score_BLR.kthvalue(least + 1, dim=2, keepdim=True).values


def _to_host(values: Tensor) -> NDArray[Any]:
    """Return a tensor's values on the host; of a GPU's histograms only the bins that hold something are moved."""
    if on_processor(values) or values.ndim < 4:
        return values.cpu().numpy()
    host, used_PH = np.zeros(values.shape, values[:0].cpu().numpy().dtype), values.flatten(2).any(2)
    host[used_PH.cpu().numpy()] = values[used_PH].cpu().numpy()
    return host
