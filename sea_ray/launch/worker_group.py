"""One long-lived Ray Train worker group with DeepSpeed that computes stages from the run queue, one after the other."""

from __future__ import annotations

import pickle
import threading
import time
from typing import Any

import ray

from sea_ray.artifacts import Store
from sea_ray.config import ClusterConfig
from sea_ray.errors import MachineError, SeaRayError
from sea_ray.execution import Stage, run_stage
from sea_ray.launch.run_queue import QueueTracker, find_queue
from sea_ray.tracking import NullTracker

ASK_S = 1.0
"""Seconds between two questions whether a node goes away."""
MAX_NOTICE_S = 600.0
"""Longest wait for Ray to move the group after such a notice; clouds give 30 to 120 s."""
RAY_IMPORTS = threading.Lock()
"""Held while ray.train or ray.tune is imported: two threads that import them at once find half-made modules."""


def work(settings: dict[str, Any]) -> None:
    """Train function of every rank: take stages until told to stop.

    What a stage refuses on purpose it refuses on every rank alike (what one rank refuses of its shards of a map, the others
    hear of when they have done theirs), so the group goes on to the next stage. When another rank
    is lost this one raises: Train restarts the whole group, and the queue gives it the same stage again. Any other failure is
    reported and raised, since the other ranks may hang in a collective. A stage that has saved its state before a preemption
    waits for Ray to move the group, so that no work is done that would be lost; one that was told to end makes room.

    Args:
        settings: `queue` (name of the actor), `group` (this group's number), `store` (URL), `execution`
            (ExecutionConfig).
    """
    import torch

    from sea_ray.launch.deepspeed_worker import DeepSpeedWorker
    from sea_ray.training.engine import PreemptedError

    torch.set_num_threads(settings["execution"].threads_per_worker)
    queue = find_queue(settings["queue"])
    notices = _Notices(queue)
    worker = DeepSpeedWorker(settings["execution"], notices.is_set)
    store = Store(settings["store"])
    while True:
        given = ray.get(queue.next.remote(settings["group"], worker.world_size)) if worker.rank == 0 else ""
        stage: Stage | str = worker.broadcast(given)
        if stage == "stop":
            return
        if isinstance(stage, str):
            continue
        name = stage.key.fingerprint
        notices.watch(name if worker.rank == 0 else "")
        try:
            shown = worker.rank == 0 or stage.combine is not None  # a rank is alone with its shards of a map
            run_stage(stage, store, worker, QueueTracker(queue, stage.name) if shown else NullTracker())
        except SeaRayError as error:
            ray.get(queue.finished.remote(name, _pickled(error)))
            worker.barrier()  # all have said so before rank 0 asks, and may be given the same stage again
            continue
        except PreemptedError as notice:
            ended = worker.broadcast(ray.get(queue.ending.remote(name)) if worker.rank == 0 else None)
            if ended is not None:
                if worker.rank == 0:
                    ray.get(queue.finished.remote(name, ended))
                continue
            if worker.rank == 0:
                queue.log.remote((stage.name, "", None, f"a node goes away: the state {notice} is saved, the group moves"))
                ray.get(queue.preempted.remote(name))
            time.sleep(MAX_NOTICE_S)
            raise
        except Exception as error:
            if not _lost_another(error):
                ray.get(queue.finished.remote(name, _pickled(error)))
            raise
        if worker.rank == 0:
            ray.get(queue.finished.remote(name, None))


class _Notices:
    """Whether this process should save its state and train no further: a node of the group goes away, or the stage is to end.

    Ray agrees on the first over all ranks, which takes milliseconds; a thread of its own asks, so that no step waits.
    """

    def __init__(self, queue: Any) -> None:
        self._queue, self._running, self._lock = queue, "", threading.Lock()
        self._preempted, self._ended = threading.Event(), threading.Event()
        threading.Thread(target=self._ask, daemon=True, name="notices").start()

    def watch(self, name: str) -> None:
        """Ask for this stage from now on; "" asks for none."""
        with self._lock:
            self._running = name
            self._ended.clear()

    def is_set(self) -> bool:
        """Return whether there is a notice."""
        return self._preempted.is_set() or self._ended.is_set()

    def _ask(self) -> None:
        from ray.train import get_preemption_info

        while not self._preempted.is_set():
            time.sleep(ASK_S)
            try:
                if get_preemption_info() is not None:
                    self._preempted.set()
                name = self._running
                ends = name and ray.get(self._queue.ending.remote(name)) is not None
                with self._lock:
                    if ends and name == self._running:
                        self._ended.set()
            except Exception:  # the group ends, and this thread with it
                return


def _lost_another(error: Exception) -> bool:
    """Return whether a collective broke because another rank is gone."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "/gloo/" in str(error))


def _pickled(error: Exception) -> bytes:
    try:
        return pickle.dumps(error)
    except (pickle.PicklingError, TypeError, AttributeError):
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))


class WorkerGroup:
    """Runs `TorchTrainer.fit` in a thread of the driver for as long as there is work."""

    def __init__(self, number: int, queue_name: str, store_url: str, config: ClusterConfig, scratch: str) -> None:
        """Args: number: of this group; queue_name: the run queue; store_url: where stages commit; config: workers; scratch: for
        Train's own files.
        """
        self._number, self._arguments = number, (queue_name, store_url, config, scratch)
        self._thread: threading.Thread | None = None
        self._starts = 0
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the group once; returns at once, the processes come up in the background."""
        with self._lock:
            if self._thread is None:
                self._starts += 1
                self._thread = threading.Thread(target=self._fit, daemon=True, name="worker-group")
                self._thread.start()

    def _fit(self) -> None:
        queue_name, store_url, config, scratch = self._arguments
        execution = config.training
        queue = find_queue(queue_name)
        reason = "the worker group has stopped"
        try:
            with RAY_IMPORTS:
                from ray.train import FailureConfig, RunConfig, ScalingConfig
                from ray.train.torch import TorchConfig, TorchTrainer

            TorchTrainer(
                work,
                train_loop_config={"queue": queue_name, "group": self._number, "store": store_url, "execution": execution},
                torch_config=TorchConfig(backend="nccl" if execution.device == "cuda" else "gloo"),
                scaling_config=ScalingConfig(
                    num_workers=(execution.min_workers, execution.num_workers) if execution.min_workers
                    else execution.num_workers, use_gpu=execution.device == "cuda",
                    resources_per_worker={"CPU": config.cpus_per_worker}),
                run_config=RunConfig(name=f"group-{self._number}-{self._starts}-{queue_name}", storage_path=scratch,
                                     failure_config=FailureConfig(max_failures=config.max_group_restarts)),
            ).fit()
        except Exception as error:  # reported to every waiting stage, which raises it in the foreground
            reason = f"the worker group ended: {type(error).__name__}: {error}"
        if ray.is_initialized():
            ray.get(queue.leave.remote(self._number, reason))

    def join(self, timeout_s: float = 20.0) -> None:
        """Wait for a group whose ranks were sent home; after that it can be started again."""
        if self._thread is not None:
            self._thread.join(timeout=timeout_s)
            if not self._thread.is_alive():
                self._thread = None


def raise_outcome(outcome: bytes | None) -> None:
    """Raise the exception of a stage's outcome, if it has one.

    Raises:
        SeaRayError: what the stage raised on purpose.
        MachineError: the group was lost.
    """
    if outcome is None:
        return
    error = pickle.loads(outcome)  # made by our own workers, passed within the cluster
    if isinstance(error, RuntimeError) and "worker group" in str(error):
        raise MachineError(str(error))
    raise error
