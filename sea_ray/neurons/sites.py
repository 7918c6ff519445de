"""Where neurons live: the architecture as kinds of sites, and which slices of which tensors a neuron owns.

A neuron is an index of a site in a layer (Zhao et al. 2024, arXiv 2402.18815, section 2). Kinds of sites of a layer:

    ffn  channel of the MLP: row of gate_proj, row of up_proj, column of down_proj
    v    row of v_proj, and the o_proj columns of all query heads that read it (grouped heads)
    q    row of q_proj
    k    row of k_proj

A row has its bias element where the projection has a bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sea_ray.errors import ConfigError
from sea_ray.neurons.config import SITE_KINDS, SiteKind

MODEL_TYPES = ("llama", "qwen2", "qwen3")
"""Families whose layers are gated feed-forward networks and grouped rotary attention under Qwen2's module names."""
_ROWS: dict[SiteKind, tuple[str, ...]] = {
    "ffn": ("gate_proj", "up_proj"), "v": ("v_proj",), "q": ("q_proj",), "k": ("k_proj",)}
_COLUMNS: dict[SiteKind, tuple[str, ...]] = {"ffn": ("down_proj",), "v": ("o_proj",), "q": (), "k": ()}
Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TensorSlice:
    """The rows or columns of one parameter tensor that some neurons of a site own."""

    site: SiteKind
    """Kind of site of the neurons."""
    layer: int
    """Their layer."""

    tensor: str
    """Name in `model.named_parameters()`, such as "model.layers.3.mlp.down_proj.weight"."""
    dim: Literal[0, 1]
    """0: rows (or elements of a bias), 1: columns."""
    index: Indices
    """Sorted positions along `dim`, [n]."""
    owner: Indices
    """Neuron that owns each position, [n]; several o columns have one owner under grouped heads."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The shape of a decoder, as much of it as neurons need; grouped heads, biases and norms included."""

    model_type: str
    """Name of the family in transformers."""
    num_layers: int
    """Decoder layers."""
    d_model: int
    """Width of the residual stream."""
    d_mlp: int
    """Channels of one MLP."""
    num_heads: int
    """Query heads."""
    num_kv_heads: int
    """Key/value heads; each serves num_heads / num_kv_heads query heads."""
    d_head: int
    """Width of one head."""
    biased: frozenset[str]
    """Projections that have a bias: q_proj, k_proj and v_proj in Qwen2, none in Qwen3, by config in Llama."""
    qk_norm: bool
    """Whether each head's query and key are normalised before they are rotated, as in Qwen3."""
    total_values: int
    """All parameters of the model, tied ones once."""
    sliding_window: int | None = None
    """Tokens that a position can see where some layer limits them; None: no layer does."""

    @property
    def num_rep(self) -> int:
        """Query heads per key/value head."""
        return self.num_heads // self.num_kv_heads

    def count(self, site: SiteKind) -> int:
        """Return the neurons of one kind of site in one layer."""
        heads = self.num_heads if site == "q" else self.num_kv_heads
        return self.d_mlp if site == "ffn" else heads * self.d_head

    def values_per_neuron(self, site: SiteKind) -> int:
        """Return how many parameters one neuron owns."""
        columns = self.num_rep if site == "v" else len(_COLUMNS[site])
        return (len(_ROWS[site]) + columns) * self.d_model + sum(name in self.biased for name in _ROWS[site])

    def keys(self, sites: Sequence[SiteKind] = SITE_KINDS) -> Iterator[tuple[SiteKind, int]]:
        """Yield every (kind of site, layer), layers innermost."""
        for site in sites:
            for layer in range(self.num_layers):
                yield site, layer

    def module(self, layer: int, name: str) -> str:
        """Return the full name of a projection of a layer, such as "down_proj" of layer 3."""
        block = "mlp" if name in ("gate_proj", "up_proj", "down_proj") else "self_attn"
        return f"model.layers.{layer}.{block}.{name}"

    def slices(self, site: SiteKind, layer: int, neurons: Indices) -> tuple[TensorSlice, ...]:
        """Return the slices of parameter tensors that some neurons of a site own.

        Args:
            site: kind of site.
            layer: decoder layer.
            neurons: sorted indices of neurons, [n].
        """

        def part(module: str, parameter: str, dim: Literal[0, 1] = 0) -> TensorSlice:
            index, owner = neurons, neurons
            if module == "o_proj":
                index = self.context_columns(neurons)
                owner = self.context_owners(index)
            tensor = f"{self.module(layer, module)}.{parameter}"
            return TensorSlice(site=site, layer=layer, tensor=tensor, dim=dim, index=index, owner=owner)

        weights = [part(module, "weight") for module in _ROWS[site]]
        biases = [part(module, "bias") for module in _ROWS[site] if module in self.biased]
        return (*weights, *biases, *(part(module, "weight", 1) for module in _COLUMNS[site]))

    def context_columns(self, neurons: Indices) -> Indices:
        """Return the o_proj columns that read some v neurons: n_rep for each, sorted.

        Query head h reads kv head h // n_rep, so v neuron (g, dim) feeds columns (g * n_rep + a) * d_head + dim.

        Args:
            neurons: indices of v neurons, [n].
        """
        group, dim = np.divmod(neurons, self.d_head)
        heads = group[:, None] * self.num_rep + np.arange(self.num_rep)
        return np.sort((heads * self.d_head + dim[:, None]).reshape(-1))

    def context_owners(self, columns: Indices) -> Indices:
        """Return the v neuron that each o_proj column reads, [n].

        Args:
            columns: positions in the context of all query heads, [n].
        """
        head, dim = np.divmod(columns, self.d_head)
        return head // self.num_rep * self.d_head + dim


def describe(model: nn.Module) -> Architecture:
    """Return the architecture of a model.

    Args:
        model: a transformers causal language model.

    Raises:
        ConfigError: the family, or its activation, is not known here.
    """
    config: Any = model.config
    if config.model_type not in MODEL_TYPES:
        raise ConfigError(
            "base.model",
            (
                f"model type {config.model_type!r} is not known to the neuron code, which knows "
                f"{', '.join(MODEL_TYPES)}: its projections, grouped heads, biases, norms and rotary embedding "
                "would have to be described in neurons/sites.py; choose a base of a known type"
            ),
        )
    if config.hidden_act != "silu":
        raise ConfigError(
            "base.model",
            f"activation {config.hidden_act!r} is not known to the neuron code: that a gate is open is read from its "
            "sign, which is right for 'silu' alone; choose a base with it",
        )
    attention = model.get_submodule("model.layers.0.self_attn")
    projections = [(name.rpartition(".")[2], module) for name, module in model.get_submodule("model.layers.0").named_modules()]
    sliding = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    return Architecture(
        model_type=config.model_type,
        num_layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        d_mlp=config.intermediate_size,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        d_head=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        biased=frozenset(name for name, module in projections if getattr(module, "bias", None) is not None),
        qk_norm=hasattr(attention, "q_norm"),
        total_values=sum(parameter.numel() for parameter in model.parameters()),
        sliding_window=config.sliding_window if sliding else None,
    )
