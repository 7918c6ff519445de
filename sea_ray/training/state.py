"""The state of a training by the names of its tensors, so that any number of workers under any engine goes on from it.

A state is a folder of safetensors (what trains, AdamW's two moments) and a record: where the training stands, and a
SHA-256 of each file. It is the same whatever the number of workers or the ZeRO stage. Rank 0 writes it, tensor by tensor
in shards, and a thread of its own carries the shards to the disk and the store while the training goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from sea_ray.artifacts import RECORD, Unfinished, digest_file, fingerprint, plain, read_json
from sea_ray.errors import ConfigError, DataError, MachineError
from sea_ray.tracking import Tracker
from sea_ray.training.config import TrainConfig
from sea_ray.training.engine import Worker
from sea_ray.training.mixture import Mixture

SHARD_BYTES = 256 << 20
"""A state is gathered and written in pieces of this size: at most three of them are in memory."""
MAX_FAILED_UPLOADS = 3
"""A store that fails once may be back for the next state; one that fails so often in a row costs too much work at a loss."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a training stands, beside its tensors."""

    step: int = 0
    """Steps done, which is the number of the next one."""
    updates: int = 0
    """Steps that moved the values: AdamW's own count."""
    tokens: int = 0
    """Loss targets of those."""
    seconds: float = 0.0
    """Wall time of the steps that count; work that was lost is not in it."""
    losses: tuple[float, ...] = ()
    """Mean token loss of each step, nats; that of a skipped step may be anything."""
    skipped: tuple[int, ...] = ()
    """Steps that moved nothing."""
    held_out: tuple[tuple[int, Mapping[str, float]], ...] = ()
    """Steps done -> source -> nats per token of held-out text."""
    allreduce_bytes: int = 0
    """Gradient bytes that rank 0 handed to reductions in the first step."""
    gradient_and_state_bytes: int = 0
    """As the engine counted them; 0 until the end."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """What computed the last steps."""

    @property
    def best_step(self) -> int | None:
        """Steps done at the lowest mean held-out loss over all sources, the first of equals; None before the first look."""
        if not self.held_out:
            return None
        return min(self.held_out, key=lambda look: sum(look[1].values()) / len(look[1]))[0]


def identity(parameters: Mapping[str, nn.Parameter], config: TrainConfig, mixture: Mixture) -> dict[str, Any]:
    """Return what a state must agree with to be gone on from: the tensors, the training's values and its samples."""
    return {"tensors": {name: _shape(parameter) for name, parameter in parameters.items()}, "config": plain(config),
            "samples": fingerprint([mixture.sizes, mixture.effective_weights, mixture.seed, mixture.total_samples])}


def _shape(parameter: nn.Parameter) -> list[int]:
    return list(getattr(parameter, "ds_shape", parameter.shape))  # ZeRO-3 keeps an empty tensor with the shape beside it


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """A state on this machine's disk."""

    folder: Path
    progress: Progress
    files: Mapping[str, str]
    """Tensor's name -> file."""

    def read(self, kind: str, name: str) -> Tensor:
        """Return one tensor, on the CPU.

        Args:
            kind: "value", "exp_avg" or "exp_avg_sq".
            name: parameter.
        """
        tensor = f"{kind}/{name}"
        with safe_open(self.folder / self.files[tensor], framework="pt") as file:
            return file.get_tensor(tensor)

    def restore(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Put the values into whole parameters."""
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(self.read("value", name))


class TrainingStates:
    """Saves and finds the states of one training; every rank calls every method alike."""

    def __init__(self, unfinished: Unfinished, worker: Worker, tracker: Tracker) -> None:
        """Args: unfinished: where states lie; worker: this rank; tracker: told what was found and what was damaged."""
        self._unfinished, self._worker, self._tracker = unfinished, worker, tracker
        self._keep = worker.execution.keep_checkpoints
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="states")
        self._writing: Future[None] | None = None
        self._failed_uploads = 0

    def latest(self, wanted: Mapping[str, Any]) -> SavedState | None:
        """Return the newest state that is whole and undamaged, or None; what is damaged is named and passed over.

        Args:
            wanted: `identity` of the training that goes on.

        Raises:
            ConfigError: the state is one of another model or another training.
        """
        chosen = self._newest() if self._worker.rank == 0 else None
        name = self._worker.broadcast(chosen)
        if name is None:
            return None
        return self._opened(name, wanted)

    def at(self, step: int, wanted: Mapping[str, Any]) -> SavedState:
        """Return the state of so many steps.

        Raises:
            DataError: there is none, or it is damaged.
        """
        self.wait()
        self._worker.barrier()
        name = _name(step)
        if self._worker.rank == 0:
            check_digests(self._unfinished.get(name))
        return self._opened(name, wanted)

    def _newest(self) -> str | None:
        for name in reversed(self._unfinished.names()):
            try:
                check_digests(self._unfinished.get(name))
            except (DataError, OSError, ValueError, KeyError) as error:
                self._tracker.note(f"the saved state {name} is damaged ({error}); the one before it is taken")
                continue
            return name
        return None

    def _opened(self, name: str, wanted: Mapping[str, Any]) -> SavedState:
        folder = self._unfinished.get(name)
        record = read_json(folder / RECORD)
        _check_identity(record["identity"], wanted, folder)
        progress = record["progress"]
        losses = safetensors.torch.load_file(folder / "losses.safetensors")["losses"].tolist()
        return SavedState(folder=folder, files=record["tensors"], progress=Progress(**progress | {
            "losses": tuple(losses), "skipped": tuple(progress["skipped"]),
            "held_out": tuple((step, nats) for step, nats in progress["held_out"])}))

    def save(self, tensors: Iterable[tuple[str, Tensor]], progress: Progress, wanted: Mapping[str, Any]) -> None:
        """Gather a state and write it in the background; returns when the tensors may change again.

        Args:
            tensors: (name, whole tensor), made one at a time by all ranks together.
            progress: where the training stands.
            wanted: `identity` of the training.

        Raises:
            MachineError: earlier states could not be written.
        """
        if self._worker.rank != 0:
            for _ in tensors:
                pass
            return
        self.wait()
        folder = self._unfinished.temporary()
        files: dict[str, str] = {}
        shards: list[Future[None]] = []
        for shard in _shards(tensors):
            name = f"state-{len(shards) + 1:05}.safetensors"
            files |= dict.fromkeys(shard, name)
            if len(shards) > 1:
                shards[-2].result()  # not more than two wait for the disk
            shards.append(self._pool.submit(safetensors.torch.save_file, shard, folder / name))
        record = {"identity": wanted, "tensors": files, "progress": plain(replace(progress, losses=()))}
        losses = torch.tensor(progress.losses, dtype=torch.float64)
        self._writing = self._pool.submit(self._finish, folder, shards, losses, record, progress)

    def _finish(self, folder: Path, shards: list[Future[None]], losses: Tensor, record: dict[str, Any],
                progress: Progress) -> None:
        try:
            for shard in shards:
                shard.result()
            safetensors.torch.save_file({"losses": losses}, folder / "losses.safetensors")
            record["digests"] = {file.name: digest_file(file) for file in sorted(folder.iterdir())}
            self._unfinished.put(folder, _name(progress.step), record)
            kept = {_name(progress.step), _name(progress.best_step or progress.step)}
            for name in self._unfinished.names()[:-self._keep]:
                if name not in kept:
                    self._unfinished.remove(name)
            self._failed_uploads = 0
        except Exception as error:  # of the disk, or of any store
            shutil.rmtree(folder, ignore_errors=True)
            self._failed_uploads += 1
            self._tracker.note(f"the state after step {progress.step} could not be saved: {type(error).__name__}: {error}")
            if self._failed_uploads >= MAX_FAILED_UPLOADS:
                raise MachineError(f"{self._failed_uploads} states in a row could not be saved, the last with "
                                   f"{type(error).__name__}: {error}; look at the disk and at the store") from error

    def wait(self) -> None:
        """Wait until what was saved is in the store.

        Raises:
            MachineError: it could not be written, nor could the ones before it.
        """
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def close(self) -> None:
        """Wait for the last state and end the thread."""
        try:
            self.wait()
        finally:
            self._pool.shutdown()


def _name(step: int) -> str:
    return f"step-{step:09}"


def _shards(tensors: Iterable[tuple[str, Tensor]]) -> Iterable[dict[str, Tensor]]:
    """Yield copies of tensors on the CPU, in groups of about SHARD_BYTES."""
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors:
        shard[name] = tensor.detach().to("cpu", copy=True).contiguous()
        size += shard[name].nbytes
        if size >= SHARD_BYTES:
            yield shard
            shard, size = {}, 0
    if shard:
        yield shard


def check_digests(folder: Path) -> None:
    """Raise DataError if a file of a state is missing or has other bytes than when it was written."""
    for name, digest in read_json(folder / RECORD)["digests"].items():
        found = digest_file(folder / name)
        if found != digest:
            raise DataError(f"SHA-256 {found[:16]} instead of {digest[:16]}", folder / name)


def _check_identity(found: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Raise ConfigError if a state belongs to another training, with what differs."""
    other, own = found["tensors"], wanted["tensors"]
    for name in sorted({*other, *own}):
        if other.get(name) != own.get(name):
            raise ConfigError("", f"{folder} is the state of another model: it holds {name} as {other.get(name, 'nothing')}, "
                                  f"here it is {own.get(name, 'nothing')} ({len(other)} tensors there, {len(own)} here)")
    for name in sorted({*found["config"], *wanted["config"]}):
        if found["config"].get(name) != wanted["config"].get(name):
            raise ConfigError("", f"{folder} is the state of another training: {name} is {found['config'].get(name)!r} there, "
                                  f"{wanted['config'].get(name)!r} here")
    if found["samples"] != wanted["samples"]:
        raise ConfigError("", f"{folder} is the state of a training on other samples ({found['samples']} there, "
                              f"{wanted['samples']} here): another text, tokenizer or mix")
