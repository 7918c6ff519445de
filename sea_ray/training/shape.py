"""The tensors of a decoder and of what trains in it, from its shape alone: no weights are loaded and no torch is imported."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sea_ray.errors import ConfigError
from sea_ray.neurons.config import RELEASED_ATTENTION_SHARE, RELEASED_FFN_SHARE, SelectionConfig, SiteKind
from sea_ray.training.config import FFN_PROJECTIONS, PROJECTIONS, ModelConfig, TrainPolicy

Sizes = dict[str, tuple[int, ...]]
"""Tensor's name -> its shape, in the model's order."""
EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")
MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """As much of a decoder of Qwen2's kind as decides its memory and work."""

    d_model: int
    """Width of the residual stream."""
    num_layers: int
    """Decoder layers."""
    num_heads: int
    """Query heads."""
    num_kv_heads: int
    """Key and value heads."""
    d_head: int
    """Width of a head."""
    d_mlp: int
    """Channels of the gated feed-forward network."""
    vocab_size: int
    """Rows of the embedding."""
    tie_embeddings: bool
    """Whether the output projection is the embedding matrix."""
    qkv_bias: bool = True
    """Whether q, k and v have a bias."""
    qk_norm: bool = False
    """Whether each head's query and key are normalised."""

    @classmethod
    def from_config(cls, config: ModelConfig, vocab_size: int) -> ModelShape:
        """Return the shape of a Qwen2 as it is configured here."""
        return cls(d_model=config.d_model, num_layers=config.num_layers, num_heads=config.num_heads,
                   num_kv_heads=config.num_kv_heads, d_head=config.d_model // config.num_heads, d_mlp=config.d_mlp,
                   vocab_size=vocab_size, tie_embeddings=config.tie_embeddings)

    @classmethod
    def from_checkpoint(cls, config: Mapping[str, Any]) -> ModelShape:
        """Return the shape that a checkpoint's config.json states.

        Raises:
            ConfigError: the model's type is not known here, or a size is missing.
        """
        kind = config.get("model_type")
        if kind not in MODEL_TYPES:
            raise ConfigError("model.checkpoint", f"model type {kind!r} cannot be planned; known: {', '.join(MODEL_TYPES)}")
        try:
            heads = config["num_attention_heads"]
            return cls(
                d_model=config["hidden_size"], num_layers=config["num_hidden_layers"], num_heads=heads,
                num_kv_heads=config.get("num_key_value_heads") or heads,
                d_head=config.get("head_dim") or config["hidden_size"] // heads,
                d_mlp=config["intermediate_size"], vocab_size=config["vocab_size"],
                tie_embeddings=config.get("tie_word_embeddings", False),
                qkv_bias=kind == "qwen2" or bool(config.get("attention_bias")), qk_norm=kind == "qwen3")
        except KeyError as error:
            raise ConfigError("model.checkpoint", f"its config.json does not state {error}") from error

    @property
    def d_query(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.d_head

    @property
    def d_kv(self) -> int:
        """Width of all key heads, and of all value heads, together."""
        return self.num_kv_heads * self.d_head

    def projection(self, name: str) -> tuple[int, int]:
        """Return the outputs and inputs of a linear layer, such as "down_proj"."""
        return {"q_proj": (self.d_query, self.d_model), "k_proj": (self.d_kv, self.d_model),
                "v_proj": (self.d_kv, self.d_model), "o_proj": (self.d_model, self.d_query),
                "gate_proj": (self.d_mlp, self.d_model), "up_proj": (self.d_mlp, self.d_model),
                "down_proj": (self.d_model, self.d_mlp)}[name]

    @property
    def layer_matrix_values(self) -> int:
        """Values of the linear layers of one decoder layer, biases left out."""
        return sum(math.prod(self.projection(name)) for name in PROJECTIONS)

    @property
    def embedding_values(self) -> int:
        """Values of one embedding matrix."""
        return self.vocab_size * self.d_model

    @property
    def num_values(self) -> int:
        """All values of the model, tied ones once."""
        return num_values(self.tensors())

    def tensors(self) -> Sizes:
        """Return every tensor of the model, tied ones once."""
        sizes: Sizes = {EMBEDDINGS[0]: (self.vocab_size, self.d_model)}
        for layer in range(self.num_layers):
            for name, place in _linear_layers(layer):
                sizes[f"{place}.weight"] = self.projection(name)
                if self.qkv_bias and name in ("q_proj", "k_proj", "v_proj"):
                    sizes[f"{place}.bias"] = self.projection(name)[:1]
                if self.qk_norm and name == "o_proj":
                    sizes |= {f"model.layers.{layer}.self_attn.{norm}.weight": (self.d_head,) for norm in ("q_norm", "k_norm")}
            for norm in ("input_layernorm", "post_attention_layernorm"):
                sizes[f"model.layers.{layer}.{norm}.weight"] = (self.d_model,)
        sizes["model.norm.weight"] = (self.d_model,)
        if not self.tie_embeddings:
            sizes[EMBEDDINGS[1]] = (self.vocab_size, self.d_model)
        return sizes

    def num_neurons(self, site: SiteKind) -> int:
        """Return the neurons of one kind of site in one layer."""
        return {"ffn": self.d_mlp, "q": self.d_query, "k": self.d_kv, "v": self.d_kv}[site]

    def trained(self, policy: TrainPolicy, neurons: Mapping[SiteKind, int] | None = None) -> Sizes:
        """Return the tensors that train under a policy.

        Args:
            policy: what trains.
            neurons: kind of site -> neurons in the whole model, for "neurons"; they are taken to be spread evenly over the
                layers, which changes nothing in their number of values.
        """
        sizes = self.tensors()
        if policy.kind == "all":
            return sizes
        if policy.kind == "embeddings":
            return {name: size for name, size in sizes.items() if name in EMBEDDINGS}
        if policy.kind == "ffn_only":
            return {name: size for name, size in sizes.items() if ".mlp." in name}
        found: Sizes = {}
        for layer in range(self.num_layers):
            for name, place in _linear_layers(layer):
                if policy.kind == "lora" and name in policy.lora_modules:
                    outputs, inputs = self.projection(name)
                    found[f"{place}.lora_A"], found[f"{place}.lora_B"] = (policy.lora_rank, inputs), (outputs, policy.lora_rank)
                if policy.kind == "neurons":
                    found |= self._selected(name, place, layer, neurons or {})
        return found

    def _selected(self, name: str, place: str, layer: int, neurons: Mapping[SiteKind, int]) -> Sizes:
        """Return the part of a linear layer that a set of neurons owns; neurons/sites.py says which part is whose."""
        site: SiteKind = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "v"}.get(name, "ffn")  # type: ignore[assignment]
        whole, rest = divmod(neurons.get(site, 0), self.num_layers)
        count = whole + (layer < rest)
        if not count:
            return {}
        if name in ("o_proj", "down_proj"):
            columns = count * (self.num_heads // self.num_kv_heads if name == "o_proj" else 1)
            return {f"{place}.compact_weight": (self.d_model, columns)}
        rows: Sizes = {f"{place}.compact_weight": (count, self.d_model)}
        if self.qkv_bias and site != "ffn":
            rows[f"{place}.compact_bias"] = (count,)
        return rows


def _linear_layers(layer: int) -> Iterator[tuple[str, str]]:
    """Yield the short and the full name of each linear layer of a decoder layer."""
    for name in PROJECTIONS:
        yield name, f"model.layers.{layer}.{'mlp' if name in FFN_PROJECTIONS else 'self_attn'}.{name}"


def num_values(sizes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the number of values of some tensors."""
    return sum(math.prod(size) for size in sizes.values())


def selected_neurons(shape: ModelShape, selection: SelectionConfig) -> dict[SiteKind, int]:
    """Return kind of site -> neurons of one language in the whole model, at most.

    A budget is met exactly by the methods that have one; a threshold alone may select anything up to `max_share`.
    """
    found: dict[SiteKind, int] = {}
    for site in selection.sites:
        layer = shape.num_neurons(site)
        share = selection.top_frac or selection.max_share
        if selection.method == "plnd_released":
            share = RELEASED_FFN_SHARE if site == "ffn" else RELEASED_ATTENTION_SHARE
        if selection.budget_per == "layer":
            found[site] = shape.num_layers * (selection.top_k or round(share * layer))
        else:
            found[site] = selection.top_k or round(share * layer * shape.num_layers)
    return found
