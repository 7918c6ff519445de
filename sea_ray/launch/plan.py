"""`sea-ray plan`: what an experiment will do and take, before anything starts, and whether it fits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from rich.console import Console

from sea_ray.artifacts import Store
from sea_ray.config import ExperimentConfig
from sea_ray.errors import ConfigError
from sea_ray.launch.accelerators import TextRates, load_accelerators
from sea_ray.launch.budget import machine_price
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.console import agreed, is_terminal, print_json
from sea_ray.launch.durations import Pace
from sea_ray.launch.foresight import model_shape
from sea_ray.launch.outlook import Outlook, as_values, can_time, foretell, hours, summary, text_bytes, usd
from sea_ray.launch.prices import Machine, cheapest_processors, usd_per_hour
from sea_ray.launch.room import Forecast, excess, gigabytes, parts, room_of
from sea_ray.training.estimate import activation_bytes, micro_batches, step_work


def plan(overrides: Sequence[str], console: Console, *, measure: bool = True, as_json: bool = False) -> int:
    """Print what an experiment will do and take, and return the exit code; nothing starts but a few steps that are timed.

    Args:
        overrides: Hydra overrides; `experiment=NAME` is required.
        console: where a person looks.
        measure: whether steps are timed where this machine is the one that will train.
        as_json: print the plan for machines, too.

    Raises:
        SeaRayError: the configuration is wrong, or the model's shape is not known.
    """
    config = compose_experiment(overrides)
    table, room, store = load_accelerators(), room_of(config.cluster), Store(config.store.url)
    shape, origin = model_shape(config.model)
    console.print(f"model       {shape.num_values:,} values, {shape.num_layers} layers of width {shape.d_model:,}, from {origin}")
    console.print(f"workers     {config.cluster.training.num_workers}, each with {room.words}")
    if (num_bytes := text_bytes(config.corpus)):
        _, name, machine = cheapest_processors()
        cpus = config.cluster.num_cpus or os.cpu_count() or 1
        console.print(f"text        {describe_text(num_bytes, table.text, cpus, name, machine)}")
    if measure and can_time(config):
        console.print("[dim]            a few steps are timed (--no-measure leaves that)[/]")
    outlook = foretell(config, store, measure=measure)
    console.print(f"pace        {outlook.pace.words}\n")
    for forecast in outlook.trainings:
        for line in _describe(forecast, outlook.pace):
            console.print(line)
    refused = [f"{forecast.planned.name}: {reason}" for forecast in outlook.trainings if forecast.planned.state != "finished"
               for reason in excess(forecast, room)]
    console.print()
    for line in summary(outlook):
        console.print(line)
    for reason in refused:
        console.print(f"[red]no room[/]     {reason}")
    console.print("[red]`sea-ray run` will refuse this[/]" if refused else "fits        as far as these estimates go")
    if as_json:
        print_json(as_values(outlook) | {"fits": not refused, "refused": refused})
    return 0


MACHINES = 8
"""Of a cluster, for which a plan says how long a corpus takes."""


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
    ways = [(machine.spot, "as spot"), (machine.on_demand, "on demand")]
    paid = " or ".join(f"{usd((price[0] * hours / machine.cpus, price[1] * hours / machine.cpus))} {way}"
                       for price, way in ways if price)
    return (f"{num_bytes / 1e9:,.2f} GB, {hours:,.1f} processor-hours at {rates.mb_per_s_per_cpu:g} MB/s each: "
            f"{hours / cpus:,.1f} h on {cpus} processors, {hours / machine.cpus / MACHINES:,.1f} h on "
            f"{MACHINES} x {name} of {machine.cpus}; {paid}")




def agree_to_price(config: ExperimentConfig, store: Store, console: Console, *, yes: bool) -> bool:
    """Say what a run on machines that are paid by the hour will take, and return whether that is agreed to.

    Where no provider is named, or nothing is to do, nobody is asked.

    Args:
        config: the experiment.
        store: says what is finished.
        console: where a person looks.
        yes: agreed beforehand.

    Raises:
        ConfigError: nobody can be asked, or the provider has no machine that suits.
    """
    if usd_per_hour(config.cluster) is None:
        return True
    outlook = foretell(config, store, measure=False)
    if not outlook.to_do:
        return True
    for line in summary(outlook):
        console.print(line)
    if not yes and not is_terminal():
        raise ConfigError("", f"cluster.provider={config.cluster.provider} is paid by the hour and there is no terminal to ask: "
                              "say --yes")
    return agreed("go on?", console, yes=yes)


def check_budget(config: ExperimentConfig, store: Store) -> None:
    """Refuse a budget that cannot be watched, or that by the plan ends before one trial of a sweep has finished.

    Args:
        config: the experiment.
        store: says what is finished.

    Raises:
        ConfigError: with what would do.
    """
    budget, price = config.budget, machine_price(config.cluster, config.budget)
    if budget.max_usd is not None and not price and not budget.usd_per_hour_besides:
        raise ConfigError("budget.max_usd", f"{budget.max_usd:g}, but no price is known: set budget.usd_per_machine_hour, or "
                                            "cluster.provider to one of conf/prices.yaml")
    if budget.max_hours is None and budget.max_usd is None:
        return
    needed = until_a_trial(foretell(config, store, measure=False))
    if needed is None:
        return
    if budget.max_hours is not None and needed > budget.max_hours * 3600:
        raise ConfigError("budget.max_hours", f"{budget.max_hours:g} h end before one trial of a sweep has finished, by the plan "
                                              f"after {hours(needed)}: allow more")
    whole = usd_per_hour(config.cluster) if budget.usd_per_machine_hour is None else None
    spent = needed / 3600 * (budget.usd_per_hour_besides + (whole[1] if whole else price or 0))
    if budget.max_usd is not None and spent > budget.max_usd:
        raise ConfigError("budget.max_usd", f"{budget.max_usd:g} USD are spent before one trial of a sweep has finished, by the "
                                            f"plan {usd((spent, spent))} in {hours(needed)}: allow more")


def until_a_trial(outlook: Outlook) -> float | None:
    """Return the seconds until the first unfinished trial of a sweep will have finished; None: none is left, or not known."""
    names = {name for sweep in outlook.foresight.sweeps for name in sweep.stages}
    total = outlook.start_s
    for each in outlook.to_do:
        if each.seconds is None:
            return None
        total += each.seconds
        if each.stage.name in names:
            return total
    return None


def _describe(forecast: Forecast, pace: Pace) -> Iterator[str]:
    planned, memory, execution = forecast.planned, forecast.memory, forecast.execution
    training = planned.training
    share = training.trained_values / training.shape.num_values
    yield f"[bold]{planned.name}[/]  {_STATES[planned.state]}"
    neurons = ", ".join(f"{count:,} {site}" for site, count in training.neurons.items())
    yield (f"    trains    {training.policy.kind}{f' ({neurons})' if neurons else ''}: {training.trained_values:,} values "
           f"({share:.2%})" + (f", {planned.times} times, one after the other" if planned.times > 1 else ""))
    config = training.config
    steps, tokens = planned.times * config.steps, planned.times * training.tokens
    flops, step_s = step_work(training, checkpointing=execution.activation_checkpointing).total, pace.step_s(training, execution)
    yield (f"    steps     {steps:,}, {tokens:,} tokens, {steps * flops:.3g} FLOPs"
           + (f", {hours(steps * step_s)}" if step_s is not None else ""))
    size, _ = micro_batches(config, execution.num_workers)
    other = not execution.activation_checkpointing
    switched = activation_bytes(training, size, other, forecast.device)
    how = f"ZeRO {execution.zero_stage}" if execution.engine == "deepspeed" else "plain torch"
    how += f", offload {execution.offload}" if execution.offload != "none" else ""
    yield (f"    a worker  {how}: peak {gigabytes(memory.peak)} ({parts(memory)})"
           + (f", and {gigabytes(memory.host)} of the processor's memory" if memory.host else "")
           + f"; {'with' if other else 'without'} activation checkpointing activations {gigabytes(switched)}")


_STATES = {"finished": "[green]finished[/], will be reused", "to do": "to do",
           "open": "to do or finished: an earlier sweep decides"}
