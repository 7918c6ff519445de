"""Additive statistics of neuron importance: one pass over text fills them, every method and threshold reads them.

Of each language, kind of site, layer and neuron they hold, over windows of equal token count, the sum, the sum of
squares and a logarithmic histogram of Imp (Zhao et al. 2024, arXiv 2402.18815, section 2), how often the neuron was
among the strongest of its kind, and how often its gate was open (LAPE: Tang et al. 2024, arXiv 2402.16438). Windows of
even and odd number are apart, so that the two halves show how stable a selection is. Everything merges by addition, in
any order.

Shapes: P = 2 parities, L layers, N neurons, H histogram bins, K ranks, R indices that the released PLND code scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from sea_ray.artifacts import read_json, write_json
from sea_ray.errors import DataError
from sea_ray.neurons.config import SiteKind

NUM_BINS = 64
LOWEST_EXPONENT = -20.0
BINS_PER_OCTAVE = 2
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def bin_position(importance: NDArray[np.floating]) -> Floats:
    """Return where values lie on the histogram's axis: bin h holds positions h to h + 1, the outer bins what is beyond.

    Bins are half octaves from 2^-20 to 2^12; the axis is fixed so that any two histograms add.

    Args:
        importance: Imp, not negative, any shape.
    """
    with np.errstate(divide="ignore"):
        position = (np.log2(importance.astype(np.float64)) - LOWEST_EXPONENT) * BINS_PER_OCTAVE
    return np.clip(position, 0, np.nextafter(NUM_BINS, 0))


@dataclass(frozen=True, kw_only=True)
class SiteStatistics:
    """The sums of one language at one kind of site."""

    windows: Counts
    """Windows seen, [P]."""
    tokens: Counts
    """Tokens seen, [P]."""
    total: Floats
    """Sum of Imp over windows, [P, L, N]."""
    squares: Floats
    """Sum of Imp^2 over windows, [P, L, N]."""
    histogram: NDArray[np.int32]
    """Windows per bin of Imp, [P, H, L, N]."""
    hits: NDArray[np.int32]
    """Windows in which the neuron was among the k strongest of its kind in the whole model, [P, K, L, N]."""
    released: NDArray[np.int32]
    """Windows in which an index was among the strongest of its layer by the released code's score, [P, L, R]; R is d_mlp
    for ffn, the width of all query heads for v, q and k alike."""
    active: Counts
    """Tokens at which silu(gate) > 0, [P, L, N]; empty for sites that have no gate."""

    @staticmethod
    def zeros(num_layers: int, num_neurons: int, num_ranks: int, gated: bool, *, num_released: int) -> SiteStatistics:
        """Return the statistics of nothing.

        Args:
            num_layers, num_neurons: L and N.
            num_ranks: K, at how many k hits are counted.
            gated: whether the site has a gate whose openings are counted.
            num_released: R.
        """
        shape = (2, num_layers, num_neurons)
        return SiteStatistics(
            windows=np.zeros(2, np.int64),
            tokens=np.zeros(2, np.int64),
            total=np.zeros(shape),
            squares=np.zeros(shape),
            histogram=np.zeros((2, NUM_BINS, *shape[1:]), np.int32),
            hits=np.zeros((2, num_ranks, *shape[1:]), np.int32),
            released=np.zeros((2, num_layers, num_released), np.int32),
            active=np.zeros(shape if gated else (2, 0, 0), np.int64),
        )

    def __add__(self, other: SiteStatistics) -> SiteStatistics:
        return SiteStatistics(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def half(self, parity: int) -> SiteStatistics:
        """Return the statistics of the even (0) or odd (1) windows alone."""
        keep = np.arange(2) == parity
        return SiteStatistics(
            **{
                name: value * keep.reshape(-1, *[1] * (value.ndim - 1)).astype(value.dtype)
                for name, value in vars(self).items()
            }
        )

    @property
    def num_windows(self) -> int:
        """Windows of both parities."""
        return int(self.windows.sum())

    @property
    def mean(self) -> Floats:
        """Mean Imp over windows, [L, N]."""
        return self.total.sum(0) / max(1, self.num_windows)

    @property
    def probability(self) -> Floats:
        """Share of tokens at which the gate was open: p_k of LAPE (arXiv 2402.16438, section 2.2), [L, N]."""
        return self.active.sum(0) / max(1, int(self.tokens.sum()))

    def share_at_least(self, threshold: float) -> Floats:
        """Return the share of windows whose Imp is at least `threshold`, [L, N].

        Inside the bin that holds the threshold, windows count by their share of the bin on the logarithmic axis, so a
        share of exactly 1 needs that bin to be empty.

        Args:
            threshold: eps on Imp.
        """
        position = float(bin_position(np.array(threshold)))
        lower = int(position)
        histogram_HLN = self.histogram.sum(0)
        windows_LN = histogram_HLN[lower + 1 :].sum(0) + (lower + 1 - position) * histogram_HLN[lower]
        return windows_LN / max(1, self.num_windows)


@dataclass(frozen=True, kw_only=True)
class ImportanceStats:
    """The statistics of several languages at several kinds of sites; an artifact of one NPZ and one JSON file."""

    window_tokens: int
    """Tokens of each window; Imp grows with it, so only equal lengths compare."""
    ranks: Mapping[SiteKind, tuple[int, ...]]
    """Kind of site -> the k at which hits are counted, ascending."""
    parts: Mapping[tuple[str, SiteKind], SiteStatistics]
    """(language, kind of site) -> sums."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages, in order of first appearance."""
        return tuple(dict.fromkeys(language for language, _ in self.parts))

    @property
    def sites(self) -> tuple[SiteKind, ...]:
        """Kinds of sites, in order of first appearance."""
        return tuple(self.ranks)

    def __getitem__(self, key: tuple[str, SiteKind]) -> SiteStatistics:
        return self.parts[key]

    def __add__(self, other: ImportanceStats) -> ImportanceStats:
        """Return the statistics of both shards' windows.

        Raises:
            DataError: the shards were measured with other windows, ranks or sites.
        """
        if (self.window_tokens, dict(self.ranks)) != (other.window_tokens, dict(other.ranks)):
            raise DataError(
                f"importance statistics do not add: windows of {self.window_tokens} and {other.window_tokens} tokens, "
                f"ranks {dict(self.ranks)} and {dict(other.ranks)}; measure all shards with one detection config and "
                "one model"
            )
        parts = dict(self.parts)
        for key, part in other.parts.items():
            parts[key] = parts[key] + part if key in parts else part
        return ImportanceStats(window_tokens=self.window_tokens, ranks=self.ranks, parts=parts)

    def half(self, parity: int) -> ImportanceStats:
        """Return the statistics of the even (0) or odd (1) windows alone."""
        parts = {key: part.half(parity) for key, part in self.parts.items()}
        return ImportanceStats(window_tokens=self.window_tokens, ranks=self.ranks, parts=parts)

    def save(self, folder: Path) -> None:
        """Write importance.npz and importance.json into a folder that exists."""
        arrays = {
            f"{language}/{site}/{name}": value
            for (language, site), part in self.parts.items()
            for name, value in vars(part).items()
        }
        # Histograms are mostly zero: compressed, the demo's 16 MB become less than 1.
        np.savez_compressed(folder / "importance.npz", **arrays)
        write_json(
            folder / "importance.json",
            {"window_tokens": self.window_tokens, "ranks": self.ranks, "parts": [list(key) for key in self.parts]},
        )

    @classmethod
    def load(cls, folder: Path) -> ImportanceStats:
        """Read what `save` wrote."""
        record = read_json(folder / "importance.json")
        fields = SiteStatistics.__dataclass_fields__
        with np.load(folder / "importance.npz", allow_pickle=False) as arrays:
            parts = {
                (language, cast(SiteKind, site)): SiteStatistics(
                    **{name: arrays[f"{language}/{site}/{name}"] for name in fields}
                )
                for language, site in record["parts"]
            }
        ranks = {cast(SiteKind, site): tuple(ks) for site, ks in record["ranks"].items()}
        return cls(window_tokens=record["window_tokens"], ranks=ranks, parts=parts)
