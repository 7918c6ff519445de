"""Where an experiment is computed, and what that may cost; never part of a result's identity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sea_ray.errors import ConfigError
from sea_ray.training.config import ExecutionConfig


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Where and how the experiment is computed; never part of a result's identity."""

    address: str = "local"
    """"local" starts Ray on this machine; "auto" or an address joins a cluster (RAY_ADDRESS overrides it)."""
    num_cpus: int = 0
    """Processors that a local Ray counts; 0: all there are."""
    cpus_per_worker: float = 0.5
    """Ray's count for one training worker."""
    cpus_per_task: float = 0.5
    """Ray's count for one task of a map stage."""
    num_tasks: int = 2
    """Shards of a map stage; of one in a worker group the next multiple of its workers."""
    stream_from_bytes: int = 2_000_000_000
    """Text in files of this size or more is read and refined all over the cluster by Ray Data; less, by one task per shard."""
    worker_groups: int = 1
    """Groups of training.num_workers that take trainings from one queue: on one machine one, on a cluster as many as trials of a
    sweep are to train at the same time; all but the first start with the first sweep."""
    max_concurrent_trials: int = 2
    """Trials of a sweep that wait for a worker group at one time."""
    max_group_restarts: int = 20
    """How often a lost worker group is started again in a run; preemptions that were announced don't count."""
    max_stage_retries: int = 5
    """How often a stage goes on from its newest saved state after a process of its group was lost without a notice."""
    min_free_disk_gib: float = 1.0
    """Refuse to start with less room in the store's file system."""
    min_free_memory_gib: float = 3.0
    """Refuse to start with less memory available."""
    accelerator: str | None = None
    """What a worker computes on, as conf/accelerators.yaml names it: decides what a plan says of time and whether memory
    suffices. null: the processor, or a GPU of which nothing is known."""
    provider: str | None = None
    """Whose machines these are, as conf/prices.yaml names it: then a run says what it will cost and asks first. null: nobody's
    that are paid by the hour."""
    machine: str | None = None
    """Type of machine, as conf/prices.yaml names it; null: the provider's cheapest that suits."""
    pays: Literal["spot", "on_demand"] = "spot"
    """Which of the provider's prices counts."""
    training: ExecutionConfig = field(default_factory=ExecutionConfig)
    """Workers, engine, ZeRO stage, device."""

    def __post_init__(self) -> None:
        for name in ("worker_groups", "max_concurrent_trials"):
            if getattr(self, name) < 1:
                raise ConfigError(name, f"{getattr(self, name)} is below 1")
        if self.machine is not None and self.provider is None:
            raise ConfigError("provider", f"null, and machine is {self.machine!r}: say whose it is")


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """Limits of one submission. At a limit what trains is saved and the run ends, with a sweep's best so far; submitted again, it
    goes on from there. A shard of corpus, detection or evaluation that has begun goes on to its end."""

    max_hours: float | None = None
    """Wall time; null: no limit."""
    max_usd: float | None = None
    """Of all machines of the cluster together; null: no limit."""
    usd_per_machine_hour: float | None = None
    """Price of a machine that trains; null: what conf/prices.yaml says of cluster.machine."""
    usd_per_hour_besides: float = 0.0
    """Price of what is there all the time, such as a cluster's head."""

    def __post_init__(self) -> None:
        for name in ("max_hours", "max_usd"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(name, f"{value} is not above 0; null is no limit")
        for name in ("usd_per_machine_hour", "usd_per_hour_besides"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigError(name, f"{getattr(self, name)} is negative")
