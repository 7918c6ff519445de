"""What `sea-ray plan` says beforehand against what a run takes: wall time, and memory of all processes.

The plan times its steps on the machine as it is just before the run. A machine that others use changes meanwhile: the probe is
timed again afterwards, and both are printed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from benchmarks.side_by_side import Result, conclude
from sea_ray.artifacts import Store, read_json
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.outlook import foretell
from sea_ray.launch.timing import PROBE, Timed, time_steps


def main() -> None:
    """Plan, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--store", help="an empty folder where the run's results stay; they go without one")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides of the demo")
    options = parser.parse_args()
    place = contextlib.nullcontext(options.store) if options.store else tempfile.TemporaryDirectory(prefix="sea_ray-bench-")
    with place as folder:
        overrides = ["experiment=demo", f"store.url={folder}", "tracking.wandb=disabled", *options.overrides]
        config = compose_experiment(overrides)
        outlook = foretell(config, Store(config.store.url), measure=True)
        assert outlook.seconds is not None
        assert outlook.peak_bytes is not None
        assert outlook.pace.probe_s is not None, "the demo trains on this machine's processors"
        loads = [os.getloadavg()[0]]
        began = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", "sea_ray.launch.cli", "run", *overrides], stdout=subprocess.DEVNULL,
                                   env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
        while process.poll() is None:
            time.sleep(1)
            loads.append(os.getloadavg()[0])
        seconds = time.monotonic() - began
        if process.returncode:
            sys.exit(process.returncode)
        (after,) = time_steps([Timed(training=PROBE)], config.cluster.training)
        record = read_json(Path(folder) / config.name / "run.json")
    measured: Counter[str] = Counter()
    for row in record["stages"]:
        measured[row["kind"]] += row["seconds"]
    kinds = {kind: {"planned_s": round(planned, 1), "took_s": round(measured[kind], 1)}
             for kind, planned in outlook.seconds_by_kind().items()}
    ratios = {"time": outlook.seconds / seconds, "memory": outlook.peak_bytes / record["peak_memory_bytes"]}
    for kind, both in kinds.items():
        print(f"{kind:24} planned {both['planned_s']:8.1f} s, took {both['took_s']:8.1f} s")
    print(f"{'whole run':24} planned {outlook.seconds:8.1f} s, took {seconds:8.1f} s: {ratios['time']:.2f}")
    print(f"{'memory':24} planned {outlook.peak_bytes / 1e9:8.2f} GB, took {record['peak_memory_bytes'] / 1e9:7.2f} GB: "
          f"{ratios['memory']:.2f}")
    print(f"{'step of the probe':24} {outlook.pace.probe_s:.3f} s before, {after.seconds:.3f} s after")
    print(f"{'share of processors':24} {outlook.pace.share:.2f} before, {after.share:.2f} after; with all of them the plan is "
          f"{outlook.seconds * outlook.pace.share:.0f} s")
    print(f"{'runnable processes':24} {loads[0]:.1f} before, {statistics.mean(loads[1:]):.1f} on average meanwhile")
    results = [Result(f"{what}: planned / measured, distance from 1", abs(ratio - 1), 0.25) for what, ratio in ratios.items()]
    conclude("plan", results, {"kinds": kinds, "planned_s": outlook.seconds, "took_s": seconds, "ratios": ratios,
                               "planned_bytes": outlook.peak_bytes, "took_bytes": record["peak_memory_bytes"],
                               "probe_before_s": outlook.pace.probe_s, "probe_after_s": after.seconds,
                               "share_before": outlook.pace.share, "share_after": after.share,
                               "load_before": loads[0], "load_during": statistics.mean(loads[1:])},
             torch.device("cpu"), options.check)


if __name__ == "__main__":
    main()
