"""The table of accelerators that a plan reckons with: `conf/accelerators.yaml`, dated and editable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sea_ray.decoding import decode
from sea_ray.errors import ConfigError, nearest
from sea_ray.launch.compose import read_table

TABLE = "accelerators.yaml"


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """What a worker computes on."""

    tflops: Mapping[str, float]
    """Precision -> dense peak rate, 10^12 operations per second."""
    memory_gb: float | None = None
    """Memory, 10^9 bytes; null: what the machine has available."""
    per_thread: bool = False
    """Whether the rate is one thread's."""
    source: str
    """Where the figures are from."""


@dataclass(frozen=True, kw_only=True)
class TextRates:
    """What it takes to make a corpus of text."""

    mb_per_s_per_cpu: float
    """10^6 bytes of text per second and processor, all steps together."""

    def __post_init__(self) -> None:
        """Check the range."""
        if not self.mb_per_s_per_cpu > 0:
            raise ConfigError("mb_per_s_per_cpu", f"{self.mb_per_s_per_cpu} is not above 0")


@dataclass(frozen=True, kw_only=True)
class Overheads:
    """What a run spends beside its models' arithmetic, in seconds as they were measured where the probe took `probe_step_s`."""

    probe_step_s: float
    """A step of the probe (launch/timing.py) on that machine at that time."""
    step_cost: float
    """A training's step beside Ray's own processes, as a multiple of one that was timed without them."""
    run_s: float
    """A run: imports, Ray, the report."""
    group_s: float
    """Until a worker group is there."""
    server_s: float
    """Until a server answers, and what its evaluation takes longer than one in process."""
    training_s: float
    """A training: its engine, its states, the proof that nothing else moved."""
    stages_s: Mapping[str, float]
    """Kind of stage -> its processes, what it loads and saves."""
    demo_documents_per_s: float
    """Documents of the embedded world that are told, cleaned and encoded, by two processes."""
    writing_cost: float
    """Writing one of `max_new_tokens`, as a multiple of reading a token: answers end earlier, and are written in batches."""
    checkpoint_mb_per_s: float
    """10^6 bytes of a checkpoint that are loaded or saved in a second."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("probe_step_s", "step_cost", "demo_documents_per_s", "writing_cost", "checkpoint_mb_per_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(name, f"{getattr(self, name)} is not above 0")
        for name, seconds in {"run_s": self.run_s, "group_s": self.group_s, "server_s": self.server_s,
                              "training_s": self.training_s, **self.stages_s}.items():
            if seconds < 0:
                raise ConfigError(name, f"{seconds} is negative")

    def of(self, kind: str) -> float:
        """Return the seconds of a kind of stage."""
        return self.stages_s.get(kind, 0.0)


@dataclass(frozen=True, kw_only=True)
class ProcessMemory:
    """What the processes of a run on one machine hold, in bytes."""

    driver_bytes: float
    """The command itself."""
    ray_bytes: float
    """Ray's own processes, with those of Train, Tune and Serve."""
    worker_bytes: float
    """A training worker without its model."""
    task_bytes: float
    """A process that has worked on a task; they are kept."""
    server_bytes: float
    """What Ray Serve adds, but for its replicas."""
    replica_bytes: float
    """One of these, without its model."""


@dataclass(frozen=True, kw_only=True)
class AcceleratorTable:
    """All accelerators, and what is assumed of them."""

    dated: str
    """Day on which the figures were looked up."""
    utilisation: float
    """Share of the peak rate that a training is assumed to reach."""
    usable_memory_frac: float
    """Share of the memory that tensors are assumed to get."""
    text: TextRates
    """For the corpus."""
    overheads: Overheads
    """For all stages."""
    memory: ProcessMemory
    """For a run on one machine."""
    accelerators: Mapping[str, Accelerator]
    """Name, as cluster.accelerator gives it -> accelerator."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("utilisation", "usable_memory_frac"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(name, f"{getattr(self, name)} is not above 0 and at most 1")

    def get(self, name: str) -> Accelerator:
        """Return an accelerator.

        Raises:
            ConfigError: there is none of that name.
        """
        if name not in self.accelerators:
            raise ConfigError("cluster.accelerator", f"{TABLE} has no {name!r}{nearest(name, self.accelerators)}")
        return self.accelerators[name]


def load_accelerators() -> AcceleratorTable:
    """Return the table of the configuration folder in use.

    Raises:
        ConfigError: the file is missing or malformed, with the key.
    """
    values = read_table(TABLE)
    return decode(AcceleratorTable, {**values, "dated": str(values.get("dated", ""))}, TABLE.removesuffix(".yaml"))
