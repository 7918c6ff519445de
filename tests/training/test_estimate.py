"""What a plan says of memory and work is what trainings of this project really take."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.arms import Preset as Sizes
from benchmarks.arms import make_batch, spread_neurons
from sea_ray.training.config import ExecutionConfig, TrainConfig, TrainPolicy
from sea_ray.training.engine import TorchEngine
from sea_ray.training.estimate import Training, estimate_memory, step_work
from sea_ray.training.model import new_model
from sea_ray.training.policy import trainable
from sea_ray.training.shape import ModelShape, num_values

REPO = Path(__file__).resolve().parents[2]
TOKENS = 256
SIZES = Sizes({"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
               "intermediate_size": 640, "vocab_size": 2048, "tie_word_embeddings": True}, sequences=2, tokens=TOKENS,
              top_frac=0.01, dtype=torch.float32)
POLICIES = {kind: TrainPolicy(kind=kind) for kind in ("all", "neurons", "ffn_only", "embeddings", "lora")}


def shape_of(model):
    return ModelShape.from_checkpoint(model.config.to_dict())


def chosen(shape, model):
    """The neurons of benchmarks/arms.py, counted."""
    return {site: sum(spread_neurons(model, SIZES.top_frac).counts(site, shape.num_layers)) for site in ("ffn", "v", "q", "k")}


@pytest.fixture(scope="module")
def random_model():
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(attn_implementation="eager", **SIZES.model))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", POLICIES)
def test_the_tensors_that_train_are_those_of_a_real_model(shape, kind, tied):
    model = new_model(dataclasses.replace(shape, tie_embeddings=tied), 61, seed=3, eos_id=0)
    known = ModelShape.from_config(dataclasses.replace(shape, tie_embeddings=tied), 61)
    assert known == shape_of(model)
    assert known.tensors() == {name: tuple(p.shape) for name, p in model.named_parameters()}
    neurons = spread_neurons(model, 0.1) if kind == "neurons" else None
    counts = {site: sum(neurons.counts(site, 2)) for site in ("ffn", "v", "q", "k")} if neurons else None
    with trainable(model, POLICIES[kind], neurons) as trained:
        assert num_values(known.trained(POLICIES[kind], counts)) == trained.num_values
        if kind != "lora":
            assert list(known.trained(POLICIES[kind], counts).values()) == [
                tuple(p.shape) for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_work_of_a_step_is_what_torch_counts(random_model, kind, checkpointing):
    shape = shape_of(random_model)
    training = Training(shape=shape, policy=POLICIES[kind], neurons=chosen(shape, random_model),
                        config=TrainConfig(steps=1, batch_sequences=2, sequence_tokens=TOKENS))
    batch = make_batch(SIZES, torch.device("cpu"))
    with trainable(random_model, POLICIES[kind], spread_neurons(random_model, SIZES.top_frac) if kind == "neurons" else None):
        random_model.train()
        if checkpointing:
            random_model.gradient_checkpointing_enable({"use_reentrant": False})
        engine = TorchEngine(random_model, {n: p for n, p in random_model.named_parameters() if p.requires_grad}, training.config,
                             torch.device("cpu"))
        with FlopCounterMode(display=False) as counter:
            engine.backward(engine.loss(batch), last=True)
        random_model.zero_grad(set_to_none=True)
        random_model.gradient_checkpointing_disable()
    assert step_work(training, checkpointing=checkpointing).total == pytest.approx(counter.get_total_flops(), rel=0.03)


MEASURED = {"d_model": 512, "num_layers": 8, "num_heads": 8, "num_kv_heads": 2, "d_mlp": 1408}
VOCAB = 8192
CASES = {"everything": ("all", 0, False), "everything in two micro batches": ("all", 2, False),
         "everything with checkpointing": ("all", 0, True), "neurons": ("neurons", 0, False),
         "neurons with checkpointing": ("neurons", 0, True), "adapters": ("lora", 0, False)}
"""What trains, the micro batch, activation checkpointing: of a model of 27 million values."""
MEASURE = """
import gc, json, sys, numpy as np, torch
torch.set_num_threads(1)
from sea_ray.tracking import NullTracker
from sea_ray.training.config import ExecutionConfig, ModelConfig, TrainConfig, TrainPolicy
from sea_ray.training.engine import SoloWorker
from sea_ray.training.loop import train
from sea_ray.training.mixture import Mixture
from sea_ray.training.model import new_model
from sea_ray.training.policy import trainable
from sea_ray.training.sequences import pack_corpus
from benchmarks.arms import spread_neurons

asked = json.loads(sys.argv[1])
def resident(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
def measured(shape, kind, micro_batch, checkpointing):
    model = new_model(ModelConfig(**shape), asked["vocab"], seed=0, eos_id=0)
    neurons = spread_neurons(model, 0.005) if kind == "neurons" else None
    documents = [np.append(np.random.default_rng(n).integers(1, asked["vocab"], 180), 0) for n in range(30)]
    sources = {"th": pack_corpus(np.concatenate(documents), 0, asked["config"]["sequence_tokens"])}
    config = TrainConfig(**asked["config"], micro_batch=micro_batch)
    mixture = Mixture({"th": sources["th"].num_sequences}, {"th": 1.0}, 0, None, config.total_samples)
    worker = SoloWorker("cpu", ExecutionConfig(activation_checkpointing=checkpointing))
    with trainable(model, TrainPolicy(kind=kind), neurons):
        gc.collect()
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak begins anew
        before = resident("VmRSS")
        train(model, sources, mixture, config, worker, NullTracker())
        return resident("VmHWM") - before, {site: sum(neurons.counts(site, 8)) for site in neurons.sites} if neurons else {}
for kind in ("all", "lora"):  # loads what is loaded late
    measured({"d_model": 32, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "d_mlp": 48}, kind, 0, True)
print(json.dumps({name: measured(asked["shape"], *case) for name, case in asked["cases"].items()}))
"""


@pytest.fixture(scope="module")
def measured():
    """Case -> bytes of a process of its own at the peak of the training, less those before it; and the chosen neurons."""
    asked = {"shape": MEASURED, "vocab": VOCAB, "config": CONFIG, "cases": CASES}
    gives_back = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back to the system at once
    done = subprocess.run([sys.executable, "-c", MEASURE, json.dumps(asked)], cwd=REPO, env=gives_back, capture_output=True,
                          text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


CONFIG = {"steps": 2, "batch_sequences": 4, "sequence_tokens": 256}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_peak_is_within_a_quarter_of_what_a_process_really_held(measured, case):
    kind, micro_batch, checkpointing = CASES[case]
    found, neurons = measured[case]
    shape = ModelShape(**MEASURED, d_head=64, vocab_size=VOCAB, tie_embeddings=True)
    config = TrainConfig(**CONFIG, micro_batch=micro_batch)
    training = Training(shape=shape, policy=POLICIES[kind], neurons=neurons, config=config)
    said = estimate_memory(training, ExecutionConfig(activation_checkpointing=checkpointing))
    assert said.peak - 4 * shape.num_values == pytest.approx(found, rel=0.25)
