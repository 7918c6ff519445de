"""Ways to train a model of random weights: what the benchmarks of a step compare."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

import numpy as np
import torch
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from sea_ray.neurons.sets import NeuronSet
from sea_ray.neurons.sites import describe
from sea_ray.neurons.untouched import Snapshot
from sea_ray.training.config import ExecutionConfig, TrainConfig, TrainPolicy
from sea_ray.training.engine import Engine, SoloWorker
from sea_ray.training.kernels import prepared
from sea_ray.training.policy import trainable
from sea_ray.training.sequences import Batch, SequenceSet, collate

CONFIG = TrainConfig(steps=1, learning_rate=1e-4)
KINDS = ("neurons", "full", "lora", "masked", "frozen", "neurons_upper")


@dataclass(frozen=True)
class Preset:
    """A model's shape, a batch, and the share of the neurons of every site that train."""

    model: dict[str, int | float | bool]
    sequences: int
    tokens: int
    top_frac: float
    dtype: torch.dtype
    documents: int = 1
    """Of equal length, in each sequence."""


PRESETS = {
    "tiny": Preset({"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                    "intermediate_size": 128, "vocab_size": 512, "tie_word_embeddings": True},
                   sequences=2, tokens=64, top_frac=0.05, dtype=torch.float32, documents=4),
    "small": Preset({"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 2,
                     "intermediate_size": 1408, "vocab_size": 4096, "tie_word_embeddings": True},
                    sequences=4, tokens=256, top_frac=0.005, dtype=torch.float32),
    "qwen2_0_5b": Preset({"hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
                          "intermediate_size": 4864, "vocab_size": 151936, "tie_word_embeddings": True, "rope_theta": 1e6},
                         sequences=8, tokens=2048, top_frac=0.001, dtype=torch.float32, documents=4),
    "qwen2_7b": Preset({"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
                        "intermediate_size": 18944, "vocab_size": 152064, "tie_word_embeddings": False,
                        "rope_theta": 1e6}, sequences=1, tokens=2048, top_frac=0.001, dtype=torch.bfloat16, documents=4),
}


@dataclass
class Arm:
    """One way to train: a model, its engine and a batch."""

    model: nn.Module
    engine: Engine
    batch: Batch
    updates: bool = True
    """Whether anything trains; a frozen pass only carries the gradient through."""

    def step(self) -> None:
        """Forward, backward, clip, update."""
        loss = self.engine.loss(self.batch) / len(self.batch.target_N)
        self.engine.backward(loss, last=True)
        if self.updates:
            self.engine.step(CONFIG.learning_rate)


def make_model(preset: Preset, device: torch.device) -> Qwen2ForCausalLM:
    """Return a random model; the same weights at every call."""
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2ForCausalLM(Qwen2Config(
            max_position_embeddings=4096, attn_implementation="sdpa", **preset.model)).to(preset.dtype)
    return model.train()


def make_batch(preset: Preset, device: torch.device) -> Batch:
    """Return random sequences."""
    shape = (preset.sequences, preset.tokens)
    ids = np.random.default_rng(0).integers(0, preset.model["vocab_size"], shape).astype(np.int32)
    segments_T = 1 + np.arange(preset.tokens) * preset.documents // preset.tokens
    opens_T = np.diff(segments_T, prepend=0) > 0
    sequences = SequenceSet(input_ids_ST=ids, segment_ids_ST=np.tile(segments_T.astype(np.int32), (preset.sequences, 1)),
                            loss_mask_ST=np.tile(~opens_T, (preset.sequences, 1)))
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


def without_digests() -> contextlib.AbstractContextManager[object]:
    """Let `trainable` take no digests: SHA-256 of 30 GB lasts longer than all steps that are timed."""
    nothing = Snapshot(outside={}, inside={}, values_outside=0, values_inside=0)
    return mock.patch("sea_ray.training.policy._snapshot", return_value=nothing)


@contextlib.contextmanager
def arm(kind: str, preset: Preset, device: torch.device, *, config: TrainConfig = CONFIG,
        execution: ExecutionConfig | None = None, lora_rank: int = 8) -> Iterator[Arm]:
    """Yield one way to train, set up as its users would.

    Args:
        kind: one of KINDS.
        preset, device: model and batch, and where they are.
        config, execution: precision and optimiser; kernels, compilation and activation checkpointing.
        lora_rank: inner width of the adapters, for "lora".
    """
    model = make_model(preset, device)
    worker = SoloWorker("cuda" if device.type == "cuda" else "cpu", execution)
    with contextlib.ExitStack() as stack:
        if kind == "masked":
            mask_gradients(model, spread_neurons(model, preset.top_frac))
        elif kind == "frozen":
            model.requires_grad_(False)
            model.enable_input_require_grads()
        elif kind != "full":
            first_layer = model.config.num_hidden_layers // 2 if kind == "neurons_upper" else 0
            neurons = None if kind == "lora" else spread_neurons(model, preset.top_frac, first_layer)
            policy = TrainPolicy(kind="lora", lora_rank=lora_rank) if kind == "lora" else TrainPolicy(kind="neurons")
            with without_digests():
                stack.enter_context(trainable(model, policy, neurons))
        training = {name: p for name, p in model.named_parameters() if p.requires_grad}
        # a frozen pass forms no gradient of a weight; the engine's optimiser needs one parameter to exist
        parameters = training or {"none": nn.Parameter(torch.zeros(1, device=device))}
        stack.enter_context(prepared(model, worker))
        yield Arm(model=model, engine=worker.engine(model, parameters, config), batch=make_batch(preset, device),
                  updates=bool(training))
