"""A sweep of eight trials under `watched` in a process of its own: `python tracked_sweep_driver.py STORE SECONDS OVERRIDES`."""

import dataclasses
import sys
import time

import fake_stages
from rich.console import Console

from sea_ray.artifacts import Store
from sea_ray.config import ClusterConfig
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.ray_platform import RayPlatform
from sea_ray.launch.watched import watched
from sea_ray.training.config import ExecutionConfig

CLUSTER = ClusterConfig(num_cpus=2, training=ExecutionConfig(num_workers=1, engine="torch", device="cpu"))
TRIALS, POINTS = 8, 20


def trials(store, seconds):
    """Return trials that log their points over so many seconds each."""
    stages = [fake_stages.stage("tell", store, number=number, points=POINTS, seconds=seconds) for number in range(TRIALS)]
    return [({"seed": number}, dataclasses.replace(stage, name=f"numbers/{number}")) for number, stage in enumerate(stages)]


def main(url, seconds, *overrides):
    """Carry out the sweep and print what it took, all in all."""
    store, began = Store(url), time.monotonic()
    config = compose_experiment(["experiment=demo", f"store.url={url}", *overrides])
    with watched(config, store, Console(highlight=False, soft_wrap=True)) as tracker:
        opened = time.monotonic()
        with RayPlatform.open(store, tracker, CLUSTER) as platform:
            done = platform.sweep("numbers", fake_stages.Listed(trials(store, float(seconds))))
            swept = time.monotonic()
        closed = time.monotonic()
    ended = time.monotonic()
    finished = sum(trial.artifact is not None for trial in done)
    print(f"{finished} trials in {ended - began:.1f} s: {opened - began:.1f} s to ask W&B, {swept - opened:.1f} s the sweep, "
          f"{closed - swept:.1f} s to end Ray, {ended - closed:.1f} s to end the tracker", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
