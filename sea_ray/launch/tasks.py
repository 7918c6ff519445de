"""Stages that run as Ray tasks: in one process, or as a map over shards and a reduce."""

from __future__ import annotations

import os
import time
from typing import Any

import ray

from sea_ray.artifacts import Artifact, Store
from sea_ray.execution import Stage, combine_shards, peak_memory_bytes, run_shard, run_stage
from sea_ray.launch.run_queue import QueueTracker, find_queue


def _worker(threads: int) -> Any:
    import torch

    from sea_ray.training.engine import SoloWorker

    torch.set_num_threads(threads)
    return SoloWorker()


def _tracker(queue_name: str, stage: Stage) -> QueueTracker:
    return QueueTracker(find_queue(queue_name), stage.name)


def _whole(stage: Stage, store_url: str, queue_name: str, threads: int) -> None:
    run_stage(stage, Store(store_url), _worker(threads), _tracker(queue_name, stage))


def _shard(stage: Stage, folder: str, number: int, queue_name: str, threads: int) -> int:
    from pathlib import Path

    part = Path(folder) / f"shard-{number}"
    part.mkdir(exist_ok=True)  # a retried shard overwrites its own files
    run_shard(stage, part, _worker(threads), _tracker(queue_name, stage), shard=number)
    return peak_memory_bytes()


def _reduce(stage: Stage, folder: str, queue_name: str, threads: int) -> dict[str, Any]:
    worker = _worker(threads)
    from pathlib import Path

    return {"facts": combine_shards(stage, Path(folder), worker, _tracker(queue_name, stage)),
            "execution": {**worker.describe(), "num_shards": stage.num_shards}}


def run_as_tasks(stage: Stage, store: Store, queue_name: str, *, num_cpus: float, threads: int) -> Artifact:
    """Compute a stage with Ray tasks and return its artifact.

    A map stage is split into `stage.num_shards` tasks, each retried by Ray if its worker dies, so that a lost worker costs
    its shard only; the parts are joined by one more task. Their processes stay warm between stages.

    Args:
        stage: what to compute.
        store: a store that every node reaches.
        queue_name: where figures go.
        num_cpus: Ray's count for one task.
        threads: torch threads of one task.
    """
    options = {"num_cpus": num_cpus, "max_retries": 2}
    if stage.combine is None:
        ray.get(ray.remote(_whole).options(**options).remote(stage, store.url, queue_name, threads))
    else:
        start = time.perf_counter()
        with store.building(stage.key) as folder:
            shard = ray.remote(_shard).options(**options)
            parts = [shard.remote(stage, os.fspath(folder), number, queue_name, threads)
                     for number in range(stage.num_shards)]
            peaks = ray.get(parts)
            joined = ray.get(ray.remote(_reduce).options(**options).remote(
                stage, os.fspath(folder), queue_name, threads))
            execution = {**joined["execution"], "engine": "ray tasks", "peak_memory_bytes": max(peaks)}
            store.commit(stage.key, folder, joined["facts"], execution, time.perf_counter() - start)
    artifact = store.find(stage.key)
    assert artifact is not None, "the task committed it"
    return artifact
