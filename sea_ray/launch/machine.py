"""What the machine has and what a run takes of it."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from importlib.metadata import version
from pathlib import Path

import psutil

from sea_ray.config import ClusterConfig
from sea_ray.errors import MachineError

GIB = 1 << 30


def cluster_address(config: ClusterConfig) -> str:
    """Return the address of the cluster that is joined, or "local"; RAY_ADDRESS, as in a submitted job, goes first."""
    return os.environ.get("RAY_ADDRESS") or config.address


def use_token() -> None:
    """Show a cluster the token that lies in this user's home or in RAY_AUTH_TOKEN; before Ray is imported."""
    if "RAY_AUTH_TOKEN" in os.environ or (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def check_room(config: ClusterConfig, folder: Path) -> None:
    """Refuse to start with too little disk or memory.

    Args:
        config: the least that must be free.
        folder: where results are written.

    Raises:
        MachineError: with what is there, what is needed and the setting.
    """
    disk = psutil.disk_usage(str(folder)).free / GIB
    if disk < config.min_free_disk_gib:
        raise MachineError(f"{folder} has {disk:.1f} GiB free, cluster.min_free_disk_gib={config.min_free_disk_gib} is needed; "
                           "make room or name another store.url")
    memory = psutil.virtual_memory().available / GIB
    if memory < config.min_free_memory_gib:
        raise MachineError(f"{memory:.1f} GiB of memory is available, cluster.min_free_memory_gib={config.min_free_memory_gib} "
                           "is needed; close something or lower cluster.training.num_workers")


def versions() -> dict[str, str]:
    """Return the versions of what computes."""
    found = {"python": platform.python_version()}
    for package in ("sea-ray", "torch", "transformers", "ray", "deepspeed", "hydra-core", "wandb"):
        with contextlib.suppress(Exception):
            found[package] = version(package)
    return found


def machine() -> str:
    """Return what computes, in words; accelerators are named by the stages that use them."""
    memory = psutil.virtual_memory().total / GIB
    return f"{psutil.cpu_count()} CPU cores, {memory:.0f} GiB of memory"


class MemoryMeter:
    """Samples the proportional memory of this process and all its descendants, and keeps the peak."""

    def __init__(self, every_s: float = 2.0) -> None:
        """Args: every_s: seconds between samples."""
        self.peak_bytes = 0
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True, name="memory")

    def __enter__(self) -> MemoryMeter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _sample(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(self._every_s):
            self.peak_bytes = max(self.peak_bytes, sum(map(_memory, [me, *me.children(recursive=True)])))


def _memory(process: psutil.Process) -> int:
    try:
        info = process.memory_full_info()
        return int(getattr(info, "pss", info.rss))
    except psutil.Error:  # it ended while we looked
        return 0
