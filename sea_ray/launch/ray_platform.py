"""The pipeline's platform on a Ray cluster: tasks, one worker group, Tune sweeps and Serve."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from sea_ray.artifacts import Artifact, Store
from sea_ray.conf_folder import config_folder
from sea_ray.config import BudgetConfig, ClusterConfig
from sea_ray.errors import BudgetError, MachineError, SeaRayError
from sea_ray.execution import Endpoint, Proposal, Search, Stage, Trial
from sea_ray.launch.budget import Meter, machine_price
from sea_ray.launch.capacity import check_capacity
from sea_ray.launch.machine import cluster_address
from sea_ray.launch.proxy import CALLBACK
from sea_ray.launch.run_queue import IDLE_S, open_queue
from sea_ray.launch.stage_figures import MAP_COLUMNS, figures, made, neuron_map
from sea_ray.launch.sweep import run_in_group, run_sweep
from sea_ray.launch.tasks import run_as_tasks
from sea_ray.launch.worker_group import WorkerGroup
from sea_ray.leases import once
from sea_ray.search_space import Point
from sea_ray.tracking import About, Tracker


@contextlib.contextmanager
def connect(config: ClusterConfig) -> Iterator[Path]:
    """Connect to Ray, or start it on this machine, and take down what was started on every exit path.

    Args:
        config: address and size; RAY_ADDRESS in the environment (as in a submitted job) overrides the address.

    Yields:
        A scratch folder for Ray's, Train's and Tune's own files; it is removed at the end.

    Raises:
        MachineError: no cluster answers at the address.
    """
    address = cluster_address(config)
    # An empty worker group starts in 8 s instead of 15: Train's controller polls this often, and takes the value from here.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    inherited: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="sea_ray-", ignore_cleanup_errors=True) as scratch:
        if address == "local":
            # Processes that work in another folder must know the same added languages and benchmarks' tasks.
            inherited = {**CALLBACK, "SEA_RAY_CONF": str(config_folder())}
            # Sockets live below the temp dir and their paths may have 107 characters at most: keep it short.
            # An idle process is ended after a second by default, and the next task pays 5 s for its imports again.
            options |= {"num_cpus": config.num_cpus or os.cpu_count(), "include_dashboard": False,
                        "_temp_dir": f"{scratch}/ray", "_system_config": {"idle_worker_killing_time_threshold_ms": 600_000}}
        try:
            with _own_signals(), _inherited(inherited):
                ray.init(address=address, **options)
        except (ConnectionError, RuntimeError) as error:
            raise MachineError(f"no Ray cluster at cluster.address={address!r}: {error}") from error
        try:
            yield Path(scratch)
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what this program does at SIGTERM: `ray.init` lets it exit with the signal's number instead."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and callable(before):
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _inherited(defaults: dict[str, str]) -> Iterator[None]:
    """Let the processes that start meanwhile find these in their environment where it says nothing else, and none after them."""
    added = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def gcs_address() -> str:
    """Return where another process finds the connected Ray."""
    return str(ray.get_runtime_context().gcs_address)


class RayPlatform:
    """Computes stages on a Ray cluster; open it with `RayPlatform.open(...)` as a context.

    Ray is started by the first stage that is not in the store, so a run that finds everything starts nothing.
    """

    def __init__(self, store: Store, tracker: Tracker, config: ClusterConfig, stack: contextlib.ExitStack, *,
                 trains: bool = True, budget: BudgetConfig | None = None) -> None:
        """Args: store: holds results; tracker: shows figures; config: workers and tasks; stack: takes everything down;
        trains: whether trainings will come, so that their processes may start beside the first tasks; budget: its limits.
        """
        self._trains = trains
        self._budget = budget or BudgetConfig()
        self.meter = Meter(self._budget, self._usd_per_hour, self._halt)
        self.store, self.tracker, self.config = store, tracker, config
        self._stack = stack
        self._queue_name = f"queue-{os.getpid()}-{int(time.time())}"
        self._children: dict[tuple[str, str], Tracker] = {}
        self._stages: dict[str, Stage] = {}
        self._points: dict[str, Point] = {}
        self._finished: set[str] = set()
        self._draining, self._showing = threading.Event(), threading.RLock()
        self._queue: Any = None
        self._scratch = Path()

    @classmethod
    @contextlib.contextmanager
    def open(cls, store: Store, tracker: Tracker, config: ClusterConfig, *, trains: bool = True,
             budget: BudgetConfig | None = None) -> Iterator[RayPlatform]:
        """Yield a platform; whatever it started ends again on every exit path."""
        with contextlib.ExitStack() as stack:
            yield cls(store, tracker, config, stack, trains=trains, budget=budget)

    def _start(self) -> None:
        """Connect to Ray and start the queue, once.

        Raises:
            MachineError: no cluster, one that can never hold the worker group, or a local store on a cluster of several nodes.
        """
        if self._queue is not None:
            return
        self._scratch = self._stack.enter_context(connect(self.config))
        nodes = [node for node in ray.nodes() if node["Alive"]]
        if not self.store.is_shared and len(nodes) > 1:
            raise MachineError(f"store.url={self.store.url!r} is a local folder but the cluster has {len(nodes)} nodes, which "
                               "would not see each other's results; name a shared store (s3://..., gs://...)")
        check_capacity(self.config, trains=self._trains)
        numbers = range(self.config.worker_groups)
        self._queue = open_queue(self._queue_name, len(numbers), self.config.max_stage_retries)
        self._groups = [WorkerGroup(number, self._queue_name, self.store.url, self.config, str(self._scratch / "train"))
                        for number in numbers]
        self._drainer = threading.Thread(target=self._drain, daemon=True, name="figures")
        self._drainer.start()
        self._stack.callback(self._close)
        self.meter.start()

    def _usd_per_hour(self) -> float:
        """Return the price of all machines that are there now; those without work of their own count as there all the time."""
        budget, machines = self._budget, 0
        with contextlib.suppress(ray.exceptions.RayError):
            machines = sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())
        return budget.usd_per_hour_besides + machines * (machine_price(self.config, budget) or 0)

    def _halt(self, reason: str) -> None:
        """Save and end what trains, and let nothing more begin."""
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self._queue.halt.remote(pickle.dumps(BudgetError(reason))))

    def _child(self, run: str, part: str = "") -> Tracker:
        with self._showing:
            if (run, part) not in self._children:
                stage = self._stages.get(run)
                about = About(key=stage.key.fingerprint, settings=self._points.get(run, {})) if stage else None
                self._children[run, part] = self._child(run).child(part) if part else self.tracker.child(run, about)
            return self._children[run, part]

    def _drain_once(self) -> None:
        with self._showing:  # else a run could be ended here while its last figures are under way there
            for run, part, step, content in ray.get(self._queue.drain.remote()):
                if run in self._finished:
                    continue  # a figure that was still under way
                child = self._child(run, part)
                if isinstance(content, str):
                    child.note(content)
                elif isinstance(content, tuple):
                    child.table(*content)
                else:
                    child.log(step, **content)

    def _drain(self) -> None:
        while not self._draining.wait(0.5):
            try:
                self._drain_once()
            except ray.exceptions.RayError:
                return  # the cluster is gone; the foreground raises the reason

    def run(self, stage: Stage) -> Artifact:
        """Return the stage's result, reused if it is finished; waits for another submitter that computes it.

        Raises:
            SeaRayError: what the stage raised on purpose.
            MachineError: its process was lost more often than the limit.
            BudgetError: the budget has ended.
        """
        return once(self.store, stage.key, lambda: self._compute(stage))

    def _compute(self, stage: Stage) -> Artifact:
        if (reason := self.meter.reached()) is not None:
            raise BudgetError(f"{reason}, before {stage.name}: run again with a higher limit, what is finished is reused")
        self._start()
        self._stages[stage.name] = stage
        try:
            if stage.place == "group":
                self._groups[0].start()
                artifact = run_in_group(stage, self.store, self._queue_name)
            else:
                check_capacity(self.config, trains=self._trains, tasks=True)
                if not stage.parents and self._trains:
                    self._groups[0].start()  # trainings follow on a corpus: let their processes come up meanwhile
                artifact = run_as_tasks(stage, self.store, self._queue_name, num_cpus=self.config.cpus_per_task,
                                        threads=self.config.training.threads_per_worker)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, SeaRayError):
                raise error.cause from None
            raise
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
            raise MachineError(f"{stage.name}: its worker process died ({error})") from error
        self._finish(stage.name, artifact)
        return artifact

    def _finish(self, name: str, artifact: Artifact) -> None:
        child, stage = self._child(name), self._stages[name]
        child.log(None, **figures(artifact, self._usd_per_hour()))
        if rows := neuron_map(artifact):
            child.table("neuron_map", MAP_COLUMNS, rows)
        child.made(made(artifact, self.store, stage))
        self._end(name, failed=False)

    def _end(self, run: str, *, failed: bool) -> None:
        with self._showing:
            with contextlib.suppress(ray.exceptions.RayError):
                self._drain_once()  # its last figures may still be under way
            self._finished.add(run)
            self._child(run).finish(failed=failed)

    def sweep(self, name: str, search: Search) -> list[Trial]:
        """Run what a search proposes as Ray Tune trials; a failed trial is reported, it never sinks the sweep."""
        def start() -> Path:
            self._start()
            for group in self._groups:
                group.start()
            return self._scratch / "tune"

        def begin(proposal: Proposal) -> None:
            self._stages[proposal.stage.name], self._points[proposal.stage.name] = proposal.stage, proposal.point

        def end(trial: Trial, own: bool) -> None:
            if trial.artifact is not None:
                if not own and (trial.name, "") not in self._children:
                    return  # another submitter computed it, and shows it
                self._finish(trial.name, trial.artifact)
            else:
                self._child(trial.name).note(f"{trial.outcome}: {trial.error}")
                self._end(trial.name, failed=trial.outcome == "failed")

        return run_sweep(name, search, self.store, self._queue_name, start, begin, end,
                         max_concurrent=max(self.config.max_concurrent_trials, self.config.worker_groups))

    @contextlib.contextmanager
    def serving(self, checkpoint: Artifact, config: Any) -> Iterator[Endpoint]:
        """Serve a checkpoint with Ray Serve on loopback while the context is open.

        Worker groups hold their accelerators as long as they are there, so a replica on one waits for ever beside them: they go
        home before, and come again with the next training.
        """
        from sea_ray.launch.offers import offer_of_artifact
        from sea_ray.launch.serve import deployed

        self._start()
        if config.gpus_per_replica:
            ray.get(self._queue.rest.remote(True))
            for group in self._groups:
                group.join(timeout_s=IDLE_S + 60)
            ray.get(self._queue.rest.remote(False))
        with deployed(offer_of_artifact(self.store, checkpoint, config), config) as endpoint:
            yield endpoint

    def _close(self) -> None:
        self.meter.stop()
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self._queue.close.remote("the run is stopping"))
        self._draining.set()
        with self._showing:  # first of all: whoever ends this process may not wait for the groups
            for run in {run for run, _ in self._children} - self._finished:
                self._end(run, failed=True)
        for group in self._groups:
            group.join()
        self._drainer.join(timeout=5)
