"""Detection: one forward pass over windows of text fills the importance statistics of every site.

Hooks read activations where they pass; no model code is replaced and no gradient is formed. Each shard of windows can
be measured anywhere: statistics add.

Shapes: W windows, T tokens of a row, B windows of a batch, N neurons of a site, R indices that the released PLND code scores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sea_ray.errors import ConfigError, DataError
from sea_ray.neurons.attention_importance import HeadNorm, attention_importance
from sea_ray.neurons.config import DetectionConfig, SiteKind
from sea_ray.neurons.importance import channel_importance, count_positive, sum_absolute, value_gram, value_importance, wide
from sea_ray.neurons.sites import Architecture, describe
from sea_ray.neurons.statistics import ImportanceStats, SiteStatistics
from sea_ray.neurons.sums import Observation, SiteSums
from sea_ray.neurons.windows import Windows
from sea_ray.tracking import Tracker


def collect_importance(
    model: nn.Module,
    windows: Mapping[str, Windows],
    config: DetectionConfig,
    tracker: Tracker,
    *,
    batch_windows: int = 8,
) -> ImportanceStats:
    """Measure a shard of windows.

    Args:
        model: a transformers causal language model; left as it was.
        windows: language -> its windows, each of which counts config.window_tokens tokens.
        config: which sites and ranks.
        tracker: told about each finished language.
        batch_windows: windows of one forward pass; no figure depends on it beyond rounding.

    Returns:
        The shard's statistics; shards add up.

    Raises:
        DataError: a window that counts another number of tokens, a token that the model does not have, or an importance
            that is not finite (names layer, window and document).
        ConfigError: windows longer than a sliding window of the model.
    """
    architecture, device = describe(model), next(model.parameters()).device
    _check_windows(windows, config, architecture, model.get_input_embeddings().num_embeddings)  # type: ignore[operator]
    ranks = {
        site: _ranks(architecture.count(site) * architecture.num_layers, config.top_fracs) for site in config.sites
    }
    parts: dict[tuple[str, SiteKind], SiteStatistics] = {}
    with _recording(model, architecture, config) as record, torch.inference_mode():
        for language, own in windows.items():
            started = time.perf_counter()
            sums = {site: SiteSums(_nothing(architecture, site, len(ranks[site])), ranks[site], device) for site in config.sites}
            moved = _MovedWindows.of(own, device)
            for start in range(0, len(own), batch_windows):
                batch = moved.rows(start, start + batch_windows)
                for site, observation in record(batch).items():
                    sums[site].add(observation, batch.parity_B, config.window_tokens)
            _check_finite(sums, language, own)
            parts |= {(language, site): part.statistics() for site, part in sums.items()}
            rate = len(own) * config.window_tokens / (time.perf_counter() - started)
            tracker.child(language).log(windows=len(own), tokens_per_s=rate)
    return ImportanceStats(window_tokens=config.window_tokens, ranks=ranks, parts=parts)


def _nothing(architecture: Architecture, site: SiteKind, num_ranks: int) -> SiteStatistics:
    num_released = architecture.d_mlp if site == "ffn" else architecture.num_heads * architecture.d_head
    return SiteStatistics.zeros(architecture.num_layers, architecture.count(site), num_ranks, site == "ffn",
                                num_released=num_released)


def _ranks(num_neurons: int, fracs: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(sorted({max(1, round(frac * num_neurons)) for frac in fracs}))


def _check_windows(
    windows: Mapping[str, Windows], config: DetectionConfig, architecture: Architecture, vocab_size: int
) -> None:
    for language, own in windows.items():
        counted_W = own.counted_WT.sum(1)
        if (counted_W != config.window_tokens).any():
            raise DataError(
                f"windows of {language!r} count {counted_W.min()} to {counted_W.max()} tokens, {config.window_tokens} "
                "are needed: a sum over tokens grows with length, so only equal lengths compare"
            )
        if own.input_ids_WT.max(initial=0) >= vocab_size:
            raise DataError(
                f"the text of {language!r} holds token {own.input_ids_WT.max()}, the model has {vocab_size}: it was "
                "tokenised for another base; tokenise it with the base's own tokenizer"
            )
    longest = max((own.input_ids_WT.shape[1] for own in windows.values()), default=0)
    limit = architecture.sliding_window
    if limit is not None and longest > limit:
        raise ConfigError(
            "detection.window_tokens",
            (
                f"{config.window_tokens} makes rows of {longest} tokens, beyond the {limit} that some layers see; "
                f"importance of q and k assumes full causal attention: lower it to {limit - 1} or below"
            ),
        )


def _check_finite(sums: Mapping[SiteKind, SiteSums], language: str, own: Windows) -> None:
    """Look at all windows of a language at once: a look at each batch would make a GPU wait."""
    wrong = [(*place, site) for site, part in sums.items() if (place := part.first_wrong()) is not None]
    if wrong:
        layer, row, site = min(wrong)
        raise DataError(
            f"importance is not finite at layer {layer} ({site}) in window {own.numbers_W[row]} of {language!r}, which "
            f"begins in document {own.first_document_W[row]}: check the base model's weights, load it in float32, or "
            "drop the document"
        )


class _MovedWindows(NamedTuple):
    """Windows on the model's device, moved there all at once."""

    input_ids_BT: Tensor
    position_ids_BT: Tensor
    segment_BT: Tensor
    counted_BT: Tensor
    parity_B: Tensor

    @classmethod
    def of(cls, own: Windows, device: torch.device) -> _MovedWindows:
        """Move the windows of a language."""
        arrays = own.input_ids_WT, own.position_ids_WT, own.segment_WT, own.counted_WT, own.numbers_W % 2
        return cls(*(torch.from_numpy(np.ascontiguousarray(values)).to(device) for values in arrays))

    def rows(self, start: int, stop: int) -> _MovedWindows:
        """Return some of them."""
        return _MovedWindows(*(values[start:stop] for values in self))


@dataclass
class _Pass:
    """What a forward pass over one batch knows and has found so far."""

    segment_BT: Tensor
    counted_BT: Tensor
    """Weight of each token, 1 or 0, float32 or wider."""
    importance: dict[tuple[SiteKind, int], Tensor] = field(default_factory=dict)
    released: dict[tuple[SiteKind, int], Tensor] = field(default_factory=dict)
    active: dict[tuple[SiteKind, int], Tensor] = field(default_factory=dict)

    def add(self, site: SiteKind, layer: int, importance_BN: Tensor, released_BR: Tensor) -> None:
        """Keep the scores of one site of one layer."""
        self.importance[site, layer], self.released[site, layer] = importance_BN, released_BR


def _stacked(found: Mapping[tuple[SiteKind, int], Tensor], site: SiteKind) -> Tensor:
    return torch.stack([values for (kind, _), values in sorted(found.items()) if kind == site], 1)


@contextmanager
def _recording(
    model: nn.Module, architecture: Architecture, config: DetectionConfig
) -> Iterator[Callable[[_MovedWindows], dict[SiteKind, Observation]]]:
    """Yield a function from windows to what each site showed in them."""
    body: Any = model.base_model
    counted_dtype = torch.promote_types(next(model.parameters()).dtype, torch.float32)
    training = model.training
    current: list[_Pass] = []

    def record(batch: _MovedWindows) -> dict[SiteKind, Observation]:
        found = _Pass(segment_BT=batch.segment_BT, counted_BT=batch.counted_BT.to(counted_dtype))
        current[:] = [found]
        body(input_ids=batch.input_ids_BT, position_ids=batch.position_ids_BT, use_cache=False)
        return {
            site: Observation(
                importance_BLN=_stacked(found.importance, site), released_BLR=_stacked(found.released, site),
                active_BLN=_stacked(found.active, site).long() if site == "ffn" else None)
            for site in config.sites
        }

    watches = {"ffn": _watch_ffn, "v": _watch_values}
    handles: list[Any] = []
    try:
        model.eval()
        for layer in range(architecture.num_layers):
            for site, watch in watches.items():
                if site in config.sites:
                    handles += watch(model, architecture, layer, current)
            if "q" in config.sites or "k" in config.sites:
                handles += _watch_attention(model, architecture, layer, current, config)
        yield record
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)


def _watch_ffn(model: nn.Module, architecture: Architecture, layer: int, current: list[_Pass]) -> list[Any]:
    gate, up = (model.get_submodule(architecture.module(layer, name)) for name in ("gate_proj", "up_proj"))
    down: Any = model.get_submodule(architecture.module(layer, "down_proj"))
    norm_M = wide(down.weight.detach()).norm(dim=0)
    released: list[Tensor] = []

    def on_gate(_module: nn.Module, _inputs: object, gate_BTM: Tensor) -> None:
        # silu(gate) > 0 exactly where gate > 0
        current[0].active["ffn", layer] = count_positive(gate_BTM, current[0].counted_BT)

    def on_up(_module: nn.Module, _inputs: object, up_BTM: Tensor) -> None:
        released[:] = [sum_absolute(up_BTM, current[0].counted_BT)]

    def on_down(_module: nn.Module, inputs: tuple[Tensor]) -> None:
        current[0].add("ffn", layer, channel_importance(inputs[0], current[0].counted_BT, norm_M), released.pop())

    return [gate.register_forward_hook(on_gate), up.register_forward_hook(on_up), down.register_forward_pre_hook(on_down)]


def _watch_values(model: nn.Module, architecture: Architecture, layer: int, current: list[_Pass]) -> list[Any]:
    output: Any = model.get_submodule(architecture.module(layer, "o_proj"))
    gram_RRGD = value_gram(output.weight.detach(), architecture.num_kv_heads, architecture.d_head)

    def on_output(_module: nn.Module, inputs: tuple[Tensor]) -> None:
        counted_BT = current[0].counted_BT
        importance_BN = value_importance(inputs[0], counted_BT, gram_RRGD)
        current[0].add("v", layer, importance_BN, sum_absolute(inputs[0], counted_BT))

    return [output.register_forward_pre_hook(on_output)]


def _watch_attention(
    model: nn.Module, architecture: Architecture, layer: int, current: list[_Pass], config: DetectionConfig
) -> list[Any]:
    query_name = architecture.module(layer, "q_proj")
    query, key = (model.get_submodule(architecture.module(layer, name)) for name in ("q_proj", "k_proj"))
    attention: Any = model.get_submodule(query_name.removesuffix(".q_proj"))
    norms = None
    if architecture.qk_norm:
        norms = _head_norm(attention.q_norm), _head_norm(attention.k_norm)
    seen: dict[str, Tensor] = {}

    def on_attention(_module: nn.Module, _inputs: object, arguments: dict[str, Any], _output: object) -> None:
        found = current[0]
        cos_BTD, sin_BTD = (x_BTD.expand(len(found.segment_BT), -1, -1) for x_BTD in arguments["position_embeddings"])
        scores = attention_importance(seen.pop("q"), seen.pop("k"), cos_BTD, sin_BTD, found.segment_BT, found.counted_BT,
                                      config.query_key, norms)
        found.add("q", layer, scores.q, scores.released)
        found.add("k", layer, scores.k, scores.released)

    return [
        query.register_forward_hook(lambda _module, _inputs, output: seen.update(q=output)),
        key.register_forward_hook(lambda _module, _inputs, output: seen.update(k=output)),
        attention.register_forward_hook(on_attention, with_kwargs=True),
    ]


def _head_norm(norm: Any) -> HeadNorm:
    return HeadNorm(weight_D=wide(norm.weight.detach()), eps=norm.variance_epsilon)
