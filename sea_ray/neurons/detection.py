"""Detection: one forward pass over windows of text fills the importance statistics of every site.

Hooks read activations where they pass; no model code is replaced and no gradient is formed. Each shard of windows can
be measured anywhere: statistics add.

Shapes: W windows, T tokens, B windows of a batch, L layers, N neurons of a site.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sea_ray.errors import ConfigError, DataError
from sea_ray.neurons.config import DetectionConfig, SiteKind
from sea_ray.neurons.importance import attention_importance, channel_importance, value_gram, value_importance, wide
from sea_ray.neurons.sites import Architecture, describe
from sea_ray.neurons.statistics import ImportanceStats, SiteStatistics
from sea_ray.tracking import Tracker


def cut_windows(tokens: NDArray[np.integer], config: DetectionConfig, language: str) -> NDArray[np.int64]:
    """Return equal, disjoint windows spread evenly over a language's text, [W, T].

    Args:
        tokens: the text as one row of token ids.
        config: how many windows, how long.
        language: for the message.

    Raises:
        DataError: the text is too short.
    """
    available = len(tokens) // config.window_tokens
    if available < config.windows_per_language:
        raise DataError(
            f"{language!r} has {len(tokens):,} tokens, {config.windows_per_language} windows of {config.window_tokens} "
            f"need {config.windows_per_language * config.window_tokens:,}: add text or lower "
            "detection.windows_per_language"
        )
    chosen = np.arange(config.windows_per_language) * available // config.windows_per_language
    return np.stack([tokens[i * config.window_tokens : (i + 1) * config.window_tokens] for i in chosen]).astype(
        np.int64
    )


def collect_importance(
    model: nn.Module,
    windows: Mapping[str, NDArray[np.integer]],
    config: DetectionConfig,
    tracker: Tracker,
    *,
    first_window: int = 0,
    batch_windows: int = 8,
) -> ImportanceStats:
    """Measure a shard of windows.

    Args:
        model: a transformers causal language model; left as it was.
        windows: language -> token ids, [W, T], one document of equal length in each row.
        config: which sites and ranks; T is checked against its window_tokens.
        tracker: told about each finished language.
        first_window: number of the shard's first window among the language's (its parity decides the half).
        batch_windows: windows of one forward pass; no figure depends on it beyond rounding.

    Returns:
        The shard's statistics; shards add up.

    Raises:
        DataError: a window of another length, or an importance that is not finite (names layer and window).
    """
    architecture = describe(model)
    _check_windows(windows, config, architecture)
    ranks = {
        site: _ranks(architecture.count(site) * architecture.num_layers, config.top_fracs) for site in config.sites
    }
    parts: dict[tuple[str, SiteKind], SiteStatistics] = {}
    with _recording(model, architecture, config.sites) as record, torch.inference_mode():
        for language, windows_WT in windows.items():
            started = time.perf_counter()
            sums = {
                site: SiteStatistics.zeros(
                    architecture.num_layers, architecture.count(site), len(ranks[site]), site == "ffn"
                )
                for site in config.sites
            }
            for start in range(0, len(windows_WT), batch_windows):
                batch = torch.as_tensor(np.ascontiguousarray(windows_WT[start : start + batch_windows], dtype=np.int64))
                importance, active_BLN = record(batch)
                _check_finite(importance, language, first_window + start)
                parity_B = (np.arange(len(batch)) + first_window + start) % 2
                for parity in np.unique(parity_B):
                    rows = parity_B == parity
                    for site, values_BLN in importance.items():
                        sums[site].add(int(parity), values_BLN[rows], ranks[site])
                        sums[site].tokens[parity] += batch[rows].numel()
                    if active_BLN is not None:
                        sums["ffn"].active[parity] += active_BLN[rows].sum(0)
            parts |= {(language, site): part for site, part in sums.items()}
            rate = windows_WT.size / (time.perf_counter() - started)
            tracker.child(language).log(windows=len(windows_WT), tokens_per_s=rate)
    return ImportanceStats(window_tokens=config.window_tokens, ranks=ranks, parts=parts)


def _ranks(num_neurons: int, fracs: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(sorted({max(1, round(frac * num_neurons)) for frac in fracs}))


def _check_windows(
    windows: Mapping[str, NDArray[np.integer]], config: DetectionConfig, architecture: Architecture
) -> None:
    for language, windows_WT in windows.items():
        if windows_WT.ndim != 2 or windows_WT.shape[1] != config.window_tokens:
            raise DataError(
                f"windows of {language!r} have shape {windows_WT.shape}, [W, {config.window_tokens}] is needed: "
                "a sum over tokens grows with length, so only equal lengths compare"
            )
    limit = architecture.sliding_window
    if limit is not None and config.window_tokens > limit:
        raise ConfigError(
            "detection.window_tokens",
            (
                f"{config.window_tokens} is beyond the {limit} tokens that some layers see; importance of q and k "
                f"assumes full causal attention: lower it to {limit}"
            ),
        )


def _check_finite(importance: Mapping[SiteKind, NDArray[np.floating]], language: str, first_window: int) -> None:
    worst = None
    for site, values_BLN in importance.items():
        if not np.isfinite(values_BLN).all():
            layer, row = np.argwhere(~np.isfinite(values_BLN).all(2).T)[0]
            worst = min(worst or (layer, row, site), (layer, row, site))
    if worst is not None:
        layer, row, site = worst
        raise DataError(
            f"importance is not finite at layer {layer} ({site}) in window {first_window + row} of {language!r}: check "
            "the base model's weights, load it in float32, or drop the document"
        )


@contextmanager
def _recording(
    model: nn.Module, architecture: Architecture, sites: tuple[SiteKind, ...]
) -> Iterator[Callable[[Tensor], tuple[dict[SiteKind, NDArray[np.floating]], NDArray[np.int64] | None]]]:
    """Yield a function from token ids, [B, T], to Imp per site, [B, L, N], and to open gates of FFN channels, [B, L,
    N]."""
    found: dict[tuple[str, int], Tensor] = {}
    body: Any = model.base_model
    device = next(model.parameters()).device
    training = model.training

    def record(batch_BT: Tensor) -> tuple[dict[SiteKind, NDArray[np.floating]], NDArray[np.int64] | None]:
        found.clear()
        body(input_ids=batch_BT.to(device), use_cache=False)
        stacked = {
            name: torch.stack([found[name, layer] for layer in range(architecture.num_layers)], 1).cpu().numpy()
            for name in (*sites, *(("active",) if "ffn" in sites else ()))
        }
        active_BLN = stacked.pop("active", None)
        return {site: stacked[site] for site in sites}, active_BLN

    handles: list[Any] = []
    try:
        model.eval()
        for layer in range(architecture.num_layers):
            if "ffn" in sites:
                handles += _watch_ffn(model, architecture, layer, found)
            if "v" in sites:
                handles += _watch_values(model, architecture, layer, found)
            if "q" in sites or "k" in sites:
                handles += _watch_attention(model, architecture, layer, found)
        yield record
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)


def _watch_ffn(
    model: nn.Module, architecture: Architecture, layer: int, found: dict[tuple[str, int], Tensor]
) -> list[Any]:
    gate = model.get_submodule(architecture.module(layer, "gate_proj"))
    down: Any = model.get_submodule(architecture.module(layer, "down_proj"))
    norm_M = wide(down.weight.detach()).norm(dim=0)

    def on_gate(_module: nn.Module, _inputs: object, gate_BTM: Tensor) -> None:
        # silu(gate) > 0 exactly where gate > 0; counted in float32, five times as fast as a sum of booleans
        open_BTM = torch.empty_like(gate_BTM, dtype=torch.float32)
        found["active", layer] = torch.gt(gate_BTM, 0, out=open_BTM).sum(1).long()

    def on_down(_module: nn.Module, inputs: tuple[Tensor]) -> None:
        found["ffn", layer] = channel_importance(inputs[0], norm_M)

    return [gate.register_forward_hook(on_gate), down.register_forward_pre_hook(on_down)]


def _watch_values(
    model: nn.Module, architecture: Architecture, layer: int, found: dict[tuple[str, int], Tensor]
) -> list[Any]:
    output: Any = model.get_submodule(architecture.module(layer, "o_proj"))
    gram_RRGD = value_gram(output.weight.detach(), architecture.num_kv_heads, architecture.d_head)

    def on_output(_module: nn.Module, inputs: tuple[Tensor]) -> None:
        found["v", layer] = value_importance(inputs[0], gram_RRGD)

    return [output.register_forward_pre_hook(on_output)]


def _watch_attention(
    model: nn.Module, architecture: Architecture, layer: int, found: dict[tuple[str, int], Tensor]
) -> list[Any]:
    query_name = architecture.module(layer, "q_proj")
    query, key = (model.get_submodule(architecture.module(layer, name)) for name in ("q_proj", "k_proj"))
    attention = model.get_submodule(query_name.removesuffix(".q_proj"))
    seen: dict[str, Tensor] = {}

    def on_attention(_module: nn.Module, _inputs: object, arguments: dict[str, Any], _output: object) -> None:
        cos_TD, sin_TD = (x_BTD[0] for x_BTD in arguments["position_embeddings"])  # all windows start at position 0
        found["q", layer], found["k", layer] = attention_importance(seen.pop("q"), seen.pop("k"), cos_TD, sin_TD)

    return [
        query.register_forward_hook(lambda _module, _inputs, output: seen.update(q=output)),
        key.register_forward_hook(lambda _module, _inputs, output: seen.update(k=output)),
        attention.register_forward_hook(on_attention, with_kwargs=True),
    ]
