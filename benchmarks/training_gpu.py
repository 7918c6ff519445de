"""Training steps of a Qwen2's true shape on one GPU: speed, share of the peak, and memory beside what was estimated.

Each arm trains alone, since a GPU does not hold several models, on random weights and packed sequences of several documents.
Weights are float32 and products bfloat16, as the project trains; in the arms whose name ends in "bf16" the weights are
bfloat16 too, which is how neurons, LoRA, masked and full training are commonly compared. Compiled arms run only when they
are named: compiling takes longer than all other arms together.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.arms import CONFIG, PRESETS, Preset, arm
from benchmarks.side_by_side import Result, arguments, conclude, medians
from sea_ray.neurons.config import SiteKind
from sea_ray.training.config import ExecutionConfig, TrainConfig, TrainPolicy
from sea_ray.training.estimate import Training, estimate_memory, step_work
from sea_ray.training.shape import ModelShape

SHARE_OF_MEMORY = 0.97
"""Of the device's memory, what an estimate may reach for an arm to be tried: the rest is the driver's."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One arm of the table."""

    kind: str
    """One of arms.KINDS."""
    checkpointing: bool = False
    fused: bool = False
    compiled: bool = False
    dtype: torch.dtype = torch.float32
    """Of the weights; products are bfloat16 always."""
    lora_rank: int = 16
    sequences: int | None = None
    """Of the micro batch; None: the preset's."""


CASES = {
    "neurons": Case(kind="neurons"),
    "neurons checkpointed": Case(kind="neurons", checkpointing=True),
    "lora": Case(kind="lora"),
    "lora checkpointed": Case(kind="lora", checkpointing=True),
    "full": Case(kind="full"),
    "full checkpointed": Case(kind="full", checkpointing=True),
    **{f"{kind} bf16": Case(kind=kind, dtype=torch.bfloat16, lora_rank=8, sequences=1)
       for kind in ("neurons", "lora", "full", "masked", "frozen", "neurons_upper")},
    "neurons fused": Case(kind="neurons", fused=True),
    "full fused": Case(kind="full", fused=True),
    "neurons compiled": Case(kind="neurons", compiled=True),
    "full compiled": Case(kind="full", compiled=True),
}
SUITES = {
    "tiny": [name for name, case in CASES.items() if not (case.fused or case.compiled)],
    "qwen2_0_5b": [name for name, case in CASES.items() if not case.compiled and case.dtype == torch.float32],
    "qwen2_7b": [name for name, case in CASES.items() if not (case.fused or case.compiled)],
}
"""What a preset measures if no arm is named."""
SEQUENCES = {"qwen2_7b": 2}
"""Micro batch of a preset's float32 arms, where it is another than in arms.PRESETS."""


def planned(preset: Preset, case: Case) -> Training | None:
    """Return an arm as sea_ray.training.estimate knows it; None where it does not: weights in bfloat16, masks, frozen."""
    if case.dtype != torch.float32 or case.kind not in ("neurons", "lora", "full"):
        return None
    sizes = preset.model
    shape = ModelShape.from_checkpoint({"model_type": "qwen2", **sizes})
    share: dict[SiteKind, int] = {}
    if case.kind == "neurons":
        share = {site: shape.num_layers * max(1, round(preset.top_frac * shape.num_neurons(site)))
                 for site in ("ffn", "q", "k", "v")}
    policy = TrainPolicy(kind="all" if case.kind == "full" else case.kind, lora_rank=case.lora_rank)  # type: ignore[arg-type]
    config = TrainConfig(steps=1, batch_sequences=preset.sequences, sequence_tokens=preset.tokens, dtype="bfloat16")
    return Training(shape=shape, policy=policy, config=config, neurons=share)


def estimated(training: Training | None, case: Case) -> dict[str, float]:
    """Return what the plan says of an arm: GiB at the peak, and the work of a step."""
    if training is None:
        return {}
    execution = ExecutionConfig(activation_checkpointing=case.checkpointing)
    return {"estimated_peak_gib": estimate_memory(training, execution, "cuda").peak / 2**30,
            "estimated_tflop": step_work(training, checkpointing=case.checkpointing).total / 1e12}


def measured(preset: Preset, case: Case, rounds: int, device: torch.device) -> dict[str, float]:
    """Return what an arm takes: seconds of its first step and of the median one, GiB at the peak, counted operations."""
    execution = ExecutionConfig(activation_checkpointing=case.checkpointing, fused_kernels=case.fused, compile=case.compiled)
    config = replace(CONFIG, dtype="bfloat16" if case.dtype == torch.float32 else "float32")
    found: dict[str, float] = {}
    with arm(case.kind, preset, device, config=config, execution=execution, lora_rank=case.lora_rank) as one:
        on_gpu = device.type == "cuda"
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            found["weights_gib"] = torch.cuda.memory_allocated() / 2**30
        start = time.perf_counter()
        one.step()
        if on_gpu:
            torch.cuda.synchronize()
        found["first_step_s"] = time.perf_counter() - start
        found["seconds"] = medians({"step": one.step}, rounds, device)["step"]
        if on_gpu:
            found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        if not case.compiled:
            with FlopCounterMode(display=False) as counter:
                one.step()
            found["counted_tflop"] = counter.get_total_flops() / 1e12
    return found


def figures(name: str, preset: Preset, rounds: int, device: torch.device, peak_tflops: float) -> dict[str, Any]:
    """Return everything about an arm, or why it was not measured.

    Args:
        name: of CASES.
        preset, rounds, device: as everywhere.
        peak_tflops: the device's dense matrix products in bfloat16, 10^12 FLOP/s; 0: no share is given.
    """
    case = CASES[name]
    preset = replace(preset, dtype=case.dtype, sequences=case.sequences or preset.sequences)
    training = planned(preset, case)
    found: dict[str, Any] = {"sequences": preset.sequences, "tokens": preset.tokens, **estimated(training, case)}
    if device.type == "cuda" and training is not None:
        room = torch.cuda.get_device_properties(device).total_memory / 2**30 * SHARE_OF_MEMORY
        if found["estimated_peak_gib"] > room:
            return found | {"not_tried": f"the estimate is beyond {room:.1f} GiB"}
    try:
        found |= measured(preset, case, rounds, device)
    except torch.OutOfMemoryError:
        return found | {"failed": "out of memory"}
    except Exception as error:  # the other arms are still worth their time
        return found | {"failed": f"{type(error).__name__}: {error}"[:500]}
    work = found.get("estimated_tflop") or found["counted_tflop"]
    found |= {"tokens_per_s": preset.sequences * preset.tokens / found["seconds"], "tflops": work / found["seconds"]}
    if peak_tflops:
        found["share_of_peak"] = found["tflops"] / peak_tflops
    if "peak_gib" in found and "estimated_peak_gib" in found:
        found["estimate_of_peak"] = found["estimated_peak_gib"] / found["peak_gib"]
    return found


def line(name: str, found: Mapping[str, Any]) -> str:
    """Return an arm's row of the table."""
    own = {key: found.get(key, float("nan")) for key in ("estimated_peak_gib", "peak_gib", "share_of_peak")}
    memory = f"{own['peak_gib']:6.2f} GiB, estimated {own['estimated_peak_gib']:6.2f}"
    if "seconds" not in found:
        return f"{name:22} {found.get('failed') or found['not_tried']}; {memory}"
    return (f"{name:22} {found['seconds'] * 1000:9.1f} ms {found['tokens_per_s']:10,.0f} tokens/s {found['tflops']:7.1f} TFLOP/s "
            f"{own['share_of_peak']:6.1%} of the peak {memory}")


def rows(arms: Mapping[str, Mapping[str, Any]]) -> list[Result]:
    """Return what a plan promises of memory: its estimate is within a quarter of what was held."""
    ratios = {name: found["estimate_of_peak"] for name, found in arms.items() if "estimate_of_peak" in found}
    return [Result(f"{name}: distance of the estimated / measured peak memory from 1", abs(ratio - 1), 0.25)
            for name, ratio in ratios.items()]


def main() -> None:
    """Run the benchmark from the command line."""
    parser = arguments(__doc__ or "", "qwen2_0_5b", "qwen2_7b", "tiny")
    parser.set_defaults(device="cuda", rounds=5)
    parser.add_argument("--arms", default="", help=f"comma-separated; known: {', '.join(CASES)}")
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="of the GPU in bfloat16, dense; such as 989")
    parser.add_argument("--output", type=Path, help="file for the figures, rewritten after each arm")
    options = parser.parse_args()
    device, preset = torch.device(options.device), PRESETS[options.preset]
    preset = replace(preset, sequences=SEQUENCES.get(options.preset, preset.sequences))
    torch.set_num_threads(options.threads)
    arms: dict[str, dict[str, Any]] = {}
    for name in options.arms.split(",") if options.arms else SUITES[options.preset]:
        arms[name] = figures(name, preset, options.rounds, device, options.peak_tflops)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        print(line(name, arms[name]), flush=True)
        if options.output:
            options.output.write_text(json.dumps({"preset": options.preset, "arms": arms}, indent=1), encoding="utf-8")
    conclude("training_gpu", rows(arms), {"preset": asdict(preset) | {"dtype": None}, "arms": arms}, device, options.check)


if __name__ == "__main__":
    main()
