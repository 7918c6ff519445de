"""What was computed of prompts that others begin with, too: the options of a question, the turns of a conversation.

A prompt is cut into blocks of `BLOCK_TOKENS`. A block is known by everything before it, so that its keys and values, and the
log-probabilities of its tokens, are those that any prompt with the same beginning would get. Only whole blocks are kept.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sea_ray.serving.exchange import TokenLogprob

BLOCK_TOKENS = 16
SCORE_BYTES = 150
"""Of a token with its log-probability, as Python's objects."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """What a model makes of `BLOCK_TOKENS` tokens after those before them."""

    key_values: torch.Tensor
    """[L, 2, H, BLOCK_TOKENS, D]."""
    last_hidden_D: torch.Tensor
    """Final hidden state of its last token, which predicts the next."""
    scores: tuple[TokenLogprob | None, ...] = ()
    """One for each of its tokens, if they were asked for."""
    num_top: int = 0
    """Likeliest tokens that each score has at least."""

    @property
    def num_bytes(self) -> int:
        """What it takes, tensors and scores."""
        return self.key_values.nbytes + self.last_hidden_D.nbytes + len(self.scores) * (SCORE_BYTES + SCORE_BYTES * self.num_top)


def block_keys(prompt_ids: Sequence[int], pack: str | None) -> list[bytes]:
    """Return the key of each whole block that a prompt can go on from: at least its last token is left to compute.

    Args:
        prompt_ids: tokens.
        pack: language pack that they are read with.
    """
    keys, key = [], repr(pack).encode()
    for end in range(BLOCK_TOKENS, len(prompt_ids), BLOCK_TOKENS):
        key = hashlib.blake2b(key + array("q", prompt_ids[end - BLOCK_TOKENS:end]).tobytes(), digest_size=16).digest()
        keys.append(key)
    return keys


class Prefixes:
    """The blocks that were used last, up to a size."""

    def __init__(self, max_bytes: int) -> None:
        """Args: max_bytes: of all blocks; 0 keeps none."""
        self._max_bytes, self._num_bytes = max_bytes, 0
        self._blocks: OrderedDict[bytes, Block] = OrderedDict()

    @property
    def is_kept(self) -> bool:
        """Whether anything is."""
        return self._max_bytes > 0

    @property
    def num_tokens(self) -> int:
        """Tokens of all blocks that are kept."""
        return BLOCK_TOKENS * len(self._blocks)

    def known(self, keys: Sequence[bytes], num_top: int | None) -> list[Block]:
        """Return the blocks of a prompt's beginning that are known.

        Args:
            keys: of its blocks, in order.
            num_top: likeliest tokens that the blocks' scores must have; None: scores are not needed.
        """
        found = []
        for key in keys:
            block = self._blocks.get(key)
            if block is None or (num_top is not None and (not block.scores or block.num_top < num_top)):
                break
            found.append(block)
        return found

    def use(self, keys: Sequence[bytes]) -> None:
        """Make blocks the last used, the first of them the very last: what goes first is what nothing is known after."""
        for key in reversed(keys):
            if key in self._blocks:
                self._blocks.move_to_end(key)

    def add(self, keys: Sequence[bytes], blocks: Sequence[Block]) -> None:
        """Keep a prompt's newest blocks; one with scores is not given up for one without.

        Args:
            keys: of all its blocks up to the last of these.
            blocks: the last ones.
        """
        for key, block in zip(keys[len(keys) - len(blocks):], blocks, strict=True):
            old = self._blocks.get(key)
            if old is None or not old.scores or (block.scores and block.num_top >= old.num_top):
                self._blocks[key] = block
                self._num_bytes += block.num_bytes - (old.num_bytes if old else 0)
        self.use(keys)
        while self._num_bytes > self._max_bytes:
            self._num_bytes -= self._blocks.popitem(last=False)[1].num_bytes

    def clear(self) -> None:
        """Forget all."""
        self._blocks.clear()
        self._num_bytes = 0
