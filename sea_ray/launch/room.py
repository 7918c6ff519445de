"""What one worker may hold, and whether a training fits; if not, what would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import psutil

from sea_ray.artifacts import Store
from sea_ray.config import ClusterConfig, ExperimentConfig
from sea_ray.errors import MachineError
from sea_ray.launch.accelerators import load_accelerators
from sea_ray.launch.foresight import Foresight, PlannedTraining, foresee, model_shape, planned_trainings
from sea_ray.launch.machine import cluster_address
from sea_ray.training.config import ExecutionConfig
from sea_ray.training.estimate import MemoryEstimate, Training, estimate_memory, micro_batches
from sea_ray.training.shape import ModelShape

PROCESS_BYTES = 800_000_000
"""What a worker holds before it has a model: Python, torch, transformers, DeepSpeed and Ray (measured: 0.6 to 0.8 GB)."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """What one worker may hold."""

    device: str
    """"cpu" or "cuda"."""
    device_bytes: float | None
    """On its device; None: not known here."""
    host_bytes: float | None
    """In the processor's memory; None: not known here."""
    words: str
    """What that is."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """A planned training and what it takes."""

    planned: PlannedTraining
    execution: ExecutionConfig
    """As it is for the training's policy."""
    device: str
    """"cpu" or "cuda"."""
    memory: MemoryEstimate


def check_plan(config: ExperimentConfig, store: Store) -> None:
    """Refuse an experiment of which a training that is still to do does not fit the machine.

    Raises:
        MachineError: with the numbers and what would fit.
    """
    room = room_of(config.cluster)
    shape, _ = model_shape(config.model)
    for forecast in forecasts(config, foresee(config, store), shape):
        if forecast.planned.state != "finished" and (reasons := excess(forecast, room)):
            raise MachineError(f"{forecast.planned.name} does not fit: {reasons[0]}")


def forecasts(config: ExperimentConfig, foresight: Foresight, shape: ModelShape) -> Iterator[Forecast]:
    """Yield what each training's workers hold."""
    for planned in planned_trainings(foresight, shape):
        execution = config.cluster.training.for_policy(planned.training.policy.kind)
        device = device_of(config.cluster)
        yield Forecast(planned=planned, execution=execution, device=device,
                       memory=estimate_memory(planned.training, execution, device))


def device_of(cluster: ClusterConfig) -> str:
    """Return "cpu" or "cuda": where workers compute; "auto" takes a GPU where an accelerator is named that is one."""
    device = cluster.training.device
    if device != "auto":
        return device
    return "cpu" if cluster.accelerator in (None, "cpu") else "cuda"


def room_of(cluster: ClusterConfig) -> Room:
    """Return what one worker may hold: of a named accelerator by the table, of this machine by what is available now."""
    workers, device, table = cluster.training.num_workers, device_of(cluster), load_accelerators()
    is_here = cluster_address(cluster) == "local"
    share = max(0.0, psutil.virtual_memory().available / workers - PROCESS_BYTES)
    host = share if is_here else None
    if device == "cpu":
        words = (f"{gigabytes(share)} of the memory that is available here" if is_here
                 else "the memory of a cluster's node, not known")
        return Room(device=device, device_bytes=host, host_bytes=None, words=words)
    memory = table.get(cluster.accelerator).memory_gb if cluster.accelerator else None
    if memory is None:
        return Room(device=device, device_bytes=None, host_bytes=host, words="a GPU of unknown memory: name cluster.accelerator")
    usable = memory * 1e9 * table.usable_memory_frac
    return Room(device=device, device_bytes=usable, host_bytes=host,
                words=f"{gigabytes(usable)} of the {memory:g} GB of a {cluster.accelerator}")


def excess(forecast: Forecast, room: Room) -> list[str]:
    """Return why a training does not fit, with the numbers and the remedies that suffice; empty if it does."""
    memory, reasons = forecast.memory, []
    if room.device_bytes is not None and memory.peak > room.device_bytes:
        reasons.append(f"a worker needs {gigabytes(memory.peak)} ({parts(memory)}) and has {room.words}: "
                       f"{_remedies(forecast, room)}")
    if room.host_bytes is not None and memory.host > room.host_bytes:
        reasons.append(f"a worker needs {gigabytes(memory.host)} of this machine's memory to load the model or to hold what is "
                       f"offloaded, and its share of what is available is {gigabytes(room.host_bytes)}: take fewer "
                       "cluster.training.num_workers, or no offload")
    return reasons


def _remedies(forecast: Forecast, room: Room) -> str:
    """Return which changes, or which of them together, make a training fit."""
    training, execution = forecast.planned.training, forecast.execution
    assert room.device_bytes is not None
    prefix = "cluster.training.whole." if training.policy.kind == "all" else "cluster.training."
    tried: list[str] = []
    for says, changed, other in _changes(training, execution, prefix):
        if estimate_memory(changed, other, room.device).peak <= room.device_bytes:
            return f"{says} would fit ({gigabytes(estimate_memory(changed, other, room.device).peak)})"
        tried.append(says)
    weaker = f" ({tried[-1]} neither)" if tried else ""
    return f"nothing suffices{weaker}: take more workers, a larger accelerator, a smaller model or policy"


def _changes(training: Training, execution: ExecutionConfig, prefix: str) -> Iterator[tuple[str, Training, ExecutionConfig]]:
    """Yield ever stronger remedies, each with those before it, by what they cost in time."""
    says: list[str] = []
    size, _ = micro_batches(training.config, execution.num_workers)
    if size > 1:
        training = replace(training, config=replace(training.config, micro_batch=1))
        says.append("micro_batch=1 of this training")
        yield ", ".join(says), training, execution
    if not execution.activation_checkpointing:
        execution = replace(execution, activation_checkpointing=True)
        says.append(f"{prefix}activation_checkpointing=true")
        yield ", ".join(says), training, execution
    if execution.engine != "deepspeed":
        return
    alone = execution.num_workers == 1  # then there is nobody to share with, and ZeRO-3 is refused
    for stage in () if alone else range(execution.zero_stage + 1, 4):
        execution = replace(execution, zero_stage=stage)
        yield ", ".join([*says, f"{prefix}zero_stage={stage}"]), training, execution
    execution = replace(execution, zero_stage=2 if alone else 3, offload="none")
    says.append(f"{prefix}zero_stage={execution.zero_stage}")
    kinds: tuple[Literal["optimizer", "all"], ...] = ("optimizer",) if alone else ("optimizer", "all")
    for what in kinds:
        execution = replace(execution, offload=what)
        yield ", ".join([*says, f"{prefix}offload={what}"]), training, execution


def parts(memory: MemoryEstimate) -> str:
    """Return in words what an estimate is made of."""
    return (f"weights {gigabytes(memory.weights)}, gradients {gigabytes(memory.gradients)}, "
            f"optimiser {gigabytes(memory.optimizer)}, activations {gigabytes(memory.activations)}, "
            f"passing {gigabytes(memory.buffers)}")


def gigabytes(size: float) -> str:
    """Return bytes in words, fine enough to compare what nearly fits."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
