"""Keys and values of texts in progress, side by side in one buffer, each from its own first token on.

Transformers' own caches end at the same column in every row. Here each row has its own length, so that a prompt joins answers
that are under way, or goes on from a prefix that is known, without anything being moved.

Steps of one token a row can go over the whole buffer instead, places without a row included: then shapes stay the same while rows
come and go, and on a GPU a step is recorded once (step_graph.py).

Shape letters: L layers, B rows, H key-value heads, C columns of the buffer, D head size, S new tokens, T columns in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from sea_ray.serving.step_graph import StepGraph

COLUMNS = 64
"""By so many the buffer grows at least."""
SLACK = 4
"""A buffer for whole steps is kept until so much of its rows or columns would be empty."""
IDLE_BYTES = 1 << 28
"""A larger buffer for whole steps is let go when its last row goes."""


class KeyValues(Cache):
    """A cache whose rows are extended by some tokens each."""

    def __init__(self, model: PreTrainedModel, *, whole_steps: bool = False) -> None:
        """Make an empty cache.

        Args:
            model: in evaluation mode; every layer attends to the whole context.
            whole_steps: whether steps of one token a row go over the whole buffer.
        """
        super().__init__(layers=[_Layer(self, number) for number in range(model.config.num_hidden_layers)])
        self._model = model
        self.lengths: list[int] = []
        """Tokens of each row."""
        self._buffer: torch.Tensor | None = None  # [L, 2, B, H, C, D]
        self._starts_B: torch.Tensor | None = None  # of a pass under way; None: every row is new
        self._end = 0
        self._whole_steps = whole_steps
        self._step: tuple[torch.Tensor, StepGraph] | None = None  # the buffer that it was recorded over, and the step

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
        buffer = self._buffer
        if buffer is None:
            return
        if not rows:
            if not self._whole_steps or buffer.nbytes > IDLE_BYTES:
                self._buffer = self._step = None
            return
        index, width = torch.tensor(list(rows), device=buffer.device), _rounded(max(self.lengths))
        kept = buffer[..., :width, :].index_select(2, index)
        if self._whole_steps and SLACK * len(rows) >= buffer.shape[2] and SLACK * width >= buffer.shape[4]:
            buffer[:, :, :len(rows), :, :kept.shape[4]] = kept
        else:
            self._buffer, self._step = kept, None

    def advance(self, ids: Sequence[Sequence[int]], *, whole: bool = True) -> torch.Tensor:
        """Extend each row by its tokens.

        Args:
            ids: of each row at least one; fewer than another's are padded on the right, where nothing looks.
            whole: whether a step of one token a row may go over the whole buffer, if this cache does that.

        Returns:
            The last hidden states, [B, S, d_model]; behind a row's own tokens they mean nothing. A step's hold until the next.
        """
        device = self._model.device
        counts = [len(own) for own in ids]
        most = max(counts)
        if self._whole_steps and whole and most == 1 and all(self.lengths):
            return self._advance_whole([own[0] for own in ids])
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

    def _advance_whole(self, tokens: Sequence[int]) -> torch.Tensor:
        """Extend each row by a token, in a pass over the whole buffer."""
        assert self._buffer is not None
        self._reserve(max(self.lengths) + 1, self._buffer)
        buffer, rows = self._buffer, len(self.lengths)
        empty = [0] * (buffer.shape[2] - rows)
        if self._step is None or self._step[0] is not buffer:
            self._step = buffer, StepGraph(self._pass_whole, buffer.shape[2], buffer.device)
        hidden_B1D = self._step[1]([*tokens, *empty], [*self.lengths, *empty])
        self.lengths = [length + 1 for length in self.lengths]
        return hidden_B1D[:rows]

    def _pass_whole(self, ids_B1: torch.Tensor, starts_B: torch.Tensor) -> torch.Tensor:
        """Pass over a token of each place of the buffer; a place without a row reads and writes its own first column."""
        assert self._buffer is not None
        self._starts_B, self._end = starts_B, self._buffer.shape[4]
        seen_BT = torch.arange(self._end, device=starts_B.device) <= starts_B[:, None]
        output = self._model.base_model(input_ids=ids_B1, attention_mask=seen_BT[:, None, None], position_ids=starts_B[:, None],
                                        past_key_values=self, use_cache=True)
        hidden_B1D: torch.Tensor = output.last_hidden_state
        return hidden_B1D

    def _mask(self, starts_B: torch.Tensor, most: int) -> torch.Tensor | None:
        """Return which columns each new token sees, [B, 1, S, T]; None where the kernel's own causal rule says the same."""
        if self._starts_B is None or (most == 1 and len(set(self.lengths)) == 1):
            return None
        columns_T, own_S = torch.arange(self._end, device=starts_B.device), torch.arange(most, device=starts_B.device)
        return (columns_T <= (starts_B[:, None] + own_S)[..., None])[:, None]

    def write(self, layer: int, keys_BHSD: torch.Tensor, values_BHSD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Put a layer's new keys and values in their places; return those in use, [B, H, T, D] each."""
        rows, count = keys_BHSD.shape[0], keys_BHSD.shape[2]
        if layer == 0:
            self._reserve(self._end, keys_BHSD)
        assert self._buffer is not None
        both_BHCD = self._buffer[layer, :, :rows]
        if self._starts_B is None:
            both_BHCD[0, :, :, :count], both_BHCD[1, :, :, :count] = keys_BHSD, values_BHSD
            return keys_BHSD, values_BHSD
        rows_B1 = torch.arange(rows, device=keys_BHSD.device)[:, None]
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
