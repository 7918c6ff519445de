"""A training step of selected neurons beside every other way: full, LoRA, masked dense gradients, frozen weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.arms import KINDS, PRESETS, Arm, Preset, arm
from benchmarks.side_by_side import Result, arguments, conclude, medians


@dataclass(frozen=True)
class Held:
    """What one step of an arm holds beside the weights."""

    peak_bytes: int
    """Saved tensors, gradients and optimiser state."""
    state_bytes: int
    """Gradients and optimiser state alone."""
    values: int
    """Values that train."""


class _Saved:
    """Bytes of distinct storages that autograd keeps for the backward pass, weights excepted."""

    def __init__(self, weights: set[int]) -> None:
        self._seen, self.num_bytes = weights, 0

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.num_bytes += storage.nbytes()
        return tensor


def held_by(one: Arm) -> Held:
    """Take one step and count its bytes."""
    saved = _Saved({tensor.untyped_storage().data_ptr() for tensor in (*one.model.parameters(), *one.model.buffers())})
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        one.step()
    states = one.engine.state_bytes() if one.updates else 0
    return Held(peak_bytes=saved.num_bytes + states, state_bytes=states,
                values=sum(p.numel() for p in one.model.parameters() if p.requires_grad))


def side_by_side(preset: Preset, rounds: int, device: torch.device) -> tuple[dict[str, float], dict[str, Held]]:
    """Return the seconds of a step of each arm, timed in turns, and what each holds."""
    with contextlib.ExitStack() as stack:
        arms = {kind: stack.enter_context(arm(kind, preset, device)) for kind in KINDS}
        held = {kind: held_by(one) for kind, one in arms.items()}
        steps: dict[str, Callable[[], object]] = {kind: one.step for kind, one in arms.items()}
        return medians(steps, rounds, device), held


def rows(seconds: dict[str, float], held: dict[str, Held]) -> list[Result]:
    """Return the ratios that the project promises."""
    own = seconds["neurons"]
    return [
        Result("step time, neurons / full fine-tuning", own / seconds["full"], 0.70),
        Result("step time, neurons / LoRA r=8 on the same modules", own / seconds["lora"], 0.80),
        Result("step time, neurons / dense gradients masked by hooks", own / seconds["masked"], 0.76),
        Result("step time, neurons / a frozen forward + dX pass", own / seconds["frozen"], 1.05),
        Result("step time, neurons in the upper half of the layers / full", seconds["neurons_upper"] / seconds["full"], 0.55),
        Result("gradient + optimiser bytes, neurons / full", held["neurons"].state_bytes / held["full"].state_bytes, 0.01),
        Result("peak memory above the weights, neurons / LoRA r=8", held["neurons"].peak_bytes / held["lora"].peak_bytes, 1.0),
    ]


def main() -> None:
    """Run the benchmark from the command line."""
    options = arguments(__doc__ or "", "small", "tiny").parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    seconds, held = side_by_side(PRESETS[options.preset], options.rounds, device)
    for kind, one in held.items():
        print(f"{kind:14} {seconds[kind] * 1000:8.1f} ms {one.values:>11,} values {one.state_bytes / 2**20:8.2f} MiB gradients "
              f"and states {one.peak_bytes / 2**20:8.1f} MiB above the weights")
    conclude("neuron_step", rows(seconds, held), {"step_seconds": seconds}, device, options.check)


if __name__ == "__main__":
    main()
