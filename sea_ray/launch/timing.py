"""How long a step takes on this machine: a few real steps of a planned training, in as many processes as will train.

Weights and text are random; the loop, the engine and the exchange of gradients are those of a run, only Ray is missing.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sea_ray.errors import MachineError
from sea_ray.training.config import ExecutionConfig, ModelConfig, TrainConfig, TrainPolicy
from sea_ray.training.estimate import Training
from sea_ray.training.shape import ModelShape

BUDGET_S = 5.0
"""Of timed steps of one training."""
MOST_STEPS, LEAST_STEPS = 40, 4
LIMIT_S = 300.0
"""Of everything, imports included; a machine so busy tells nothing."""
NICENESS = 15
"""By so much Ray's processes give way to others on the same machine (RAY_worker_niceness' default)."""
PROBE = Training(
    shape=ModelShape.from_config(ModelConfig(d_model=128, num_layers=3, num_heads=4, num_kv_heads=2, d_mlp=512), 8192),
    policy=TrainPolicy(kind="all"), config=TrainConfig(steps=1, batch_sequences=8, sequence_tokens=128, learning_rate=1e-3))
"""What machines are compared by: the demo's base."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A training to time."""

    training: Training
    target_frac: float = 1.0
    """Share of the tokens that are loss targets: the output layer computes these only."""


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """What came of it."""

    seconds: float
    """Wall time of a step, on average."""
    share: float
    """Of that, in which its threads had a processor: far below 1 where others use the machine, too."""


def time_steps(trainings: Sequence[Timed], execution: ExecutionConfig) -> list[StepTime]:
    """Return what a step of each training takes.

    Args:
        trainings: one after the other.
        execution: workers and engine.

    Raises:
        MachineError: the processes failed, or took too long.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="sea_ray-") as folder:
        ranks = [context.Process(target=_rank, args=(rank, list(trainings), execution, folder), daemon=True)
                 for rank in range(execution.num_workers)]
        for process in ranks:
            process.start()
        try:
            for process in ranks:
                process.join(LIMIT_S)
        finally:
            for process in ranks:
                if process.is_alive():
                    process.terminate()
        file = Path(folder) / "seconds.json"
        if not file.exists():
            codes = ", ".join(str(process.exitcode) for process in ranks)
            raise MachineError(f"timing a few steps failed (exit codes {codes}); plan without it: --no-measure")
        return [StepTime(**each) for each in json.loads(file.read_text(encoding="utf-8"))]


def _rank(rank: int, trainings: list[Timed], execution: ExecutionConfig, folder: str) -> None:
    import torch

    os.nice(NICENESS)
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it found no other
    torch.set_num_threads(max(1, execution.threads_per_worker))
    worker: Any
    if execution.engine == "deepspeed":
        import torch.distributed as dist

        from sea_ray.launch.deepspeed_worker import DeepSpeedWorker

        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(execution.num_workers)}  # as Ray Train does
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=execution.num_workers)
        worker = DeepSpeedWorker(execution)
    else:
        from sea_ray.training.engine import SoloWorker

        worker = SoloWorker(execution.device, execution)
    times = [_step_time(timed, worker) for timed in trainings]
    if rank == 0:
        Path(folder, "seconds.json").write_text(json.dumps([asdict(each) for each in times]), encoding="utf-8")


def _step_time(timed: Timed, worker: Any) -> StepTime:
    """Return what a step takes; called by every rank alike."""
    import numpy as np

    from sea_ray.tracking import NullTracker
    from sea_ray.training.loop import train
    from sea_ray.training.mixture import Mixture
    from sea_ray.training.model import new_model
    from sea_ray.training.policy import trainable
    from sea_ray.training.sequences import SequenceSet, pack_corpus

    training, shape = timed.training, timed.training.shape
    config = replace(training.config, eval_every_steps=0, keep="last", max_loss_rise=0.0)
    model = new_model(ModelConfig(
        d_model=shape.d_model, num_layers=shape.num_layers, num_heads=shape.num_heads, num_kv_heads=shape.num_kv_heads,
        d_mlp=shape.d_mlp, max_position=config.sequence_tokens, tie_embeddings=shape.tie_embeddings), shape.vocab_size, 0, 0)
    random = np.random.default_rng(0)
    packed = pack_corpus(random.integers(1, shape.vocab_size, config.batch_sequences * config.sequence_tokens), 0,
                         config.sequence_tokens)
    chosen = packed.loss_mask_ST & (random.random(packed.loss_mask_ST.shape) < timed.target_frac)
    text = {"random": SequenceSet(input_ids_ST=packed.input_ids_ST, segment_ids_ST=packed.segment_ids_ST, loss_mask_ST=chosen)}
    with trainable(model, training.policy, _some_neurons(training, model)):
        def run(steps: int) -> StepTime:
            mixture = Mixture({"random": packed.num_sequences}, {"random": 1.0}, 0, None, steps * config.batch_sequences)
            wall_s, processor_s = time.perf_counter(), time.process_time()
            report = train(model, text, mixture, replace(config, steps=steps), worker, NullTracker())
            wall_s, processor_s = time.perf_counter() - wall_s, time.process_time() - processor_s
            threads = max(1, worker.execution.threads_per_worker)
            return StepTime(seconds=report.seconds / steps, share=min(1.0, processor_s / (wall_s * threads)))

        warm = run(LEAST_STEPS)
        return run(worker.broadcast(int(max(LEAST_STEPS, min(MOST_STEPS, BUDGET_S / warm.seconds)))))


def _some_neurons(training: Training, model: Any) -> Any:
    """Return a set of as many neurons as a language's, spread evenly over the layers; None where none are trained."""
    if training.policy.kind != "neurons":
        return None
    import numpy as np

    from sea_ray.neurons.sets import NeuronSet

    layers = training.shape.num_layers
    return NeuronSet(language="random", indices={
        (site, layer): np.arange(count // layers + (layer < count % layers))
        for site, count in training.neurons.items() for layer in range(layers)})
