"""On a processor the engine's large weights are packed: the same bits in their place, the same answers, no second copy."""

import copy
import gc
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from sea_ray.neurons.untouched import tensor_digests
from sea_ray.serving import packed_weights
from sea_ray.serving.app import load_engine
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.engine import TextEngine
from sea_ray.serving.exchange import Request
from sea_ray.serving.packed_weights import PackedLinear, pack_weights, unpack_weights

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


def new_model(tied=False, dtype=torch.float32):
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(
        vocab_size=299, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=128, initializer_range=0.2, tie_word_embeddings=tied)).to(dtype).eval()


def packed_names(model):
    return {name for name, module in model.named_modules() if isinstance(module, PackedLinear)}


@pytest.fixture(params=[False, True], ids=["own head", "tied head"])
def plain(request):
    return new_model(tied=request.param)


@pytest.fixture
def engine(plain, tokenizer):
    engine = TextEngine(copy.deepcopy(plain), tokenizer)
    yield engine
    engine.close()


def test_every_linear_weight_is_packed_and_none_is_held_twice(engine, plain):
    linear = {name for name, module in plain.named_modules() if isinstance(module, nn.Linear)}
    tied = plain.config.tie_word_embeddings
    assert packed_names(engine.model) == linear - ({"lm_head"} if tied else set())
    weights = {name: module.weight for name, module in engine.model.named_modules() if isinstance(module, PackedLinear)}
    assert all(weight.layout is torch._mkldnn for weight in weights.values())  # which has no plain storage beside it
    assert sum(each.nbytes for each in engine.model.parameters()) == sum(each.nbytes for each in plain.parameters())
    assert (engine.model.lm_head.weight is engine.model.model.embed_tokens.weight) == tied


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists what is mapped")
def test_the_file_of_a_checkpoint_is_let_go(plain, tokenizer, tmp_path):
    """It is mapped by transformers; while one tensor lies in it, all its plain weights count as the process' memory."""
    plain.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    engine = load_engine(tmp_path, ServingConfig())
    try:
        assert packed_names(engine.model)
        gc.collect()
        assert str(tmp_path) not in Path("/proc/self/maps").read_text()
        assert tensor_digests(engine.model) == tensor_digests(plain)
        assert (engine.model.lm_head.weight is engine.model.model.embed_tokens.weight) == plain.config.tie_word_embeddings
    finally:
        engine.close()


def test_digests_and_names_are_the_plain_models(engine, plain):
    assert tensor_digests(engine.model) == tensor_digests(plain)


def test_the_reference_is_the_plain_model_and_changes_in_it_stay(engine, plain):
    packed = packed_names(engine.model)
    ids = torch.tensor([[5, 6, 7, 8]])
    with engine.reference() as model, torch.no_grad():
        assert not packed_names(model)
        for (name, own), other in zip(model.named_parameters(), plain.parameters(), strict=True):
            assert own.layout is torch.strided, name
            assert torch.equal(own, other), name
        assert torch.equal(model(ids).logits, plain(ids).logits)
        model.model.layers[1].mlp.up_proj.weight[3] += 1
        plain.model.layers[1].mlp.up_proj.weight[3] += 1
    assert packed_names(engine.model) == packed
    assert tensor_digests(engine.model) == tensor_digests(plain)


def test_weights_are_packed_again_when_a_reference_fails(engine):
    with pytest.raises(ZeroDivisionError), engine.reference():
        raise ZeroDivisionError
    assert packed_names(engine.model)


def test_answers_are_the_plain_models(engine, plain):
    prompts = [(5,), tuple(range(3, 80)), (9, 8, 7)]
    futures = engine.submit([Request(prompt_ids=ids, max_new_tokens=8, score_prompt=True) for ids in prompts])
    for ids, future in zip(prompts, futures, strict=True):
        answer = future.result(timeout=30)
        with torch.no_grad():
            logprob = plain(torch.tensor([[*ids, *answer.token_ids]])).logits[0].log_softmax(-1)
        expected = [logprob[place - 1, ids[place]].item() for place in range(1, len(ids))]
        assert [score.logprob for score in answer.prompt_logprobs[1:]] == pytest.approx(expected, abs=1e-4)
        for place, token in enumerate(answer.token_ids, len(ids)):
            assert logprob[place - 1, token].item() == pytest.approx(logprob[place - 1].max().item(), abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_gives_what_the_plain_one_does(dtype, bias):
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN has no bfloat16 on this processor")
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(70, 33, bias=bias)).to(dtype).requires_grad_(False)
    packed = copy.deepcopy(plain)
    pack_weights(packed)
    assert packed_names(packed) == {"0"}
    for input in (torch.randn(2, 70, 5).transpose(1, 2), torch.randn(16, 70), torch.randn(0, 70)):
        torch.testing.assert_close(packed(input.to(dtype)), plain(input.to(dtype)))
    unpack_weights(packed)
    assert type(packed[0]) is nn.Linear
    assert torch.equal(packed[0].weight, plain[0].weight)


def test_hooks_stay_on_a_layer_that_is_packed():
    layer, seen = nn.Linear(8, 4), []
    layer.register_forward_hook(lambda *_: seen.append(1))
    pack_weights(layer)
    with torch.no_grad():
        layer(torch.zeros(1, 8))
    assert type(layer) is PackedLinear
    assert seen == [1]


def test_what_cannot_be_packed_stays_plain(monkeypatch):
    """Weights of another type, all of them where torch has the operators no more, and small ones."""
    half = new_model(dtype=torch.float16)
    pack_weights(half)
    assert not packed_names(half)
    model = new_model()
    with monkeypatch.context() as without:
        without.setattr(torch.ops, "mkldnn", object())
        pack_weights(model)
    assert not packed_names(model)
    monkeypatch.setattr(packed_weights, "LEAST_VALUES", 80 * 48)
    pack_weights(model)
    assert packed_names(model) == {"lm_head"} | {
        f"model.layers.{layer}.mlp.{name}" for layer in (0, 1) for name in ("gate_proj", "up_proj", "down_proj")}
