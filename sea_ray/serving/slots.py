"""The answers in progress: one key-value cache whose rows end at the same column, so that all are extended together.

Shape letters: B rows, H key-value heads, T columns of the cache, L tokens of a prompt, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F
from transformers import DynamicCache, PreTrainedModel


class Slots:
    """A cache that rows join after their prefill and leave when they are done.

    A row shorter than the others has unused columns on its left; masks and positions hide them.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Args: model: in evaluation mode."""
        self._model = model
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._pads: list[int] = []

    def __len__(self) -> int:
        return len(self._pads)

    @property
    def num_columns(self) -> int:
        """Columns of the cache: the tokens of the longest row."""
        return self._layers[0][0].shape[2] if self._layers else 0

    def join(self, cache: DynamicCache, lengths: Sequence[int]) -> None:
        """Take rows from a prefill's cache, in which they begin at the first column.

        Args:
            cache: of the prefill.
            lengths: tokens of each of its rows.
        """
        old = self.num_columns if self._pads else 0
        width = max(old, *lengths)
        layers = []
        for number, layer in enumerate(cache.layers):
            pair = []
            for side, new_BHLD in enumerate((layer.keys, layer.values)):
                rows = [F.pad(new_BHLD[row:row + 1, :, :length], (0, 0, width - length, 0))
                        for row, length in enumerate(lengths)]
                if self._pads:
                    rows.insert(0, F.pad(self._layers[number][side], (0, 0, width - old, 0)))
                pair.append(torch.cat(rows))
            layers.append((pair[0], pair[1]))
        self._layers = layers
        self._pads = [pad + width - old for pad in self._pads] + [width - length for length in lengths]

    def keep(self, rows: Sequence[int]) -> None:
        """Let the other rows go, and the columns that none of the kept ones uses."""
        if not rows:
            self._layers, self._pads = [], []
            return
        pads = [self._pads[row] for row in rows]
        unused = min(pads)
        index = torch.tensor(list(rows), device=self._layers[0][0].device)
        self._layers = [(keys[index, :, unused:], values[index, :, unused:]) for keys, values in self._layers]
        self._pads = [pad - unused for pad in pads]

    def advance(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Extend each row by a token; return the logits of the next one, [B, V], float32."""
        device = self._layers[0][0].device
        pad_B1 = torch.tensor(self._pads, device=device)[:, None]
        columns = self.num_columns
        mask_B11T = None
        if any(self._pads):
            mask_B11T = (torch.arange(columns + 1, device=device) >= pad_B1)[:, None, None]
        cache = DynamicCache(self._layers, config=self._model.config)
        output = self._model(
            input_ids=torch.tensor(token_ids, device=device)[:, None], attention_mask=mask_B11T,
            position_ids=columns - pad_B1, past_key_values=cache, use_cache=True)
        self._layers = [(layer.keys, layer.values) for layer in cache.layers]
        return output.logits[:, -1].float()
