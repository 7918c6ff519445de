"""Keys and values of texts in progress, side by side in one buffer, each from its own first token on.

Transformers' own caches end at the same column in every row. Here each row has its own length, so that a prompt joins answers
that are under way, or goes on from a prefix that is known, without anything being moved.

Shape letters: L layers, B rows, H key-value heads, C columns of the buffer, D head size, S new tokens, T columns in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

COLUMNS = 64
"""By so many the buffer grows at least."""


class KeyValues(Cache):
    """A cache whose rows are extended by some tokens each."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Args: model: in evaluation mode; every layer attends to the whole context."""
        super().__init__(layers=[_Layer(self, number) for number in range(model.config.num_hidden_layers)])
        self._model = model
        self.lengths: list[int] = []
        """Tokens of each row."""
        self._buffer: torch.Tensor | None = None  # [L, 2, B, H, C, D]
        self._starts_B: torch.Tensor | None = None  # of a pass under way; None: every row is new
        self._end = 0

    def __len__(self) -> int:
        """Return the rows."""
        return len(self.lengths)

    def add(self, parts: Sequence[torch.Tensor] = ()) -> None:
        """Let a row in.

        Args:
            parts: its keys and values so far, one after the other along the columns, each [L, 2, H, columns, D].
        """
        length = sum(part.shape[3] for part in parts)
        row = len(self.lengths)
        self.lengths.append(length)
        if parts:
            self._reserve(length, parts[0])
            assert self._buffer is not None
            column = 0
            for part in parts:
                self._buffer[:, :, row, :, column:column + part.shape[3]] = part
                column += part.shape[3]

    def read(self, row: int, start: int = 0, end: int | None = None) -> torch.Tensor:
        """Return a view of a row's keys and values between two columns, [L, 2, H, columns, D]."""
        assert self._buffer is not None
        return self._buffer[:, :, row, :, start:self.lengths[row] if end is None else end]

    def keep(self, rows: Sequence[int]) -> None:
        """Let the other rows go."""
        self.lengths = [self.lengths[row] for row in rows]
        if not rows:
            self._buffer = None
        elif self._buffer is not None:
            index = torch.tensor(list(rows), device=self._buffer.device)
            self._buffer = self._buffer[..., :_rounded(max(self.lengths)), :].index_select(2, index)

    def advance(self, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """Extend each row by its tokens.

        Args:
            ids: of each row at least one; fewer than another's are padded on the right, where nothing looks.

        Returns:
            The last hidden states, [B, S, d_model]; behind a row's own tokens they mean nothing.
        """
        device = self._model.device
        counts = [len(own) for own in ids]
        most = max(counts)
        ids_BS = torch.tensor([[*own, *(0,) * (most - len(own))] for own in ids], device=device)
        starts_B = torch.tensor(self.lengths, device=device)
        last_B1 = (starts_B + torch.tensor(counts, device=device) - 1)[:, None]
        position_BS = torch.minimum(starts_B[:, None] + torch.arange(most, device=device), last_B1)
        self._end = max(self.lengths) + most
        self._starts_B = starts_B if any(self.lengths) else None
        output = self._model.base_model(input_ids=ids_BS, attention_mask=self._mask(starts_B, most), position_ids=position_BS,
                                        past_key_values=self, use_cache=True)
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]
        hidden_BSD: torch.Tensor = output.last_hidden_state
        return hidden_BSD

    def _mask(self, starts_B: torch.Tensor, most: int) -> torch.Tensor | None:
        """Return which columns each new token sees, [B, 1, S, T]; None where the kernel's own causal rule says the same."""
        if self._starts_B is None or (most == 1 and len(set(self.lengths)) == 1):
            return None
        columns_T, own_S = torch.arange(self._end, device=starts_B.device), torch.arange(most, device=starts_B.device)
        return (columns_T <= (starts_B[:, None] + own_S)[..., None])[:, None]

    def write(self, layer: int, keys_BHSD: torch.Tensor, values_BHSD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Put a layer's new keys and values in their places; return those in use, [B, H, T, D] each."""
        count = keys_BHSD.shape[2]
        if layer == 0:
            self._reserve(self._end, keys_BHSD)
        assert self._buffer is not None
        both_BHCD = self._buffer[layer, :, :len(self.lengths)]
        if self._starts_B is None:
            both_BHCD[0, :, :, :count], both_BHCD[1, :, :, :count] = keys_BHSD, values_BHSD
            return keys_BHSD, values_BHSD
        rows_B1 = torch.arange(len(self.lengths), device=keys_BHSD.device)[:, None]
        columns_BS = self._starts_B[:, None] + torch.arange(count, device=keys_BHSD.device)
        for own_BHCD, new_BHSD in zip(both_BHCD, (keys_BHSD, values_BHSD), strict=True):
            own_BHCD[rows_B1, :, columns_BS] = new_BHSD.transpose(1, 2)
        return both_BHCD[0, :, :, :self._end], both_BHCD[1, :, :, :self._end]

    def _reserve(self, columns: int, like: torch.Tensor) -> None:
        """Make room for all rows up to a column.

        Args:
            columns: so many.
            like: of the right type and device, [..., H, any, D].
        """
        rows, old = len(self.lengths), self._buffer
        if old is not None and old.shape[2] >= rows and old.shape[4] >= columns:
            return
        room, width = (0, 0) if old is None else (old.shape[2], old.shape[4])
        if room < rows:
            room = rows if old is None else max(rows, 2 * room)
        if width < columns:
            width = _rounded(columns)
        # Zeros, since a masked column may not hold what is no number: nothing times that is no number either.
        self._buffer = like.new_zeros(len(self.layers), 2, room, like.shape[-3], width, like.shape[-1])
        if old is not None:
            self._buffer[:, :, :old.shape[2], :, :old.shape[4]] = old


class _Layer(CacheLayerMixin):
    """A layer's view of the rows, as transformers asks for it."""

    def __init__(self, rows: KeyValues, number: int) -> None:
        super().__init__()
        self._rows, self._number = rows, number

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing is to be prepared."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
               ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take the new tokens' keys and values; return all that are in use."""
        return self._rows.write(self._number, key_states, value_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the columns and the first of them; asked for only where every row is new or as long as the others."""
        return max(self._rows.lengths) + query_length, 0

    def get_seq_length(self) -> int:
        """Return the tokens of the longest row."""
        return max(self._rows.lengths, default=0)

    def get_max_length(self) -> int:
        """Return -1: the buffer grows."""
        return -1


def _rounded(columns: int) -> int:
    """Return a size that isn't outgrown at the next step: half as much again, in whole units."""
    return -(-columns * 3 // 2 // COLUMNS) * COLUMNS if columns > COLUMNS else COLUMNS
