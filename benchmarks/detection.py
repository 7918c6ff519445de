"""Detection beside a plain forward pass over the same batches, and the scratch memory of exact query and key rows."""

from __future__ import annotations

import weakref
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.arms import PRESETS, Preset, make_model
from benchmarks.side_by_side import Result, arguments, conclude, medians
from sea_ray.neurons.attention_importance import attention_importance
from sea_ray.neurons.config import DetectionConfig
from sea_ray.neurons.detection import collect_importance
from sea_ray.neurons.windows import Windows
from sea_ray.tracking import NullTracker

BATCHES = 4


class LivePeak(TorchDispatchMode):
    """The most bytes that the tensors made inside the block hold at one time; a storage counts once."""

    def __init__(self) -> None:
        """Start at nothing."""
        super().__init__()
        self.peak_bytes, self._live = 0, 0
        self._holders: Counter[int] = Counter()
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and id(tensor) not in self._seen:
                self._hold(tensor)
        self.peak_bytes = max(self.peak_bytes, self._live)
        return result

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        self._seen.add(id(tensor))
        self._live += size if not self._holders[address] else 0
        self._holders[address] += 1
        weakref.finalize(tensor, self._release, id(tensor), address, size)

    def _release(self, number: int, address: int, size: int) -> None:
        self._seen.discard(number)
        self._holders[address] -= 1
        self._live -= size if not self._holders[address] else 0


def exact_memory(preset: Preset, device: torch.device, num_tokens: int) -> tuple[int, int]:
    """Return the scratch bytes of exact q and k rows of one layer and window, and those of [heads, d, T, T] in float32."""
    heads, groups = preset.model["num_attention_heads"], preset.model["num_key_value_heads"]
    d_head = preset.model["hidden_size"] // heads
    q, k = (torch.randn(1, num_tokens, width * d_head, device=device) for width in (heads, groups))
    angles = torch.rand(1, num_tokens, d_head // 2, device=device).repeat(1, 1, 2)
    ones = torch.ones(1, num_tokens, device=device)
    with LivePeak() as live:
        attention_importance(q, k, angles.cos(), angles.sin(), ones.long(), ones, "exact")
    return live.peak_bytes, 4 * heads * d_head * num_tokens**2


def main() -> None:
    """Run the benchmark from the command line."""
    parser = arguments(__doc__ or "", "small", "tiny", "qwen2_0_5b", "qwen2_7b")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the weights, else the preset's; stages: float32")
    options = parser.parse_args()
    device, preset = torch.device(options.device), PRESETS[options.preset]
    if options.dtype:
        preset = replace(preset, dtype=getattr(torch, options.dtype))
    torch.set_num_threads(options.threads)
    model = make_model(preset, device).eval()
    ids = np.random.default_rng(0).integers(0, preset.model["vocab_size"], (BATCHES * preset.sequences, preset.tokens))
    windows = {"th": Windows.whole(ids)}
    batches = torch.from_numpy(ids).to(device).split(preset.sequences)

    def plain() -> None:
        with torch.inference_mode():
            for batch in batches:
                model.base_model(input_ids=batch, use_cache=False)

    def measured(*sites: Any) -> None:
        config = DetectionConfig(window_tokens=preset.tokens, sites=sites)
        collect_importance(model, windows, config, NullTracker(), batch_windows=preset.sequences)

    seconds = medians({"plain": plain, "ffn_v": lambda: measured("ffn", "v"), "all": lambda: measured("ffn", "v", "q", "k")},
                      options.rounds, device)
    for name, value in seconds.items():
        print(f"{name:8} {value * 1000:8.1f} ms, {ids.size / value:10,.0f} tokens/s")
    num_tokens = 2048 if device.type == "cuda" else 512  # what it takes to fill the device
    scratch, whole = exact_memory(preset, device, num_tokens)
    print(f"exact q and k rows, {num_tokens} tokens: {scratch / 2**20:.1f} MiB; [heads, d, T, T] in float32: "
          f"{whole / 2**20:.0f} MiB")
    results = [
        Result("detection of ffn and v, all statistics / plain forward of the body", seconds["ffn_v"] / seconds["plain"], 1.25),
        Result("detection of all sites, first order / plain forward of the body", seconds["all"] / seconds["plain"], 2.0),
        Result(f"exact q and k, {num_tokens} tokens: peak memory / [heads, d, T, T]", scratch / whole, 0.05),
    ]
    figures = {"preset": options.preset, "dtype": str(preset.dtype), "tokens": ids.size, "seconds": seconds,
               "exact_bytes": scratch}
    if device.type == "cuda":
        figures["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    conclude("detection", results, figures, device, options.check)


if __name__ == "__main__":
    main()
