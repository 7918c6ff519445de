"""Windows of text: what one score of a neuron is taken over.

A window counts the same number of tokens in every language, since Imp grows with their number. Documents shorter than a
window share one, but never see each other. Each piece of a document opens with the token before it, or with the end
token, as the model has learned to read documents; that token, the end tokens and padding never count.

Shapes: W windows, T tokens of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sea_ray.errors import DataError
from sea_ray.neurons.config import DetectionConfig

Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows of one language, in rows that are padded to equal length."""

    input_ids_WT: Ids
    """Token ids."""
    position_ids_WT: Ids
    """Place of a token in its piece of a document, from 0; padding has 0 everywhere."""
    counted_WT: NDArray[np.bool_]
    """Tokens that count."""
    first_document_W: Ids
    """Number of the document, among the language's, that each window begins in."""
    numbers_W: Ids
    """Number of each window among the language's; its parity says in which half of the statistics it counts."""

    def __len__(self) -> int:
        return len(self.input_ids_WT)

    def __getitem__(self, rows: slice) -> Windows:
        return Windows(**{name: value[rows] for name, value in vars(self).items()})

    @property
    def segment_WT(self) -> Ids:  # noqa: N802 - its shape
        """Number of the piece that each token belongs to, growing along the row; every padding token is one of its own."""
        return np.cumsum(self.position_ids_WT == 0, axis=1)

    @classmethod
    def whole(cls, input_ids_WT: NDArray[np.integer], first: int = 0) -> Windows:
        """Return windows of one document each, all of whose tokens count.

        Args:
            input_ids_WT: token ids.
            first: number of the first window.
        """
        rows, length = input_ids_WT.shape
        numbers_W = np.arange(first, first + rows)
        return cls(input_ids_WT=np.asarray(input_ids_WT, np.int64), first_document_W=numbers_W, numbers_W=numbers_W,
                   position_ids_WT=np.tile(np.arange(length), (rows, 1)), counted_WT=np.ones((rows, length), bool))


def cut_windows(tokens: NDArray[np.integer], eos_id: int, config: DetectionConfig, language: str) -> Windows:
    """Return equal, disjoint windows spread evenly over a language's text.

    Args:
        tokens: the text as one row of token ids, each document followed by eos_id.
        eos_id: token that ends a document.
        config: how many windows, how long.
        language: for the message.

    Raises:
        DataError: the text is too short.
    """
    tokens = np.asarray(tokens)
    places = np.flatnonzero(tokens != eos_id)
    available, size = len(places) // config.window_tokens, config.window_tokens
    if available < config.windows_per_language:
        raise DataError(
            f"{language!r} has {len(places):,} tokens, {config.windows_per_language} windows of {size} need "
            f"{config.windows_per_language * size:,}: add text or lower detection.windows_per_language"
        )
    document_of = np.cumsum(tokens == eos_id)
    before = np.append(eos_id, tokens[:-1])
    rows = []
    for number in np.arange(config.windows_per_language) * available // config.windows_per_language:
        place = places[number * size : (number + 1) * size]
        openings = np.flatnonzero(np.append(True, before[place[1:]] == eos_id))
        ids = np.insert(tokens[place], openings, before[place[openings]])
        starts = openings + np.arange(len(openings))
        rows.append((ids, starts, document_of[place[0]]))
    return _padded(rows, eos_id)


def _padded(rows: list[tuple[NDArray[np.integer], Ids, int]], eos_id: int) -> Windows:
    length = max(len(ids) for ids, _, _ in rows)
    input_ids_WT = np.full((len(rows), length), eos_id, np.int64)
    position_ids_WT = np.zeros_like(input_ids_WT)
    counted_WT = np.zeros(input_ids_WT.shape, bool)
    for row, (ids, starts, _) in enumerate(rows):
        used = np.arange(len(ids))
        input_ids_WT[row, : len(ids)] = ids
        position_ids_WT[row, : len(ids)] = used - starts[np.searchsorted(starts, used, side="right") - 1]
        counted_WT[row, : len(ids)] = ~np.isin(used, starts)
    return Windows(input_ids_WT=input_ids_WT, position_ids_WT=position_ids_WT, counted_WT=counted_WT,
                   first_document_W=np.array([document for _, _, document in rows], np.int64),
                   numbers_W=np.arange(len(rows)))
