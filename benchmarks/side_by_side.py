"""Timing things side by side in one run, and saying what came of it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch

import sea_ray


@dataclass(frozen=True)
class Result:
    """One row of a benchmark: a ratio and the most that it may be."""

    measure: str
    value: float
    target: float

    @property
    def met(self) -> bool:
        """Whether the value is at most the target."""
        return self.value <= self.target


def medians(arms: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Return the median seconds of each arm; the arms take turns, so that a slow moment of the machine hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(rounds + 1):
        for name, arm in arms.items():
            start = time.perf_counter()
            arm()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def machine(device: torch.device) -> str:
    """Return the machine in words."""
    kind = torch.cuda.get_device_name() if device.type == "cuda" else f"{os.cpu_count()} cores, {platform.machine()}"
    return f"{kind}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def arguments(description: str, *presets: str) -> argparse.ArgumentParser:
    """Return a parser with what all benchmarks take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=9, help="timed turns of each arm")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--preset", choices=presets, default=presets[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="torch threads on the CPU")
    return parser


def conclude(benchmark: str, results: list[Result], figures: Mapping[str, object], device: torch.device, check: bool) -> None:
    """Print the rows and, as the last line, everything as JSON; exit 1 if `check` and a target is missed."""
    for result in results:
        print(f"{result.measure:68} {result.value:8.4f}  at most {result.target:<6g} {'met' if result.met else 'MISSED'}")
    rows = [asdict(result) | {"met": result.met} for result in results]
    print(json.dumps({"benchmark": benchmark, "version": sea_ray.__version__, "machine": machine(device),
                      "figures": figures, "results": rows}))
    if check and not all(result.met for result in results):
        sys.exit(1)
