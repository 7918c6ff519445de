"""Stages that compute next to nothing, for the tests of whatever runs stages; workers import them by name."""

import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import torch
from toy import CONFIG, Recorded, toy

from sea_ray.artifacts import Store
from sea_ray.errors import DataError
from sea_ray.execution import Proposal, Stage
from sea_ray.stages.base import training_states
from sea_ray.training.loop import train


def stage(function, store: Store, place="group", **config) -> Stage:
    """Return a stage of a function of this module; its diary lies beside the store."""
    name = f"{function}/{'-'.join(map(str, config.values())) or 'x'}"
    config = {"diary": str(store.root / "diary.jsonl"), "function": function, **config}
    return Stage(kind="fake", name=name, function=f"fake_stages:{function}", config=config, place=place)


def map_stage(store: Store, num_shards: int, place="task", **config) -> Stage:
    """Return a map over shards with its reduce."""
    config = {"diary": str(store.root / "diary.jsonl"), **config}
    return Stage(kind="fake", name="shards", function="fake_stages:count_shard", combine="fake_stages:add_shards",
                 num_shards=num_shards, config=config, place=place)


class Listed:
    """A search that proposes given (point, stage) pairs and learns nothing."""

    def __init__(self, trials, rungs=None, identity="listed"):
        self.rungs, self.identity, self.told = rungs, identity, []
        self._proposals = (Proposal(number=number, point=point, repetition=0, stage=stage)
                           for number, (point, stage) in enumerate(trials))
        self.num_trials = len(trials)

    def remember(self, board):
        """Keep nothing."""

    def ask(self):
        return next(self._proposals, None)

    def tell(self, proposal, trial):
        self.told.append((proposal.number, trial.outcome))


def write_diary(context, **entry) -> None:
    """Append one line that says what ran where."""
    entry |= {"rank": context.worker.rank, "shard": context.shard, "pid": os.getpid(), "time": time.time()}
    with Path(context.config["diary"]).open("a") as stream:
        stream.write(json.dumps(entry) + "\n")


def diary(store: Store) -> list[dict]:
    """Return what ran, in order."""
    file = store.root / "diary.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def add(context):
    """Sum 1..number over the ranks: each adds its part; takes `seconds` on top."""
    number, worker = context.config["number"], context.worker
    write_diary(context, what="start", number=number)
    time.sleep(context.config.get("seconds", 0))
    mine = sum(range(1 + worker.rank, number + 1, worker.world_size))
    total = int(worker.sum(torch.tensor([mine], dtype=torch.float64)).item())
    if worker.rank == 0:
        (context.folder / "total.txt").write_text(str(total))
        context.tracker.log(step=1, num_steps=1, loss=float(total))
        context.tracker.note(f"added up to {number}")
    write_diary(context, what="end", number=number)
    return {"total": total, "workers": worker.world_size, "pid": os.getpid()}


def tell(context):
    """Log a figure at each of `points` steps, spread over `seconds`."""
    points, seconds = context.config["points"], context.config["seconds"]
    for step in range(points):
        time.sleep(seconds / points)
        if context.worker.rank == 0:
            context.tracker.log(step=step, loss=context.config["number"] + step / points)
    write_diary(context, what="end", number=context.config["number"])
    return {"total": context.config["number"]}


def where(context):
    """Say which node this runs on."""
    import ray

    return {"node": ray.get_runtime_context().get_node_id()}


def refuse(context):
    """Refuse on every rank, as a stage that finds its data wrong does."""
    raise DataError("the text is empty; add some", "th.txt", 3)


def refuse_one(context):
    """Add, but refuse one number: one trial of a sweep that fails."""
    if context.config["number"] == context.config["bad"]:
        context.tracker.log(7, loss=3.5)
        refuse(context)
    return add(context)


def stumble(context):
    """Fail in a way that nobody foresaw, on one rank; the other waits in a collective."""
    if context.worker.rank == 1:
        raise ValueError("unforeseen")
    context.worker.barrier()


def die(context):
    """Lose one rank, as when the kernel kills it for memory; the other waits in a collective."""
    if context.worker.rank == 1:
        os._exit(1)
    context.worker.barrier()


def die_once(context):
    """Add, but lose a rank at one number: one trial of a sweep that crashes."""
    if context.config["number"] == context.config["bad"]:
        die(context)
    return add(context)


def die_all(context):
    """Lose all ranks at once, as when their machine goes."""
    context.worker.barrier()
    os._exit(1)


def learn(context):
    """Train a toy for a while, with its states; the diary says which samples each step took, of how many workers.

    With `every` it looks at text that it also trains on after so many steps; `rate` is its learning rate.
    """
    steps, seconds, every = context.config["steps"], context.config["seconds"], context.config.get("every", 0)
    config = dataclasses.replace(CONFIG, steps=steps, eval_every_steps=every,
                                 learning_rate=context.config.get("rate", CONFIG.learning_rate))

    class Slow(Recorded):
        def batch(self, step, batch_size):
            drawn = super().batch(step, batch_size)
            if context.worker.rank == 0:
                write_diary(context, what="step", step=step, samples=drawn, workers=context.worker.world_size,
                            rate=config.learning_rate)
            time.sleep(seconds)
            return drawn

    model, sources, mixture = toy(config=config, mixture=Slow)
    with training_states(context) as states:
        report = train(model, sources, mixture, config, context.worker, context.tracker, states=states,
                       held_out=sources if every else None)
    return {"losses": report.losses, "resumed_step": report.resumed_step, "workers": context.worker.world_size}


def count_shard(context):
    """Write this shard's part of the numbers; the worker of shard `dies` is killed the first time."""
    marker = Path(context.config["diary"]).with_name("died")
    write_diary(context, what="shard", number=context.config["number"])
    if context.shard == context.config.get("dies") and not marker.exists():
        marker.touch()
        (context.folder / "half").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    refused = Path(context.config["diary"]).with_name("refused")
    if context.shard == context.config.get("refuses_once") and not refused.exists():
        refused.touch()
        refuse(context)
    if context.shard == context.config.get("refuses"):
        refuse(context)
    mine = sum(range(1 + context.shard, context.config["number"] + 1, context.num_shards))
    (context.folder / "part.txt").write_text(str(mine))
    context.tracker.log(step=context.shard, part=float(mine))
    return {}


def add_shards(context):
    """Sum the shards' parts."""
    parts = [int((folder / "part.txt").read_text()) for folder in context.shards]
    assert len(parts) == context.num_shards
    return {"total": sum(parts)}
