"""A training on the cluster of RAY_ADDRESS in a process of its own:

    python learn_driver.py STORE DIARY STEPS SECONDS MIN_WORKERS
"""

import json
import sys
from dataclasses import replace

from sea_ray.artifacts import Store
from sea_ray.config import ClusterConfig
from sea_ray.execution import Stage
from sea_ray.launch.ray_platform import RayPlatform
from sea_ray.tracking import NullTracker
from sea_ray.training.config import ExecutionConfig

EXECUTION = ExecutionConfig(num_workers=2, engine="deepspeed", device="cpu", checkpoint_every_steps=10)


class Printer(NullTracker):
    """Prints what it is told."""

    def note(self, text):
        print(text, flush=True)


def main(url: str, diary: str, steps: str, seconds: str, min_workers: str) -> None:
    """Train and print the facts."""
    store = Store(url)
    cluster = ClusterConfig(address="auto", cpus_per_worker=1.0, training=replace(EXECUTION, min_workers=int(min_workers)))
    with RayPlatform.open(store, Printer(), cluster) as platform:
        stage = Stage(kind="fake", name="learn", function="fake_stages:learn", place="group",
                      config={"diary": diary, "steps": int(steps), "seconds": float(seconds)})
        print(json.dumps(platform.run(stage).facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
