"""Steps over the whole buffer give what steps over the rows give, whoever comes and goes."""

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from sea_ray.serving import key_values
from sea_ray.serving.key_values import KeyValues


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(
        vocab_size=99, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=512, initializer_range=0.2)).eval()


class Both:
    """The same rows in a cache of either kind."""

    def __init__(self, model):
        self.model = model
        self.plain, self.whole = KeyValues(model), KeyValues(model, whole_steps=True)

    def add(self, prompt):
        for cache in (self.plain, self.whole):
            rows = KeyValues(self.model)
            rows.add()
            rows.advance([prompt])
            cache.add([rows.read(0)])

    def step(self, *tokens, **how):
        plain, whole = self.plain.advance([[token] for token in tokens]), self.whole.advance([[token] for token in tokens], **how)
        assert self.plain.lengths == self.whole.lengths
        torch.testing.assert_close(whole, plain, atol=1e-5, rtol=1e-5)

    def keep(self, *rows):
        self.plain.keep(rows)
        self.whole.keep(rows)


@torch.inference_mode()
def test_rows_come_and_go(model):
    both = Both(model)
    for prompt in ([1, 2, 3], [4] * 40, [5, 6]):
        both.add(prompt)
    both.step(7, 8, 9)
    both.keep(0, 2)
    both.step(1, 2)
    both.add([3] * 20)
    both.step(4, 5, 6)
    both.step(4, 5, 6, whole=False)  # as under a language pack
    both.step(7, 8, 9)
    for token in range(60):  # beyond the first columns
        both.step(token, token + 1, token + 2)
    both.keep()
    both.add([9, 8])
    both.step(3)


@torch.inference_mode()
def test_the_step_stays_recorded_while_rows_come_and_go_and_a_buffer_that_is_mostly_empty_is_let_go(model, monkeypatch):
    both = Both(model)
    for number in range(8):
        both.add([number + 1] * 5)
    both.step(*range(8))
    recorded = both.whole._step
    both.keep(1, 2, 3, 5, 7)
    both.step(*range(5))
    both.add([3] * 9)
    both.step(*range(6))
    both.keep()
    both.add([4])
    both.step(1)
    assert both.whole._step is recorded
    both.add([5])
    both.keep(1)
    both.step(2)
    assert both.whole._step is not recorded
    monkeypatch.setattr(key_values, "IDLE_BYTES", 1)
    both.keep()
    assert both.whole._buffer is None


@torch.inference_mode()
def test_a_step_runs_the_model_over_as_many_places_each_time(model, monkeypatch):
    seen = []
    whole = KeyValues(model, whole_steps=True)
    rows = KeyValues(model)
    rows.add()
    rows.advance([[1, 2]])
    for _ in range(3):
        whole.add([rows.read(0)])
    handle = model.base_model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((kwargs["input_ids"].shape, kwargs["attention_mask"].shape)), with_kwargs=True)
    whole.advance([[1], [2], [3]])
    whole.keep([0, 2])
    whole.advance([[1], [2]])
    handle.remove()
    assert len(seen) == 2
    assert seen[0] == seen[1]
