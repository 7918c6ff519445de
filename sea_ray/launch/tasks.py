"""Stages that run as Ray tasks, on the processor: in one process, or as a map over shards and a reduce."""

from __future__ import annotations

import time
from typing import Any

import ray

from sea_ray.artifacts import Artifact, Store
from sea_ray.execution import Stage, run_stage
from sea_ray.launch.ray_streams import ray_streams
from sea_ray.launch.run_queue import QueueTracker, find_queue, here
from sea_ray.streams import in_process


def _compute(stage: Stage, store_url: str, queue_name: str, threads: int, began: float | None = None) -> None:
    import torch

    from sea_ray.training.engine import SoloWorker

    torch.set_num_threads(threads)
    store, tracker = Store(store_url), QueueTracker(find_queue(queue_name), stage.name)
    try:
        run_stage(stage, store, SoloWorker("cpu"), tracker, began=began, streams=ray_streams if stage.streams else in_process)
    except FileNotFoundError:
        if store.find(stage.key) is None:  # else another run joined the shards first and has discarded them
            raise


def placement(stage: Stage, num_cpus: float) -> dict[str, Any]:
    """Return Ray's options that say where a stage's tasks run and what they take.

    Streams take processors themselves. Who asks a served checkpoint waits for answers, and finds it on loopback: on the driver's
    node, which may have no processors for work.
    """
    if stage.endpoint is not None:
        return {"num_cpus": 0, "scheduling_strategy": here()}
    return {"num_cpus": 0 if stage.streams else num_cpus}


def run_as_tasks(stage: Stage, store: Store, queue_name: str, *, num_cpus: float, threads: int) -> Artifact:
    """Compute a stage with Ray tasks and return its artifact.

    The shards of a map stage are one task each, retried by Ray if its worker dies; one more task joins them. A shard
    that an interrupted run finished is not computed again. Their processes stay warm between stages. A stage with streams
    takes no processor itself: its streams do.

    Args:
        stage: what to compute.
        store: a store that every node reaches.
        queue_name: where figures go.
        num_cpus: Ray's count for one task.
        threads: torch threads of one task.
    """
    task = ray.remote(_compute).options(max_retries=2, **placement(stage, num_cpus))
    began = time.time()
    ray.get([task.remote(shard, store.url, queue_name, threads)
             for shard in stage.shards() if store.find(shard.key) is None])
    ray.get(task.remote(stage, store.url, queue_name, threads, began))
    artifact = store.find(stage.key)
    assert artifact is not None, "the task committed it"
    return artifact
