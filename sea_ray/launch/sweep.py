"""A sweep as Ray Tune trials that are thin clients of the worker group: a trial waits in Tune, its stage runs in the group."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from sea_ray.artifacts import Artifact, Store
from sea_ray.errors import SeaRayError
from sea_ray.execution import Stage, Trial
from sea_ray.launch.run_queue import find_queue
from sea_ray.launch.worker_group import RAY_IMPORTS, raise_outcome
from sea_ray.leases import once

LOST_CLIENTS = 3
"""How often a trial that goes with its node is started again: it holds no work, and finds the result or waits for it."""


def run_sweep(
    name: str,
    trials: Sequence[tuple[Mapping[str, Any], Stage]],
    store: Store,
    queue_name: str,
    scratch: str,
    *,
    max_concurrent: int,
) -> list[Trial]:
    """Run one stage per point of the sweep with Ray Tune; finished trials are reused without starting Tune for them.

    Args:
        name: sweep, such as "neurons"; Tune's experiment name.
        trials: (point, stage) pairs; a point maps dotted config paths to values.
        store: where the stages commit.
        queue_name: the worker group's queue.
        scratch: folder for Tune's own files.
        max_concurrent: trials that wait in the group's queue at one time.

    Returns:
        One Trial per pair, in order. A failed trial carries its error and never sinks the sweep.
    """
    reused = {stage.key.fingerprint for _, stage in trials if store.find(stage.key) is not None}
    missing = [pair for pair in trials if pair[1].key.fingerprint not in reused]
    errors = _tune(name, missing, store.url, queue_name, scratch, max_concurrent) if missing else {}
    results = []
    for point, stage in trials:
        key = stage.key
        artifact = store.find(key)
        results.append(Trial(point=point, artifact=artifact, reused=key.fingerprint in reused,
                             error=None if artifact else errors.get(key.fingerprint, "the trial did not report")))
    return results


def _tune(name: str, trials: Sequence[tuple[Mapping[str, Any], Stage]], store_url: str, queue_name: str, scratch: str,
          max_concurrent: int) -> dict[str, str]:
    with RAY_IMPORTS:
        from ray import tune

    stages = [stage for _, stage in trials]

    def trial(space: dict[str, Any]) -> None:
        stage, error = stages[space["number"]], ""
        try:
            once(Store(store_url), stage.key, lambda: run_in_group(stage, Store(store_url), queue_name))
        except Exception as reason:  # reported: one failed trial never sinks the sweep
            error = str(reason)
        tune.report({"error": error, "finished": int(not error)})

    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # figures go through our own tracker
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "60")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # else Ctrl-C ends the sweep and the run goes on without its trials
    tuner = tune.Tuner(
        tune.with_resources(trial, {"CPU": 0.01}),  # Tune refuses an empty request; the group holds the real resources
        param_space={"number": tune.grid_search(list(range(len(stages))))},
        tune_config=tune.TuneConfig(metric="finished", mode="max", max_concurrent_trials=max_concurrent, reuse_actors=True),
        run_config=tune.RunConfig(name=name.replace("/", "-"), storage_path=str(Path(scratch) / "tune"), verbose=0,
                                  failure_config=tune.FailureConfig(max_failures=LOST_CLIENTS)),
    )
    results = tuner.fit()
    errors: dict[str, str] = {}
    for result in results:
        number = result.config["number"]
        message = str(result.error) if result.error else (result.metrics or {}).get("error", "")
        if message:
            errors[stages[number].key.fingerprint] = message
    return errors


def run_in_group(stage: Stage, store: Store, queue_name: str) -> Artifact:
    """Run one stage in a worker group and wait for its result.

    Raises:
        SeaRayError: what the stage raised.
    """
    raise_outcome(ray.get(find_queue(queue_name).submit.remote(stage)))
    artifact = store.find(stage.key)
    if artifact is None:
        raise SeaRayError(f"{stage.name}: the worker group reported success but the store {store.url!r} holds no result; "
                          "workers and driver must see the same store")
    return artifact
