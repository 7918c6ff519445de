"""A training step of selected neurons beside every other way: full, LoRA, masked dense gradients, frozen weights."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.side_by_side import Result, arguments, conclude, medians
from sea_ray.neurons.sets import NeuronSet
from sea_ray.neurons.sites import describe
from sea_ray.training.config import TrainConfig, TrainPolicy
from sea_ray.training.engine import TorchEngine
from sea_ray.training.policy import trainable
from sea_ray.training.sequences import Batch, SequenceSet, collate

CONFIG = TrainConfig(steps=1, learning_rate=1e-4)


@dataclass(frozen=True)
class Preset:
    """A model's shape, a batch, and the share of the neurons of every site that train."""

    model: dict[str, int | float | bool]
    sequences: int
    tokens: int
    top_frac: float
    dtype: torch.dtype


PRESETS = {
    "small": Preset({"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 2,
                     "intermediate_size": 1408, "vocab_size": 4096, "tie_word_embeddings": True},
                    sequences=4, tokens=256, top_frac=0.005, dtype=torch.float32),
    "qwen2_7b": Preset({"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
                        "intermediate_size": 18944, "vocab_size": 152064, "tie_word_embeddings": False,
                        "rope_theta": 1e6}, sequences=1, tokens=2048, top_frac=0.001, dtype=torch.bfloat16),
}


@dataclass
class Arm:
    """One way to train: a model, an engine, and what a step holds beside the weights."""

    model: nn.Module
    engine: TorchEngine
    batch: Batch
    updates: bool = True
    peak_bytes: int = 0
    state_bytes: int = 0
    values: int = 0

    def step(self) -> None:
        """Forward, backward, clip, update."""
        loss = self.engine.loss(self.batch) / len(self.batch.target_N)
        self.engine.backward(loss, last=True)
        if self.updates:
            self.engine.step(CONFIG.learning_rate)

    def measure(self) -> None:
        """Count one step's bytes: saved tensors, gradients and optimiser state."""
        saved = _Saved({tensor.untyped_storage().data_ptr() for tensor in (*self.model.parameters(), *self.model.buffers())})
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
            loss = self.engine.loss(self.batch) / len(self.batch.target_N)
        self.engine.backward(loss, last=True)
        if self.updates:
            self.engine.step(CONFIG.learning_rate)
            self.state_bytes = self.engine.state_bytes()
        self.values = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        self.peak_bytes = saved.num_bytes + self.state_bytes


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


def make_model(preset: Preset, device: torch.device) -> Qwen2ForCausalLM:
    """Return a random model; the same weights at every call."""
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2ForCausalLM(Qwen2Config(
            max_position_embeddings=4096, attn_implementation="sdpa", **preset.model)).to(preset.dtype)
    return model.train()


def make_batch(preset: Preset, device: torch.device) -> Batch:
    """Return random sequences of one document each."""
    shape = (preset.sequences, preset.tokens)
    ids = np.random.default_rng(0).integers(0, preset.model["vocab_size"], shape).astype(np.int32)
    mask = np.ones(shape, bool)
    mask[:, 0] = False
    sequences = SequenceSet(input_ids_ST=ids, segment_ids_ST=np.ones(shape, np.int32), loss_mask_ST=mask)
    return collate({"text": sequences}, [("text", row) for row in range(preset.sequences)], device)


def spread_neurons(model: nn.Module, top_frac: float, first_layer: int = 0) -> NeuronSet:
    """Return a share of every site's neurons, the same number in each layer from the first."""
    architecture = describe(model)
    indices = {}
    for site, layer in architecture.keys():  # noqa: SIM118 - a method of its own
        count = architecture.count(site)
        chosen = max(1, round(top_frac * count))
        if layer >= first_layer:
            indices[site, layer] = np.arange(chosen) * count // chosen
    return NeuronSet(language="th", indices=indices)


def mask_gradients(model: nn.Module, neurons: NeuronSet) -> None:
    """Let dense gradients be formed and zero those of other neurons: what the released trainer does."""
    model.requires_grad_(False)
    parameters = dict(model.named_parameters())
    for name, place in neurons.slices(describe(model)).items():
        parameter = parameters[name].requires_grad_(True)
        mask = torch.zeros_like(parameter).index_fill_(place.dim, torch.tensor(place.index, device=parameter.device), 1)
        parameter.register_hook(lambda gradient, mask=mask: gradient * mask)


@contextlib.contextmanager
def arm(kind: str, preset: Preset, device: torch.device) -> Iterator[Arm]:
    """Yield one way to train, set up as its users would."""
    model = make_model(preset, device)
    with contextlib.ExitStack() as stack:
        if kind == "lora":
            stack.enter_context(trainable(model, TrainPolicy(kind="lora", lora_rank=8)))
        elif kind == "masked":
            mask_gradients(model, spread_neurons(model, preset.top_frac))
        elif kind == "frozen":
            model.requires_grad_(False)
            model.enable_input_require_grads()
        elif kind.startswith("neurons"):
            first_layer = model.config.num_hidden_layers // 2 if kind == "neurons_upper" else 0
            neurons = spread_neurons(model, preset.top_frac, first_layer)
            stack.enter_context(trainable(model, TrainPolicy(kind="neurons"), neurons))
        training = {name: p for name, p in model.named_parameters() if p.requires_grad}
        # a frozen pass forms no gradient of a weight; the engine's optimiser needs one parameter to exist
        parameters = training or {"none": nn.Parameter(torch.zeros(1, device=device))}
        yield Arm(model=model, engine=TorchEngine(model, parameters, CONFIG, device), batch=make_batch(preset, device),
                  updates=bool(training))


KINDS = ("neurons", "full", "lora", "masked", "frozen", "neurons_upper")


def side_by_side(preset: Preset, rounds: int, device: torch.device) -> tuple[dict[str, float], dict[str, Arm]]:
    """Return the seconds of a step of each arm, timed in turns, and the arms with what they hold."""
    with contextlib.ExitStack() as stack:
        arms = {kind: stack.enter_context(arm(kind, preset, device)) for kind in KINDS}
        for one in arms.values():
            one.measure()
        steps: dict[str, Callable[[], object]] = {kind: one.step for kind, one in arms.items()}
        return medians(steps, rounds, device), arms


def rows(seconds: dict[str, float], arms: dict[str, Arm]) -> list[Result]:
    """Return the ratios that the project promises."""
    own, states, peaks = seconds["neurons"], *(
        {kind: getattr(one, name) for kind, one in arms.items()} for name in ("state_bytes", "peak_bytes"))
    return [
        Result("step time, neurons / full fine-tuning", own / seconds["full"], 0.70),
        Result("step time, neurons / LoRA r=8 on the same modules", own / seconds["lora"], 0.80),
        Result("step time, neurons / dense gradients masked by hooks", own / seconds["masked"], 0.76),
        Result("step time, neurons / a frozen forward + dX pass", own / seconds["frozen"], 1.05),
        Result("step time, neurons in the upper half of the layers / full", seconds["neurons_upper"] / seconds["full"], 0.55),
        Result("gradient + optimiser bytes, neurons / full", states["neurons"] / states["full"], 0.01),
        Result("peak memory above the weights, neurons / LoRA r=8", peaks["neurons"] / peaks["lora"], 1.0),
    ]


def one_by_one(preset: Preset, rounds: int, device: torch.device, peak_tflops: float) -> dict[str, object]:
    """Return what each arm reaches alone on a GPU, whose memory does not hold all arms at once; None where it does not fit.

    Args:
        preset, rounds, device: as everywhere.
        peak_tflops: the device's dense matrix products in the preset's type, 10^12 FLOP/s; 0: no share is given.
    """
    found: dict[str, object] = {}
    for kind in KINDS:
        try:
            with arm(kind, preset, device) as one:
                torch.cuda.reset_peak_memory_stats()
                weights = torch.cuda.memory_allocated()
                seconds = medians({kind: one.step}, rounds, device)[kind]
                peak_gib = (torch.cuda.max_memory_allocated() - weights) / 2**30
                with FlopCounterMode(display=False) as counter:
                    one.step()
                tflops = counter.get_total_flops() / seconds / 1e12
                found[kind] = {"tokens_per_s": preset.sequences * preset.tokens / seconds, "seconds": seconds,
                               "tflops": tflops, "share_of_peak": tflops / peak_tflops if peak_tflops else None,
                               "peak_gib_above_weights": peak_gib}
        except torch.cuda.OutOfMemoryError:
            found[kind] = None
        gc.collect()
        torch.cuda.empty_cache()
        print(f"{kind:14} {found[kind]}", flush=True)
    return found


def main() -> None:
    """Run the benchmark from the command line."""
    parser = arguments(__doc__ or "", *PRESETS)
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="of the GPU in the preset's type, dense; such as 989")
    options = parser.parse_args()
    device, preset = torch.device(options.device), PRESETS[options.preset]
    torch.set_num_threads(options.threads)
    if options.preset != "small":
        found = one_by_one(preset, options.rounds, device, options.peak_tflops)
        conclude("neuron_step", [], {"preset": options.preset, "arms": found}, device, options.check)
        return
    seconds, arms = side_by_side(preset, options.rounds, device)
    for kind, one in arms.items():
        print(f"{kind:14} {seconds[kind] * 1000:8.1f} ms {one.values:>11,} values {one.state_bytes / 2**20:8.2f} MiB gradients "
              f"and states {one.peak_bytes / 2**20:8.1f} MiB above the weights")
    conclude("neuron_step", rows(seconds, arms), {"step_seconds": seconds}, device, options.check)


if __name__ == "__main__":
    main()
