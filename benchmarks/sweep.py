"""What a sweep costs beside its trainings: trials as thin clients of worker groups, and Ray Tune plainly over Ray Train."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.side_by_side import Result, arguments, conclude
from benchmarks.training_loop import bare
from sea_ray.artifacts import Store
from sea_ray.config import ClusterConfig
from sea_ray.execution import Stage, StageContext
from sea_ray.launch.ray_platform import RayPlatform, connect
from sea_ray.objective import SweepConfig, figure_of
from sea_ray.search import SweepSearch
from sea_ray.tracking import NullTracker
from sea_ray.training.config import ExecutionConfig

TRIALS, AT_A_TIME = 8, 2
CLUSTER = ClusterConfig(num_cpus=2, cpus_per_worker=0.5, worker_groups=AT_A_TIME, max_concurrent_trials=AT_A_TIME,
                        training=ExecutionConfig(num_workers=1, engine="torch", device="cpu"))
SEARCH = SweepConfig(space={"number": tuple(range(TRIALS))}, objectives={"seconds": "min"})


def nothing(context: StageContext) -> Mapping[str, Any]:
    """Compute nothing: the stage that brings Ray up before the clock runs."""
    return {}


def as_clients(steps: int) -> tuple[float, float]:
    """Run the sweep as this project does, on a Ray that is there; the worker groups start within.

    Returns:
        Wall seconds, and the seconds of all training loops together; a loop takes what a bare one does
        (benchmarks.training_loop).
    """
    def stage_of(point: Mapping[str, Any], repetition: int) -> Stage:
        return Stage(kind="bench", name=f"all-{point['number']}", function="benchmarks.training_loop:in_group", place="group",
                     config={"kind": "all", "saves": False, "steps": steps, **point})

    with tempfile.TemporaryDirectory(prefix="sea_ray-bench-") as folder:
        with RayPlatform.open(Store(folder), NullTracker(), CLUSTER, trains=False) as platform:
            platform.run(Stage(kind="bench", name="nothing", function="benchmarks.sweep:nothing", config={}))
            began = time.perf_counter()
            done = platform.sweep("bench", SweepSearch(SEARCH, stage_of))
            seconds = time.perf_counter() - began
        return seconds, sum(figure_of(trial, "seconds") for trial in done)


def nested(steps: int) -> tuple[float, float]:
    """Run the same trainings where each Tune trial starts a TorchTrainer, as Ray's guide has it; loops are bare."""
    def loop(config: dict[str, Any]) -> None:
        from ray import train

        torch.set_num_threads(1)
        train.report({"seconds": bare(config["steps"])})

    def trial(config: dict[str, Any]) -> None:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.tune.integration.ray_train import TuneReportCallback

        TorchTrainer(loop, train_loop_config={"steps": steps}, scaling_config=ScalingConfig(
            num_workers=1, resources_per_worker={"CPU": 0.5}), run_config=RunConfig(
                name=f"train-{config['number']}", storage_path=config["folder"], callbacks=[TuneReportCallback()])).fit()

    with connect(CLUSTER) as scratch:
        began = time.perf_counter()
        from ray import tune

        results = tune.Tuner(
            tune.with_resources(trial, {"CPU": 0.01}),
            param_space={"number": tune.grid_search(list(range(TRIALS))), "folder": str(scratch / "train")},
            tune_config=tune.TuneConfig(max_concurrent_trials=AT_A_TIME),
            run_config=tune.RunConfig(name="nested", storage_path=str(scratch / "tune"), verbose=0)).fit()
        seconds = time.perf_counter() - began
        return seconds, sum(result.metrics["seconds"] for result in results)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = arguments(__doc__ or "", "demo")
    parser.add_argument("--steps", type=int, default=30, help="of each training")
    options = parser.parse_args()
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # for both: Train's own default takes longer still
    figures = {}
    for name, arm in (("clients of worker groups", as_clients), ("Tune over Train", nested)):
        wall, loops = arm(options.steps)
        each = (wall - loops / AT_A_TIME) / TRIALS
        figures[name] = {"wall_s": wall, "loops_s": loops, "each_s": each}
        print(f"{name:26} {wall:7.1f} s for {TRIALS} trials, {AT_A_TIME} at a time, whose loops took {loops:.1f} s: "
              f"{each:.2f} s a trial beside them")
    ours, plain = figures["clients of worker groups"]["each_s"], figures["Tune over Train"]["each_s"]
    print(f"a trial costs {ours / plain:.2f} of what it costs where Tune is nested plainly over Train")
    conclude("sweep", [Result("seconds that a trial costs beside its loop, clients of worker groups", ours, 3.0)],
             figures, torch.device("cpu"), options.check)


if __name__ == "__main__":
    main()
