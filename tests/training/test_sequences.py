"""Packing loses nothing, repeats nothing and keeps documents apart."""

import numpy as np
import pytest
import torch

from sea_ray.errors import ConfigError, DataError
from sea_ray.training.sequences import SequenceSet, collate, pack_corpus, positions
from sea_ray.training.token_loss import TokenLoss

EOS = 0


@pytest.mark.parametrize("length", [2, 3, 16, 500])
def test_every_token_of_the_corpus_is_a_target_exactly_once_and_in_order(toy, length):
    tokens = toy.tokens(0)
    packed = pack_corpus(tokens, EOS, length)
    assert packed.input_ids_ST[packed.loss_mask_ST].tolist() == tokens.tolist()


def test_a_cut_document_goes_on_after_a_repeat_of_its_last_token():
    packed = pack_corpus(np.array([5, 6, 7, 8, 9, EOS]), EOS, 4)
    assert packed.input_ids_ST.tolist() == [[EOS, 5, 6, 7], [7, 8, 9, EOS]]
    assert packed.loss_mask_ST.tolist() == [[False, True, True, True]] * 2


def test_a_document_opens_with_an_end_token_and_only_the_tail_is_padded():
    packed = pack_corpus(np.array([5, EOS, 6, EOS]), EOS, 8)
    assert packed.input_ids_ST.tolist() == [[EOS, 5, EOS, EOS, 6, EOS, EOS, EOS]]
    assert packed.segment_ids_ST.tolist() == [[1, 1, 1, 2, 2, 2, 0, 0]]


def test_positions_restart_in_each_segment():
    assert positions(np.array([[1, 1, 2, 2, 2, 0, 0], [1, 1, 1, 1, 1, 1, 1]])).tolist() == [
        [0, 1, 0, 1, 2, 0, 1], [0, 1, 2, 3, 4, 5, 6]]


def test_packed_logits_equal_those_of_the_separate_documents(toy, model):
    packed = pack_corpus(toy.tokens(1), EOS, 24)
    rows = [("x", number) for number in range(packed.num_sequences)]
    batch = collate({"x": packed}, rows, torch.device("cpu"))
    model.double()
    with torch.no_grad():
        together = model(input_ids=batch.input_ids_BT, position_ids=batch.position_ids_BT, use_cache=False).logits
        checked = 0
        for row in range(packed.num_sequences):
            for segment in range(1, packed.segment_ids_ST[row].max() + 1):
                place = np.flatnonzero(packed.segment_ids_ST[row] == segment)
                alone = model(input_ids=batch.input_ids_BT[row:row + 1, place]).logits[0]
                torch.testing.assert_close(together[row, place], alone, atol=1e-12, rtol=1e-12)
                checked += len(place)
    assert checked == (packed.segment_ids_ST > 0).sum()


def test_the_loss_equals_the_obvious_one_and_so_do_its_gradients(model, sources):
    rows = [("th", 0), ("vi", 2), ("th", sources["th"].num_sequences - 1)]
    batch = collate(sources, rows, torch.device("cpu"))
    loss = TokenLoss(model)(batch)
    (loss / 7).backward()
    fast = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    logits = model(input_ids=batch.input_ids_BT, position_ids=batch.position_ids_BT, use_cache=False).logits
    log_probability = logits.log_softmax(-1).flatten(0, 1)[batch.predictor_N, batch.target_N]
    (-log_probability.sum() / 7).backward()
    assert loss.item() == pytest.approx(-log_probability.sum().item(), rel=1e-6)
    for name, p in model.named_parameters():
        torch.testing.assert_close(fast[name], p.grad, atol=1e-6, rtol=1e-4)


def test_a_batch_is_cut_after_its_longest_sequence():
    packed = pack_corpus(np.array([5, 6, EOS]), EOS, 40)
    assert collate({"x": packed}, [("x", 0)], torch.device("cpu")).input_ids_BT.shape == (1, 4)


def test_sequences_save_and_load_equal(tmp_path, sources):
    sources["th"].save(tmp_path)
    loaded = SequenceSet.load(tmp_path)
    for name in ("input_ids_ST", "segment_ids_ST", "loss_mask_ST"):
        assert np.array_equal(getattr(loaded, name), getattr(sources["th"], name))


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(ConfigError, match="below 2"):
        pack_corpus(np.array([1, EOS]), EOS, 1)
    with pytest.raises(DataError, match="empty"):
        pack_corpus(np.array([], int), EOS, 8)
    with pytest.raises(DataError, match="first token of its document"):
        SequenceSet(input_ids_ST=np.zeros((1, 2), np.int32), segment_ids_ST=np.array([[1, 2]]),
                    loss_mask_ST=np.array([[False, True]]))
