"""Small models of each family, and ragged sets of their neurons."""

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from sea_ray.neurons.sets import NeuronSet

VOCAB = 67
RAGGED = {("ffn", 0): [0, 3, 11, 43], ("v", 0): [2], ("q", 0): [1, 30], ("k", 0): [5, 14],
          ("ffn", 1): [], ("v", 1): [0, 7, 8, 15], ("q", 1): [], ("k", 2): [9], ("ffn", 2): [17]}


FAMILIES = {"qwen2": Qwen2Config, "qwen3": Qwen3Config, "llama": LlamaConfig}


def make_model(dtype=torch.float32, tied=True, family="qwen2"):
    torch.manual_seed(0)
    config = FAMILIES[family](
        vocab_size=VOCAB, hidden_size=32, intermediate_size=44, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64, tie_word_embeddings=tied, initializer_range=0.1)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "norm.weight")):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.to(dtype)


def neurons_of(indices=RAGGED):
    return NeuronSet(language="th", indices={key: np.array(found, np.int64) for key, found in indices.items()})


def batch_of(seed=0, count=4):
    return torch.randint(0, VOCAB, (count, 16), generator=torch.Generator().manual_seed(seed))
