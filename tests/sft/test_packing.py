import random

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from sea_ray.demo import World
from sea_ray.errors import DataError
from sea_ray.sft.conversation import conversation, from_dialogue
from sea_ray.sft.packing import pack, pack_conversations, pack_sources
from sea_ray.sft.rendering import Rendered, render_all


def made(length: int, first: int = 0, language: str = "en") -> Rendered:
    mask = np.arange(length) >= length // 2
    return Rendered(np.arange(first, first + length, dtype=np.int32), mask, language, "test")


def segments(packed) -> list[tuple[tuple[int, ...], tuple[bool, ...]]]:
    """Return every segment's ids and mask, read back slowly."""
    found = []
    for ids, numbers, mask in zip(packed.input_ids_ST, packed.segment_ids_ST, packed.loss_mask_ST, strict=True):
        for number in range(1, numbers.max() + 1):
            found.append((tuple(ids[numbers == number].tolist()), tuple(mask[numbers == number].tolist())))
    return found


def test_every_conversation_is_packed_whole_exactly_once() -> None:
    rng = random.Random(0)
    items = [made(rng.randint(2, 60), first=1000 * i) for i in range(300)]
    packed = pack(items, 64, pad_id=7)
    assert sorted(segments(packed)) == sorted((tuple(i.ids.tolist()), tuple(i.loss_mask.tolist())) for i in items)
    padding = packed.segment_ids_ST == 0
    assert (packed.input_ids_ST[padding] == 7).all()
    assert not packed.loss_mask_ST[padding].any()


def test_best_fit_stays_within_its_bound_of_the_fewest_sequences() -> None:
    rng = random.Random(1)
    items = [made(rng.randint(5, 100)) for _ in range(500)]
    fewest = sum(map(len, items)) / 128
    assert pack(items, 128, pad_id=0).num_sequences <= 11 / 9 * fewest + 4


def test_conversations_that_fill_sequences_exactly_leave_no_room() -> None:
    packed = pack([made(n) for n in (10, 6, 12, 4, 16, 8, 8)], 16, pad_id=0)
    assert packed.num_sequences == 4
    assert (packed.segment_ids_ST > 0).all()


def test_packing_does_not_depend_on_the_order_of_equal_lengths_only_on_the_input() -> None:
    items = [made(5 + i % 9, first=100 * i) for i in range(40)]
    one, other = pack(items, 32, pad_id=0), pack(items, 32, pad_id=0)
    assert (one.input_ids_ST == other.input_ids_ST).all()


def test_one_pack_has_one_language_and_no_conversation_is_cut() -> None:
    with pytest.raises(DataError, match=r"\['en', 'th'\] in one pack"):
        pack([made(4), made(4, language="th")], 16, pad_id=0)
    with pytest.raises(DataError, match="17 tokens is longer than a sequence of 16"):
        pack([made(17)], 16, pad_id=0)
    with pytest.raises(DataError, match="no language"):
        pack([], 16, pad_id=0)


def test_conversations_of_the_demo_come_back_from_their_pack(world: World, tokenizer: PreTrainedTokenizerFast) -> None:
    talks = [from_dialogue(dialogue) for dialogue in world.instructions("th", "train", 60)]
    packed = pack_conversations(talks, tokenizer, 512)
    said = sorted(tokenizer.decode(ids) for ids, _ in segments(packed))
    assert said == sorted(tokenizer.decode(item.ids) for item in render_all(talks, tokenizer))


def test_what_is_too_long_is_left_out_and_counted_by_source(tokenizer: PreTrainedTokenizerFast) -> None:
    short, long = conversation("Hi?", "Hi.", "en", "test"), conversation("Hi?", "Hi. " * 200, "en", "test")
    packed = pack_sources({"en": [short, long, short]}, tokenizer, 64)
    assert packed.num_conversations == {"en": 2}
    assert packed.num_too_long == {"en": 1}
    assert 0 < packed.filled_frac("en") <= 1
    with pytest.raises(DataError, match="none of the 1 conversations of 'en' fits into 64 tokens"):
        pack_sources({"en": [long]}, tokenizer, 64)
