"""Toy Qwen2 models for the neurons room, and the slow obvious importance beside the closed forms."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

VOCAB, TOKENS = 97, 24


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


FAMILIES = {
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 12}),
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "llama with biases": (LlamaForCausalLM, LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
}


def make_model(num_layers=3, seed=0, family="qwen2"):
    """Return a random model with grouped heads whose biases and norms are not at their initial values."""
    torch.manual_seed(seed)
    of_model, of_config, own = FAMILIES[family]
    model = of_model(of_config(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=44, num_hidden_layers=num_layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True, initializer_range=0.2, **own)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def windows_of(count, seed=0, tokens=TOKENS):
    return np.random.default_rng(seed).integers(1, VOCAB, (count, tokens))


@pytest.fixture
def model():
    return make_model()


def train_on_rule(model):
    """Train a model shortly on sequences with a rule: a token is the one seven places back, plus one."""
    optimiser = torch.optim.AdamW(model.train().parameters(), lr=3e-3)
    for step in range(150):
        batch = torch.from_numpy(ruled_windows(16, seed=step))
        model(input_ids=batch, labels=batch, use_cache=False).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model.eval().double()


@pytest.fixture(scope="session", params=["qwen2", "qwen3"])
def trained_model(request):
    """A model without and one with norms of queries and keys, after a short training."""
    torch.set_num_threads(1)  # a session's fixture is made before the module's
    return train_on_rule(make_model(num_layers=2, seed=1, family=request.param))


def ruled_windows(count, seed):
    rows = [np.random.default_rng(seed).integers(1, VOCAB, (count, 7))]
    for _ in range(3):
        rows.append(rows[-1] % (VOCAB - 1) + 1)
    return np.concatenate(rows, 1)[:, :TOKENS]


def brute_importance(model, window, site, layer, removed=1.0):
    """Return Imp of every neuron of a site by removing (a part of) its weights and running the layer, [N].

    FFN and V: norm of the change of the block's output. Q and K: norm of the change of the attention probabilities.
    What is added by the biases of gate and up goes with their rows.
    """
    model.set_attn_implementation("eager")
    block = model.model.layers[layer]
    module = block.mlp if site == "ffn" else block.self_attn
    seen = {}
    handle = module.register_forward_pre_hook(
        lambda _module, args, kwargs: seen.update(args=args, kwargs=kwargs), with_kwargs=True)
    with torch.no_grad():
        model(input_ids=torch.from_numpy(window)[None], use_cache=False)
    handle.remove()

    def run():
        with torch.no_grad():
            output = module(*seen["args"], **seen["kwargs"])
        return output if site == "ffn" else output[0 if site == "v" else 1]

    projection = module.gate_proj if site == "ffn" else getattr(module, f"{site}_proj")
    before, changes = run(), []
    for neuron in range(projection.out_features):
        rows = [projection.weight] + ([] if projection.bias is None else [projection.bias])
        kept = [row[neuron].clone() for row in rows]
        with torch.no_grad():
            for row in rows:
                row[neuron] *= 1 - removed
            changes.append((run() - before).norm() / removed)
            for row, value in zip(rows, kept, strict=True):
                row[neuron] = value
    model.set_attn_implementation("sdpa")
    return torch.stack(changes).numpy()
