from dataclasses import replace

import pytest
import torch

from sea_ray.training.model import new_model
from sea_ray.training.vocabulary import extend_embeddings

ROWS, IDS = 64, 61
SPELLED = {61: [5, 9, 7], 62: [7], 63: [1, 1, 2], 64: [60, 3], 65: [4, 5, 6, 7, 8]}
"""New id -> old ids: three fit into the rows that pad the vocabulary, two need more."""


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def padded(request, shape):
    return new_model(replace(shape, tie_embeddings=request.param), ROWS, seed=3, eos_id=0).eval()


def ends(model):
    return [module.weight.detach().clone() for module in (model.get_input_embeddings(), model.get_output_embeddings())]


def test_old_rows_stay_byte_for_byte_and_new_ones_are_the_means_of_what_spelled_them(padded):
    before = ends(padded)
    extend_embeddings(padded, SPELLED)
    for old, new in zip(before, ends(padded), strict=True):
        assert new.shape[0] == padded.config.vocab_size == 66
        assert torch.equal(new[:IDS], old[:IDS])
        for number, parts in SPELLED.items():
            torch.testing.assert_close(new[number], sum(old[part] for part in parts) / len(parts))
    tied = padded.get_input_embeddings().weight is padded.get_output_embeddings().weight
    assert tied == padded.config.tie_word_embeddings


def test_free_rows_are_used_before_the_matrices_grow(padded):
    extend_embeddings(padded, {number: SPELLED[number] for number in (61, 62, 63)})
    assert padded.config.vocab_size == ROWS
    assert all(len(weight) == ROWS for weight in ends(padded))


@torch.no_grad()
def test_text_of_old_pieces_has_the_logits_of_before(padded):
    ids_BT = torch.randint(0, IDS, (3, 20), generator=torch.Generator().manual_seed(0))
    before = padded(ids_BT).logits
    extend_embeddings(padded, SPELLED)
    after = padded(ids_BT).logits
    torch.testing.assert_close(after[..., :IDS], before[..., :IDS], rtol=1e-6, atol=1e-6)
    for number, parts in SPELLED.items():
        torch.testing.assert_close(after[..., number], before[..., parts].mean(-1), rtol=1e-5, atol=1e-5)


def test_new_rows_of_a_model_in_bfloat16_are_averaged_in_float32(shape):
    model = new_model(shape, ROWS, seed=3, eos_id=0).to(torch.bfloat16)
    old = ends(model)[0]
    extend_embeddings(model, SPELLED)
    assert torch.equal(ends(model)[0][65], old[[4, 5, 6, 7, 8]].float().mean(0).to(torch.bfloat16))
