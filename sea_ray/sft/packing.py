"""Conversations packed whole into sequences of a fixed length, one language per sequence.

Shape letters: S sequences, T tokens of a sequence, N tokens of a conversation.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from sea_ray.errors import DataError
from sea_ray.sft.conversation import Conversation
from sea_ray.sft.rendering import Rendered, render_all
from sea_ray.training.sequences import SequenceSet


@dataclass(frozen=True)
class PackedSources:
    """The sequences of each source and what did not fit."""

    sequences: Mapping[str, SequenceSet]
    num_conversations: Mapping[str, int]
    """Conversations packed, by source."""
    num_too_long: Mapping[str, int]
    """Conversations left out because they are longer than a sequence, by source."""

    def filled_frac(self, source: str) -> float:
        """Return the share of a source's positions that hold a token."""
        return float((self.sequences[source].segment_ids_ST > 0).mean())


def pack_sources(
    sources: Mapping[str, Sequence[Conversation]], tokenizer: PreTrainedTokenizerBase, length: int
) -> PackedSources:
    """Return each source's conversations as packed sequences; those longer than a sequence are left out and counted.

    Args:
        sources: conversations by source, such as a language.
        tokenizer: renders them.
        length: tokens of a sequence.

    Raises:
        DataError: no conversation of a source fits.
    """
    sequences, kept, too_long = {}, {}, {}
    for source, conversations in sources.items():
        rendered = render_all(conversations, tokenizer)
        fitting = [item for item in rendered if len(item) <= length]
        if not fitting:
            shortest = min(map(len, rendered), default=0)
            found = f"none of the {len(rendered)} conversations of {source!r} fits into {length} tokens"
            raise DataError(f"{found} (shortest {shortest}): raise sequence_tokens or check the source")
        sequences[source] = pack(fitting, length, _pad_id(tokenizer))
        kept[source], too_long[source] = len(fitting), len(rendered) - len(fitting)
    return PackedSources(sequences, kept, too_long)


def pack_conversations(
    conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerBase, length: int
) -> SequenceSet:
    """Return conversations of one language as packed sequences.

    Raises:
        DataError: a conversation is longer than a sequence, or they are of several languages.
    """
    return pack(render_all(conversations, tokenizer), length, _pad_id(tokenizer))


def pack(rendered: Sequence[Rendered], length: int, pad_id: int) -> SequenceSet:
    """Return rendered conversations as sequences: each goes, longest first, where it leaves the least room (best fit).

    Best-fit decreasing needs at most 11/9 of the fewest possible sequences (Johnson 1973).

    Args:
        rendered: conversations of one language, none longer than a sequence.
        length: tokens of a sequence.
        pad_id: fills the room that is left.

    Raises:
        DataError: a conversation is longer than a sequence, or they are of several languages, or there are none.
    """
    languages = {item.language for item in rendered}
    if len(languages) != 1:
        raise DataError(
            f"conversations of {sorted(languages) or 'no language'} in one pack; a sequence has one language"
        )
    places: list[list[Rendered]] = []
    room: list[tuple[int, int]] = []
    for item in sorted(rendered, key=len, reverse=True):
        if len(item) > length:
            raise DataError(f"a conversation of {len(item)} tokens is longer than a sequence of {length}: leave it out")
        found = bisect_left(room, (len(item), 0))
        if found == len(room):
            places.append([])
            room.append((length, len(places) - 1))
        left, place = room.pop(found)
        places[place].append(item)
        insort(room, (left - len(item), place))
    return _laid_out(places, length, pad_id)


def _laid_out(places: Sequence[Sequence[Rendered]], length: int, pad_id: int) -> SequenceSet:
    shape = (len(places), length)
    input_ids_ST = np.full(shape, pad_id, np.int32)
    segment_ids_ST = np.zeros(shape, np.int32)
    loss_mask_ST = np.zeros(shape, bool)
    for row, items in enumerate(places):
        start = 0
        for segment, item in enumerate(items, start=1):
            span = slice(start, start + len(item))
            input_ids_ST[row, span], loss_mask_ST[row, span] = item.ids, item.loss_mask
            segment_ids_ST[row, span] = segment
            start = span.stop
    return SequenceSet(input_ids_ST=input_ids_ST, segment_ids_ST=segment_ids_ST, loss_mask_ST=loss_mask_ST)


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0)
