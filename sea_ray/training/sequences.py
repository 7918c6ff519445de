"""Packed single-language sequences of a fixed length: what a mixture draws and a model trains on.

Shape letters: S sequences, T tokens of a sequence, B sequences of a batch, N loss targets of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sea_ray.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class SequenceSet:
    """Sequences that hold one or more documents each; a document is called a segment here.

    Attention and positions never cross from one segment to the next.
    """

    input_ids_ST: np.ndarray
    """Token ids, int32."""
    segment_ids_ST: np.ndarray
    """Number of the document inside the sequence, from 1, growing; 0 is padding, at the end only. int32."""
    loss_mask_ST: np.ndarray
    """True where the token is a loss target, predicted from the one before it in its segment."""

    def __post_init__(self) -> None:
        """Check that the three agree and no target opens a segment."""
        shape = self.input_ids_ST.shape
        if len(shape) != 2 or self.segment_ids_ST.shape != shape or self.loss_mask_ST.shape != shape:
            raise DataError(f"sequences have shapes {shape}, {self.segment_ids_ST.shape}, {self.loss_mask_ST.shape}; "
                            "the same [sequences, tokens] is needed for ids, segments and loss mask")
        segment, before = self.segment_ids_ST, np.zeros_like(self.segment_ids_ST)
        before[:, 1:] = segment[:, :-1]
        if (self.loss_mask_ST & ((segment == 0) | (segment != before))).any():
            raise DataError("a loss target is padding or the first token of its document, which nothing predicts")

    @property
    def num_sequences(self) -> int:
        """Number of sequences."""
        return self.input_ids_ST.shape[0]

    @property
    def length(self) -> int:
        """Tokens of a sequence, padding included."""
        return self.input_ids_ST.shape[1]

    @property
    def num_targets(self) -> int:
        """Number of loss targets."""
        return int(self.loss_mask_ST.sum())

    def select(self, ids: Sequence[int] | np.ndarray) -> SequenceSet:
        """Return the sequences of the given numbers, in that order."""
        rows = np.asarray(ids, np.int64)
        return SequenceSet(input_ids_ST=self.input_ids_ST[rows], segment_ids_ST=self.segment_ids_ST[rows],
                           loss_mask_ST=self.loss_mask_ST[rows])

    def without_openings(self, num_tokens: int) -> SequenceSet:
        """Return the same sequences with the first tokens of each segment as context only.

        What opens a document says in which language it is. A model that trains on one language alone would learn first
        that all text is in that language, which helps no sentence and harms every other language.

        Args:
            num_tokens: targets at the opening of a segment that are dropped; 0 drops none.
        """
        later = np.asarray(positions(self.segment_ids_ST)) > num_tokens
        return SequenceSet(input_ids_ST=self.input_ids_ST, segment_ids_ST=self.segment_ids_ST,
                           loss_mask_ST=self.loss_mask_ST & later)

    def save(self, folder: Path) -> None:
        """Write the arrays into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("input_ids_ST", "segment_ids_ST", "loss_mask_ST"):
            np.save(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> SequenceSet:
        """Return the sequences of a folder, mapped from disk."""
        return cls(**{name: np.load(folder / f"{name}.npy", mmap_mode="r")
                      for name in ("input_ids_ST", "segment_ids_ST", "loss_mask_ST")})


def pack_corpus(tokens: np.ndarray, eos_id: int, length: int) -> SequenceSet:
    """Return a corpus as packed sequences, in its order; only the last one is padded.

    A document's segment opens with an end token as context, so that its first token is learned as what follows an end
    token; a document cut at a sequence's end goes on in the next one after a repeat of its last token. So every token
    of the corpus, end tokens included, is a loss target exactly once.

    Args:
        tokens: 1-D ids, each document followed by eos_id.
        eos_id: token that ends a document.
        length: tokens of a sequence.

    Raises:
        ConfigError: if the length is below 2.
        DataError: if there are no tokens.
    """
    if length < 2:
        raise ConfigError("sequence_tokens", f"{length} is below 2: a target needs a token before it")
    if len(tokens) == 0:
        raise DataError("there are no tokens to pack: the language's corpus is empty")
    tokens = np.asarray(tokens)
    ends = np.flatnonzero(tokens == eos_id) + 1
    if len(ends) == 0 or ends[-1] != len(tokens):
        ends = np.append(ends, len(tokens))
    # Piece = (sequence, offset in it, first target, end): placed with one context token before it.
    pieces, sequence, offset, start = [], 0, 0, 0
    for end in ends.tolist():
        while start < end:
            if length - offset < 2:
                sequence, offset = sequence + 1, 0
            stop = min(end, start + length - offset - 1)
            pieces.append((sequence, offset, start, stop))
            offset += stop - start + 1
            start = stop
    return _laid_out(tokens, eos_id, length, pieces)


def _laid_out(tokens: np.ndarray, eos_id: int, length: int, pieces: list[tuple[int, int, int, int]]) -> SequenceSet:
    shape = (pieces[-1][0] + 1, length)
    input_ids_ST = np.full(shape, eos_id, np.int32)
    segment_ids_ST = np.zeros(shape, np.int32)
    loss_mask_ST = np.zeros(shape, bool)
    previous, segment = -1, 0
    for sequence, offset, start, stop in pieces:
        segment = segment + 1 if sequence == previous else 1
        previous = sequence
        place = slice(offset, offset + 1 + stop - start)
        input_ids_ST[sequence, place] = np.concatenate([tokens[start - 1:start] if start else [eos_id],
                                                        tokens[start:stop]])
        segment_ids_ST[sequence, place] = segment
        loss_mask_ST[sequence, offset + 1:place.stop] = True
    return SequenceSet(input_ids_ST=input_ids_ST, segment_ids_ST=segment_ids_ST, loss_mask_ST=loss_mask_ST)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Sequences as a model takes them."""

    input_ids_BT: torch.Tensor
    """Token ids, int64."""
    position_ids_BT: torch.Tensor
    """Positions, from 0 in each segment: transformers reads the document borders from the restarts."""
    predictor_N: torch.Tensor
    """Flat index b * T + t of the token that each loss target is predicted from."""
    target_N: torch.Tensor
    """Token id of each loss target."""


def collate(sources: Mapping[str, SequenceSet], samples: Sequence[tuple[str, int]], device: torch.device) -> Batch:
    """Return samples as one batch, cut after the longest sequence's last token.

    Args:
        sources: name -> sequences, all of one length.
        samples: (source, sequence) pairs.
        device: where the tensors go.
    """
    ids_BT, segment_BT, loss_BT = (
        np.stack([getattr(sources[name], field)[number] for name, number in samples])
        for field in ("input_ids_ST", "segment_ids_ST", "loss_mask_ST"))
    used = max(2, int((segment_BT != 0).any(axis=0).sum()))
    ids_BT, segment_BT, loss_BT = ids_BT[:, :used], segment_BT[:, :used], loss_BT[:, :used]
    rows, columns = np.nonzero(loss_BT)
    arrays = (ids_BT.astype(np.int64), positions(segment_BT), rows * used + columns - 1,
              ids_BT[rows, columns].astype(np.int64))
    ids, places, predictor, target = (torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays)
    return Batch(input_ids_BT=ids, position_ids_BT=places, predictor_N=predictor, target_N=target)


def positions(segment_ids_BT: np.ndarray) -> np.ndarray:
    """Return each token's place in its segment, from 0; padding is a segment of its own."""
    column_T = np.arange(segment_ids_BT.shape[1])
    opens_BT = np.ones(segment_ids_BT.shape, bool)
    opens_BT[:, 1:] = segment_ids_BT[:, 1:] != segment_ids_BT[:, :-1]
    return column_T - np.maximum.accumulate(np.where(opens_BT, column_T, 0), axis=1)
