"""The training loop: it knows neither Ray nor DeepSpeed, and the number of workers changes nothing in its result."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from sea_ray.errors import ConfigError, DataError
from sea_ray.tracking import Tracker
from sea_ray.training.config import TrainConfig
from sea_ray.training.engine import Engine, Worker
from sea_ray.training.footprint import CountedReductions, readable_bytes
from sea_ray.training.mixture import Mixture
from sea_ray.training.policy import is_added
from sea_ray.training.schedule import learning_rate_at
from sea_ray.training.sequences import SequenceSet, collate


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """What a training did."""

    steps: int
    """Optimiser steps."""
    tokens: int
    """Loss targets seen."""
    seconds: float
    """Wall time of the steps, set-up excluded."""
    setup_seconds: float
    """Wall time from the call to the first step."""
    losses: tuple[float, ...]
    """Mean token loss of each step, nats."""
    trained_values: int
    """Values that train."""
    total_values: int
    """Values of the model itself, without what stands in for or beside its weights while they train."""
    gradient_and_state_bytes: int
    """Gradients and optimiser state of all ranks together, replicas once; counted by the engine."""
    allreduce_bytes_per_step: int
    """Gradient bytes that rank 0 hands to reductions in a step, counted in the first; 0 for a single worker."""
    engine: Mapping[str, Any]
    """Which engine in which version computed."""
    realised_shares: Mapping[str, float]
    """Source -> share of the samples drawn."""

    @property
    def tokens_per_s(self) -> float:
        """Loss targets per second, all workers together."""
        return self.tokens / max(self.seconds, 1e-9)

    def statement(self) -> str:
        """Return in one line what trained and what that took beside the model."""
        sent = readable_bytes(self.allreduce_bytes_per_step) if self.allreduce_bytes_per_step else "nothing"
        return (f"trains {self.trained_values:,} of {self.total_values:,} values "
                f"({self.trained_values / self.total_values:.2%}), {readable_bytes(self.gradient_and_state_bytes)} of "
                f"gradients and optimiser state, {sent} all-reduced per step")


def train(model: PreTrainedModel, sources: Mapping[str, SequenceSet], mixture: Mixture, config: TrainConfig,
          worker: Worker, tracker: Tracker, *, log_every_steps: int = 10) -> TrainReport:
    """Train the parameters of a model that require a gradient; called by every rank alike.

    A step's loss is the sum of the token losses of its global batch over their global number, so each token counts the
    same however the batch is split.

    Args:
        model: trained in place.
        sources: name -> sequences of config.sequence_tokens tokens.
        mixture: says which samples make up each step.
        config: steps, batch, optimiser.
        worker: this rank.
        tracker: rank 0 logs loss, learning_rate, grad_norm, tokens_per_s and eta_s to it, and notes the report's
            statement.
        log_every_steps: steps between two logs.

    Raises:
        ConfigError: if nothing trains, or batch and workers don't fit.
        DataError: if a loss is not finite, with the step and its samples.
    """
    called = time.perf_counter()
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    _check(parameters, sources, mixture, config, worker)
    trained_values = sum(p.numel() for p in parameters.values())
    total_values = sum(p.numel() for name, p in model.named_parameters() if not is_added(name))
    reductions = CountedReductions()
    model.train()
    engine = worker.engine(model, parameters, config)
    log = _Log(worker, tracker, config, log_every_steps)
    for step in range(config.steps):
        samples = mixture.batch(step, config.batch_sequences)
        count = num_targets(sources, samples)
        watch = reductions if step == 0 and worker.world_size > 1 else contextlib.nullcontext()
        loss_sum = _accumulate(engine, sources, samples, count, config, worker, watch)
        learning_rate = learning_rate_at(step, config)
        norm = engine.step(learning_rate)
        if not math.isfinite(norm):
            raise DataError(f"the loss or its gradient is not finite at step {step} (gradient norm {norm}): lower "
                            f"learning_rate={config.learning_rate} or look at the batch's samples {samples}")
        log.add(step, loss_sum, count, learning_rate=learning_rate, grad_norm=norm)
    seconds = time.perf_counter() - log.start
    description, state_bytes = engine.describe(), engine.state_bytes()
    engine.close()  # not on errors: it may wait for ranks that are gone
    model.eval()
    report = TrainReport(
        steps=config.steps, tokens=log.tokens, seconds=seconds,
        setup_seconds=log.start - called, losses=tuple(log.losses), trained_values=trained_values,
        total_values=total_values, gradient_and_state_bytes=state_bytes,
        allreduce_bytes_per_step=reductions.bytes, engine=description,
        realised_shares=mixture.realised(config.steps, config.batch_sequences))
    if worker.rank == 0:
        tracker.note(report.statement())
    return report


def _check(parameters: Mapping[str, torch.nn.Parameter], sources: Mapping[str, SequenceSet], mixture: Mixture,
           config: TrainConfig, worker: Worker) -> None:
    if not parameters:
        raise ConfigError("", "no parameter of the model requires a gradient: install a training policy first")
    if config.batch_sequences % worker.world_size:
        raise ConfigError("batch_sequences", f"{config.batch_sequences} sequences cannot be split evenly over "
                                             f"{worker.world_size} workers: choose a multiple")
    for name in mixture.sizes:
        if name not in sources:
            raise ConfigError("weights", f"the mixture draws from {name!r}, which is not among the sources")
        if sources[name].num_sequences != mixture.sizes[name]:
            raise ConfigError("weights", f"the mixture was made for {mixture.sizes[name]} sequences of {name!r}, there "
                                         f"are {sources[name].num_sequences}")
        if sources[name].length != config.sequence_tokens:
            raise ConfigError("sequence_tokens", f"{name!r} is packed in {sources[name].length} tokens, not "
                                                 f"{config.sequence_tokens}")


def num_targets(sources: Mapping[str, SequenceSet], samples: Sequence[tuple[str, int]]) -> int:
    """Return the number of loss targets of a global batch; every rank counts it for itself, without communication."""
    return max(1, sum(int(sources[name].loss_mask_ST[number].sum()) for name, number in samples))


def _accumulate(engine: Engine, sources: Mapping[str, SequenceSet], samples: Sequence[tuple[str, int]], count: int,
                config: TrainConfig, worker: Worker,
                watch: contextlib.AbstractContextManager[object]) -> torch.Tensor:
    """Add the gradient of this rank's part of a global batch, backward passes watched; return its sum of losses."""
    part = len(samples) // worker.world_size
    mine = samples[worker.rank * part:(worker.rank + 1) * part]
    size = config.micro_batch or part
    total = torch.zeros((), device=worker.device)
    for start in range(0, part, size):
        loss = engine.loss(collate(sources, mine[start:start + size], worker.device))
        total += loss.detach()
        with watch:
            engine.backward(loss / count, last=start + size >= part)
    return total


class _Log:
    """Collects the steps' losses; the ranks exchange them only when they are shown."""

    def __init__(self, worker: Worker, tracker: Tracker, config: TrainConfig, every: int) -> None:
        self.start, self.tokens, self.losses = time.perf_counter(), 0, list[float]()
        self._worker, self._tracker, self._steps, self._every = worker, tracker, config.steps, every
        self._pending: list[tuple[torch.Tensor, int]] = []
        self._shown, self._shown_tokens = self.start, 0

    def add(self, step: int, loss_sum: torch.Tensor, count: int, **figures: float) -> None:
        self.tokens += count
        self._pending.append((loss_sum, count))
        if len(self._pending) < self._every and step + 1 < self._steps:
            return
        sums = self._worker.sum(torch.stack([loss for loss, _ in self._pending])).tolist()
        counts = [number for _, number in self._pending]
        self.losses += [loss / number for loss, number in zip(sums, counts, strict=True)]
        self._pending.clear()
        now = time.perf_counter()
        if self._worker.rank == 0:
            self._tracker.log(step=step, loss=sum(sums) / sum(counts), **figures,
                              tokens_per_s=(self.tokens - self._shown_tokens) / (now - self._shown),
                              eta_s=(now - self.start) / (step + 1) * (self._steps - step - 1))
        self._shown, self._shown_tokens = now, self.tokens
