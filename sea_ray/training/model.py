"""The small base model: a Qwen2 of transformers, made from scratch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from sea_ray.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of a Qwen2 trained from scratch."""

    d_model: int = 128
    """Width of the residual stream, values; a multiple of num_heads."""
    num_layers: int = 4
    """Decoder layers."""
    num_heads: int = 4
    """Query heads; each is d_model / num_heads values wide, an even number."""
    num_kv_heads: int = 2
    """Key and value heads; divides num_heads."""
    d_mlp: int = 384
    """Channels of the gated feed-forward network: what "ffn" neurons are."""
    max_position: int = 4096
    """Longest context, tokens."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies."""
    tie_embeddings: bool = True
    """Whether the output projection is the embedding matrix."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("d_model", "num_layers", "num_heads", "num_kv_heads", "d_mlp", "max_position"):
            if getattr(self, name) < 1:
                raise ConfigError(name, f"{getattr(self, name)} is below 1")
        if self.d_model % (2 * self.num_heads):
            raise ConfigError("d_model", f"{self.d_model} does not give {self.num_heads} heads of an even width: "
                                         f"choose a multiple of {2 * self.num_heads}")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError("num_kv_heads", f"{self.num_kv_heads} does not divide num_heads={self.num_heads}")
        if self.rope_theta <= 1:
            raise ConfigError("rope_theta", f"{self.rope_theta} is not above 1")


def new_model(config: ModelConfig, vocab_size: int, seed: int, eos_id: int) -> Qwen2ForCausalLM:
    """Return a freshly initialised Qwen2; the process's own random state is left as it was.

    Args:
        config: shape.
        vocab_size: rows of the embedding, at least the tokenizer's length.
        seed: of the initial weights.
        eos_id: token that ends a document, used for padding too.

    Raises:
        ConfigError: if eos_id is not one of the vocabulary's ids.
    """
    if not 0 <= eos_id < vocab_size:
        raise ConfigError("vocab_size", f"{vocab_size} has no room for the end token's id {eos_id}")
    shape = Qwen2Config(
        vocab_size=vocab_size, hidden_size=config.d_model, intermediate_size=config.d_mlp,
        num_hidden_layers=config.num_layers, num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads, max_position_embeddings=config.max_position,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        tie_word_embeddings=config.tie_embeddings, bos_token_id=eos_id, eos_token_id=eos_id, pad_token_id=eos_id,
        attn_implementation="sdpa")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(shape)
