"""A tiny sweep in a process of its own, to be killed or interrupted: `python sweep_driver.py STORE [TRIALS]`."""

import json
import sys

import fake_stages

from sea_ray.artifacts import Store
from sea_ray.config import ClusterConfig
from sea_ray.launch.ray_platform import RayPlatform
from sea_ray.objective import SweepConfig, choose
from sea_ray.tracking import NullTracker
from sea_ray.training.config import ExecutionConfig

CLUSTER = ClusterConfig(num_cpus=2, max_group_restarts=0, max_stage_retries=0,
                        training=ExecutionConfig(num_workers=2, engine="deepspeed", device="cpu"))
NUMBERS = (1, 2, 3, 4)


def trials(store, count=4):
    """Return trials of two seconds each."""
    return [({"number": number}, fake_stages.stage("add", store, number=number, seconds=2.0)) for number in range(1, count + 1)]


def main(url: str, count: str = "4") -> None:
    """Carry out the sweep and print its trials."""
    store = Store(url)
    with RayPlatform.open(store, NullTracker(), CLUSTER) as platform:
        done = platform.sweep("numbers", fake_stages.Listed(trials(store, int(count))))
    print(json.dumps([[trial.reused, trial.artifact is not None] for trial in done]))
    print(choose(SweepConfig(space={"number": NUMBERS}, objectives={"total": "min"}), done).reason)


if __name__ == "__main__":
    main(*sys.argv[1:])
