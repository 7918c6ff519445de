"""What a sweep costs beside its trainings: trials as thin clients of worker groups, and Ray Tune plainly over Ray Train."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.side_by_side import Result, arguments, conclude
from benchmarks.training_loop import bare
from sea_ray.artifacts import Store
from sea_ray.config import ClusterConfig
from sea_ray.execution import Stage
from sea_ray.launch.ray_platform import RayPlatform, connect
from sea_ray.objective import SweepConfig
from sea_ray.search import SweepSearch
from sea_ray.tracking import NullTracker
from sea_ray.training.config import ExecutionConfig

TRIALS, AT_A_TIME = 8, 2
CLUSTER = ClusterConfig(num_cpus=2, cpus_per_worker=0.5, worker_groups=AT_A_TIME, max_concurrent_trials=AT_A_TIME,
                        training=ExecutionConfig(num_workers=1, engine="torch", device="cpu"))
SEARCH = SweepConfig(space={"number": tuple(range(TRIALS))}, objectives={"seconds": "min"})


def bare_loops(steps: int) -> float:
    """Return the seconds of as many bare loops of one thread as there are trials, summed; as many at a time as of the trials."""
    with multiprocessing.get_context("spawn").Pool(AT_A_TIME, torch.set_num_threads, (1,)) as pool:
        pool.map(bare, [2] * AT_A_TIME, chunksize=1)  # warms up
        return sum(pool.map(bare, [steps] * TRIALS, chunksize=1))


def as_clients(steps: int) -> float:
    """Return the wall seconds of the sweep as this project runs it, from nothing: Ray and its processes start within."""
    def stage_of(point: Mapping[str, Any], repetition: int) -> Stage:
        return Stage(kind="bench", name=f"all-{point['number']}", function="benchmarks.training_loop:in_group", place="group",
                     config={"kind": "all", "saves": False, "steps": steps, **point})

    with tempfile.TemporaryDirectory(prefix="sea_ray-bench-") as folder:
        began = time.perf_counter()
        with RayPlatform.open(Store(folder), NullTracker(), CLUSTER) as platform:
            done = platform.sweep("bench", SweepSearch(SEARCH, stage_of))
            seconds = time.perf_counter() - began
    assert all(trial.artifact for trial in done), [trial.error for trial in done]
    return seconds


def nested(steps: int) -> float:
    """Return the wall seconds of the same trainings where each Tune trial starts a TorchTrainer, as Ray's guide has it."""
    def loop(config: dict[str, Any]) -> None:
        from ray import train

        torch.set_num_threads(1)
        train.report({"seconds": bare(config["steps"])})

    def trial(config: dict[str, Any]) -> None:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        TorchTrainer(loop, train_loop_config={"steps": steps}, scaling_config=ScalingConfig(
            num_workers=1, resources_per_worker={"CPU": 0.5}), run_config=RunConfig(
                name=f"train-{config['number']}", storage_path=config["folder"])).fit()

    began = time.perf_counter()
    with connect(CLUSTER) as scratch:
        from ray import tune

        results = tune.Tuner(
            tune.with_resources(trial, {"CPU": 0.01}),
            param_space={"number": tune.grid_search(list(range(TRIALS))), "folder": str(scratch / "train")},
            tune_config=tune.TuneConfig(max_concurrent_trials=AT_A_TIME),
            run_config=tune.RunConfig(name="nested", storage_path=str(Path(scratch) / "tune"), verbose=0)).fit()
        seconds = time.perf_counter() - began
        assert not results.errors, results.errors
    return seconds


def main() -> None:
    """Run the benchmark from the command line."""
    parser = arguments(__doc__ or "", "demo")
    parser.add_argument("--steps", type=int, default=30, help="of each training")
    options = parser.parse_args()
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # for both arms: Train's own default takes longer still
    loops = bare_loops(options.steps)
    walls = {"clients of worker groups": as_clients(options.steps), "Tune over Train": nested(options.steps)}
    again = bare_loops(options.steps)  # the machine may have changed meanwhile: the mean of before and after
    loops = (loops + again) / 2
    each = {name: (wall - loops / AT_A_TIME) / TRIALS for name, wall in walls.items()}
    for name, wall in walls.items():
        print(f"{name:26} {wall:7.1f} s for {TRIALS} trials, {each[name]:6.2f} s a trial beside the bare loops")
    print(f"{'bare loops':26} {loops:7.1f} s in all, {loops / AT_A_TIME:.1f} s at {AT_A_TIME} at a time")
    ours, plain = each["clients of worker groups"], each["Tune over Train"]
    results = [Result("seconds that a trial costs beside its bare loop, clients of worker groups", ours, 3.0),
               Result("the same / that of Tune plainly over Train", ours / plain, 0.2)]
    conclude("sweep", results, {"wall_s": walls, "bare_s": loops, "each_s": each}, torch.device("cpu"), options.check)


if __name__ == "__main__":
    main()
