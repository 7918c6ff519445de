"""`sea-ray plan`: what an experiment's trainings will take, before anything starts, and whether they fit the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import psutil
from rich.console import Console

from sea_ray.artifacts import Store
from sea_ray.config import ClusterConfig, ExperimentConfig
from sea_ray.corpus.config import CorpusConfig
from sea_ray.corpus.sources import input_bytes
from sea_ray.errors import ConfigError, MachineError
from sea_ray.launch.accelerators import AcceleratorTable, TextRates, load_accelerators
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.foresight import PlannedTraining, model_shape, planned_trainings
from sea_ray.launch.machine import cluster_address
from sea_ray.launch.prices import Machine, Range, cheapest_processors
from sea_ray.training.config import ExecutionConfig
from sea_ray.training.estimate import MemoryEstimate, Training, activation_bytes, estimate_memory, micro_batches, step_work

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
    flops: float
    """Of all its steps."""
    seconds: float | None
    """At the assumed utilisation; None where the accelerator is not named."""


def plan(overrides: Sequence[str], console: Console) -> int:
    """Print the trainings of an experiment with memory, work and time, and return the exit code; nothing starts.

    Args:
        overrides: Hydra overrides; `experiment=NAME` is required.
        console: where a person looks.

    Raises:
        SeaRayError: the configuration is wrong, or the model's shape is not known.
    """
    config = compose_experiment(overrides)
    table, room = load_accelerators(), room_of(config.cluster)
    shape, origin = model_shape(config.model)
    console.print(f"model       {shape.num_values:,} values, {shape.num_layers} layers of width {shape.d_model:,}, from {origin}")
    training = config.cluster.training
    console.print(f"workers     {training.num_workers}, each with {room.words}")
    accelerator = config.cluster.accelerator or device_of(config.cluster)
    if (num_bytes := text_bytes(config.corpus)):
        _, name, machine = cheapest_processors()
        cpus = config.cluster.num_cpus or os.cpu_count() or 1
        console.print(f"text        {describe_text(num_bytes, table.text, cpus, name, machine)}")
    console.print(f"assumed     {table.utilisation:.0%} of the peak rate of {accelerator} (accelerators.yaml, {table.dated})\n")
    seconds, refused = 0.0, []
    for forecast in forecasts(config, Store(config.store.url)):
        for line in _describe(forecast):
            console.print(line)
        if forecast.planned.state != "finished":
            seconds += forecast.seconds or 0
            refused += [f"{forecast.planned.name}: {reason}" for reason in excess(forecast, room)]
    console.print(f"\nto train    {_hours(seconds)} without what is finished; detection and evaluation come "
                  "on top")
    for reason in refused:
        console.print(f"[red]no room[/]     {reason}")
    console.print("[red]`sea-ray run` will refuse this[/]" if refused else "fits        as far as these estimates go")
    return 0


MACHINES = 8
"""Of a cluster, for which a plan says how long a corpus takes."""


def text_bytes(corpus: CorpusConfig) -> int:
    """Return the bytes of text that a corpus is made of: of its files, or as many as it may take of datasets; 0: not known."""
    if corpus.source == "hub":
        return corpus.max_bytes_per_language * len(corpus.languages)
    return input_bytes(corpus)


def describe_text(num_bytes: int, rates: TextRates, cpus: int, name: str, machine: Machine) -> str:
    """Return in words what a corpus takes: processor-hours, hours here and on a cluster, price.

    Args:
        num_bytes: of the text.
        rates: of one processor.
        cpus: of this machine.
        name: of the machines of a cluster.
        machine: what each of those has and costs.
    """
    hours = num_bytes / (rates.mb_per_s_per_cpu * 1e6) / 3600
    paid = describe_prices(machine.spot, machine.on_demand, hours / machine.cpus)
    return (f"{num_bytes / 1e9:,.2f} GB, {hours:,.1f} processor-hours at {rates.mb_per_s_per_cpu:g} MB/s each: "
            f"{hours / cpus:,.1f} h on {cpus} processors, {hours / machine.cpus / MACHINES:,.1f} h on "
            f"{MACHINES} x {name} of {machine.cpus}; {paid}")


def describe_prices(spot: Range | None, on_demand: Range, hours: float) -> str:
    """Return what machines cost for some hours, both ways to pay."""
    ways = [f"{_usd(spot, hours)} as spot"] if spot else []
    return " or ".join([*ways, f"{_usd(on_demand, hours)} on demand"])


def _usd(price: Range, hours: float) -> str:
    least, most = f"{price[0] * hours:,.2f}", f"{price[1] * hours:,.2f}"
    return f"{least} USD" if least == most else f"{least} to {most} USD"


def check_plan(config: ExperimentConfig, store: Store) -> None:
    """Refuse an experiment of which a training that is still to do does not fit the machine.

    Raises:
        MachineError: with the numbers and what would fit.
    """
    room = room_of(config.cluster)
    for forecast in forecasts(config, store):
        if forecast.planned.state != "finished" and (reasons := excess(forecast, room)):
            raise MachineError(f"{forecast.planned.name} does not fit: {reasons[0]}")


def forecasts(config: ExperimentConfig, store: Store) -> Iterator[Forecast]:
    """Yield what each training takes."""
    shape, _ = model_shape(config.model)
    cluster, table = config.cluster, load_accelerators()
    for planned in planned_trainings(config, store, shape):
        execution = cluster.training.for_policy(planned.training.policy.kind)
        work = step_work(planned.training, checkpointing=execution.activation_checkpointing)
        flops = work.total * planned.training.config.steps * planned.times
        yield Forecast(planned=planned, execution=execution, device=device_of(cluster), flops=flops,
                       seconds=_seconds(flops, planned.training, cluster, table),
                       memory=estimate_memory(planned.training, execution, device_of(cluster)))


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
        words = f"{_gb(share)} of the memory that is available here" if is_here else "the memory of a cluster's node, not known"
        return Room(device=device, device_bytes=host, host_bytes=None, words=words)
    memory = table.get(cluster.accelerator).memory_gb if cluster.accelerator else None
    if memory is None:
        return Room(device=device, device_bytes=None, host_bytes=host, words="a GPU of unknown memory: name cluster.accelerator")
    usable = memory * 1e9 * table.usable_memory_frac
    return Room(device=device, device_bytes=usable, host_bytes=host,
                words=f"{_gb(usable)} of the {memory:g} GB of a {cluster.accelerator}")


def excess(forecast: Forecast, room: Room) -> list[str]:
    """Return why a training does not fit, with the numbers and the remedies that suffice; empty if it does."""
    memory, reasons = forecast.memory, []
    if room.device_bytes is not None and memory.peak > room.device_bytes:
        reasons.append(f"a worker needs {_gb(memory.peak)} ({_parts(memory)}) and has {room.words}: {_remedies(forecast, room)}")
    if room.host_bytes is not None and memory.host > room.host_bytes:
        reasons.append(f"a worker needs {_gb(memory.host)} of this machine's memory to load the model or to hold what is "
                       f"offloaded, and its share of what is available is {_gb(room.host_bytes)}: take fewer "
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
            return f"{says} would fit ({_gb(estimate_memory(changed, other, room.device).peak)})"
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


def _seconds(flops: float, training: Training, cluster: ClusterConfig, table: AcceleratorTable) -> float | None:
    name = cluster.accelerator or ("cpu" if device_of(cluster) == "cpu" else None)
    if name is None:
        return None
    accelerator = table.get(name)
    if training.config.dtype not in accelerator.tflops:
        raise ConfigError(f"accelerators.{name}.tflops", f"there is no rate for {training.config.dtype}")
    threads = cluster.training.threads_per_worker if accelerator.per_thread else 1
    rate = accelerator.tflops[training.config.dtype] * 1e12 * table.utilisation
    return flops / (cluster.training.num_workers * max(1, threads) * rate)


def _describe(forecast: Forecast) -> Iterator[str]:
    planned, memory, execution = forecast.planned, forecast.memory, forecast.execution
    training = planned.training
    share = training.trained_values / training.shape.num_values
    yield f"[bold]{planned.name}[/]  {_STATES[planned.state]}"
    neurons = ", ".join(f"{count:,} {site}" for site, count in training.neurons.items())
    yield (f"    trains    {training.policy.kind}{f' ({neurons})' if neurons else ''}: {training.trained_values:,} values "
           f"({share:.2%})" + (f", {planned.times} times, one after the other" if planned.times > 1 else ""))
    config = training.config
    steps, tokens = planned.times * config.steps, planned.times * training.tokens
    yield (f"    steps     {steps:,}, {tokens:,} tokens, {forecast.flops:.3g} FLOPs"
           + (f", {_hours(forecast.seconds)}" if forecast.seconds is not None else ""))
    size, _ = micro_batches(config, execution.num_workers)
    other = not execution.activation_checkpointing
    switched = activation_bytes(training, size, other, forecast.device)
    how = f"ZeRO {execution.zero_stage}" if execution.engine == "deepspeed" else "plain torch"
    how += f", offload {execution.offload}" if execution.offload != "none" else ""
    yield (f"    a worker  {how}: peak {_gb(memory.peak)} ({_parts(memory)})"
           + (f", and {_gb(memory.host)} of the processor's memory" if memory.host else "")
           + f"; {'with' if other else 'without'} activation checkpointing activations {_gb(switched)}")


_STATES = {"finished": "[green]finished[/], will be reused", "to do": "to do",
           "open": "to do or finished: an earlier sweep decides"}


def _parts(memory: MemoryEstimate) -> str:
    return (f"weights {_gb(memory.weights)}, gradients {_gb(memory.gradients)}, optimiser {_gb(memory.optimizer)}, activations "
            f"{_gb(memory.activations)}, passing {_gb(memory.buffers)}")


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _hours(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.1f} h"
