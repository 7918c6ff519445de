"""A sweep on the autoscaling cluster of RAY_ADDRESS, in a process of its own:

    python autoscale_driver.py STORE TRIALS SECONDS CPUS_PER_WORKER
"""

import json
import sys

import fake_stages

from sea_ray.artifacts import Store
from sea_ray.config import ClusterConfig
from sea_ray.errors import MachineError
from sea_ray.launch.ray_platform import RayPlatform
from sea_ray.tracking import NullTracker
from sea_ray.training.config import ExecutionConfig

GROUPS = 3


def trials(store, count, seconds):
    """Return trials of some seconds each."""
    return [({"number": number}, fake_stages.stage("add", store, number=number, seconds=seconds))
            for number in range(1, count + 1)]


def main(url: str, count: str, seconds: str, cpus_per_worker: str) -> int:
    """Carry out the sweep and print its trials, or what the machine lacks."""
    store = Store(url)
    cluster = ClusterConfig(address="auto", cpus_per_worker=float(cpus_per_worker), worker_groups=GROUPS,
                            training=ExecutionConfig(num_workers=1, engine="deepspeed", device="cpu"))
    try:
        with RayPlatform.open(store, NullTracker(), cluster) as platform:
            done = platform.sweep("numbers", fake_stages.Listed(trials(store, int(count), float(seconds))))
    except MachineError as error:
        print(error)
        return error.exit_code
    print(json.dumps([[trial.artifact is not None, trial.error] for trial in done]))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
