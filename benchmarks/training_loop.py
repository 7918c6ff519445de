"""The training loop beside a bare torch loop, what saving states costs, and how soon a worker group trains."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.arms import spread_neurons
from benchmarks.side_by_side import Result, arguments, conclude
from sea_ray.artifacts import StageKey, Store
from sea_ray.config import ClusterConfig
from sea_ray.execution import Stage, StageContext
from sea_ray.launch.ray_platform import RayPlatform
from sea_ray.stages.base import training_states
from sea_ray.tracking import NullTracker
from sea_ray.training.config import ExecutionConfig, ModelConfig, TrainConfig, TrainPolicy
from sea_ray.training.engine import SoloWorker, Worker, adamw
from sea_ray.training.loop import TrainReport, train
from sea_ray.training.mixture import Mixture
from sea_ray.training.model import new_model
from sea_ray.training.policy import trainable
from sea_ray.training.sequences import SequenceSet, collate, pack_corpus
from sea_ray.training.state import TrainingStates
from sea_ray.training.token_loss import TokenLoss

VOCAB, TOP_FRAC = 6144, 0.001
EVERY_10 = ExecutionConfig(checkpoint_every_steps=10)


def training(steps: int) -> TrainConfig:
    """Return a training of the demo's size."""
    return TrainConfig(steps=steps, batch_sequences=16, sequence_tokens=128, learning_rate=1e-3)


def make() -> tuple[nn.Module, dict[str, SequenceSet]]:
    """Return a model of the demo's shape and random documents of 50 tokens."""
    model = new_model(ModelConfig(), VOCAB, seed=0, eos_id=0)
    tokens = np.random.default_rng(0).integers(1, VOCAB, 200_000)
    tokens[::50] = 0
    return model, {"th": pack_corpus(tokens, 0, 128)}


class Clocked(Mixture):
    """Notes when the first step was done."""

    first_step_at = 0.0

    def batch(self, step: int, batch_size: int) -> list[tuple[str, int]]:
        """Return the samples of a step."""
        if step == 1:
            self.first_step_at = time.time()
        return super().batch(step, batch_size)


def run(kind: str, steps: int, worker: Worker, states: TrainingStates | None = None) -> tuple[TrainReport, float]:
    """Train all values or a set's neurons; return the report and when the first step was done."""
    model, sources = make()
    config = training(steps)
    mixture = Clocked({"th": sources["th"].num_sequences}, {"th": 1.0}, 0, None, config.total_samples)
    neurons = spread_neurons(model, TOP_FRAC) if kind == "neurons" else None
    with trainable(model, TrainPolicy(kind=kind), neurons):  # type: ignore[arg-type]
        return train(model, sources, mixture, config, worker, NullTracker(), states=states), mixture.first_step_at


def bare(steps: int) -> float:
    """Return the seconds of a loop without anything beside forward, backward, clipping and AdamW; batches lie ready."""
    model, sources = make()
    config, module = training(steps), TokenLoss(model.train())
    mixture = Mixture({"th": sources["th"].num_sequences}, {"th": 1.0}, 0, None, config.total_samples)
    batches = [collate(sources, mixture.batch(step, config.batch_sequences), torch.device("cpu")) for step in range(steps)]
    parameters = dict(model.named_parameters())
    optimizer = adamw(model, parameters, config)
    start = time.perf_counter()
    for batch in batches:
        (module(batch) / len(batch.target_N)).backward()
        nn.utils.clip_grad_norm_(parameters.values(), config.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - start


def saving(kind: str, steps: int, folder: Path) -> float:
    """Return the seconds of a training that saves its state every 10 steps, the last one included."""
    unfinished = Store(str(folder)).unfinished(StageKey(kind="bench", name="bench", config={}))
    unfinished.clear()
    worker = SoloWorker("cpu", EVERY_10)
    with closing(TrainingStates(unfinished, worker, NullTracker())) as states:
        return run(kind, steps, worker, states)[0].seconds


def in_group(context: StageContext) -> Mapping[str, Any]:
    """Train in the worker group: a stage of its own."""
    with ExitStack() as stack:
        states = stack.enter_context(training_states(context)) if context.config["saves"] else None
        report, first_step_at = run(context.config["kind"], context.config["steps"], context.worker, states)
    return {"seconds": report.seconds, "allreduce_bytes": report.allreduce_bytes_per_step, "first_step_at": first_step_at}


def grouped(steps: int, rounds: int) -> dict[str, Any]:
    """Return what two workers under DeepSpeed take: to their first step, for a further run, with and without states."""
    cluster = ClusterConfig(num_cpus=2, training=ExecutionConfig(
        num_workers=2, engine="deepspeed", zero_stage=1, device="cpu", checkpoint_every_steps=10))
    with tempfile.TemporaryDirectory(prefix="sea_ray-bench-") as folder:
        began = time.time()
        with RayPlatform.open(Store(folder), NullTracker(), cluster) as platform:
            def stage(kind: str, saves: bool, number: int) -> dict[str, Any]:
                asked = time.time()
                facts = platform.run(Stage(kind="bench", name=f"{kind}-{number}", function="benchmarks.training_loop:in_group",
                                           config={"kind": kind, "saves": saves, "steps": steps, "number": number},
                                           place="group")).facts
                return facts | {"wait": facts["first_step_at"] - asked}

            first = stage("neurons", False, 0)
            found = [(stage("neurons", False, number), stage("neurons", True, number)) for number in range(1, rounds + 1)]
            full = stage("all", False, 0)
    return {"first_step": first["first_step_at"] - began,
            "further_run": statistics.median(one["wait"] for pair in found for one in pair),
            "plain": statistics.median(plain["seconds"] for plain, _ in found) / steps,
            "saving": statistics.median(saves["seconds"] for _, saves in found) / steps,
            "allreduce_neurons": first["allreduce_bytes"], "allreduce_full": full["allreduce_bytes"]}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = arguments(__doc__ or "", "demo")
    parser.add_argument("--steps", type=int, default=60, help="of each training")
    options = parser.parse_args()
    steps, rounds = options.steps, options.rounds
    group = grouped(steps, rounds)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="sea_ray-bench-") as folder:
        arms: dict[str, Callable[[], float]] = {
            "bare": lambda: bare(steps), "loop": lambda: run("all", steps, SoloWorker("cpu"))[0].seconds,
            "neurons": lambda: run("neurons", steps, SoloWorker("cpu"))[0].seconds,
            "neurons, saving": lambda: saving("neurons", steps, Path(folder))}
        times: dict[str, list[float]] = {name: [] for name in arms}
        for number in range(rounds + 1):
            for name, arm in arms.items():
                seconds = arm()
                if number:  # the first round warms up
                    times[name].append(seconds / steps)
    seconds_of = {name: statistics.median(values) for name, values in times.items()}
    for name, value in seconds_of.items():
        print(f"{name:16} {value * 1000:7.2f} ms a step")
    print(f"two workers      {group['plain'] * 1000:7.2f} ms a step, {group['saving'] * 1000:.2f} ms with states every 10 steps")
    results = [
        Result("step time, loop / bare torch loop, one process", seconds_of["loop"] / seconds_of["bare"], 1.05),
        Result("step time, states every 10 steps / none, neurons, one process",
               seconds_of["neurons, saving"] / seconds_of["neurons"], 1.05),
        Result("the same, two workers under DeepSpeed", group["saving"] / group["plain"], 1.05),
        Result("bytes all-reduced per step, neurons / full", group["allreduce_neurons"] / group["allreduce_full"], 0.01),
        Result("seconds from nothing to the first step of two workers", group["first_step"], 25.0),
        Result("seconds to the first step of a further run of the group", group["further_run"], 1.0),
    ]
    conclude("training_loop", results, {"step_seconds": seconds_of, "group": group}, torch.device("cpu"), options.check)


if __name__ == "__main__":
    main()
