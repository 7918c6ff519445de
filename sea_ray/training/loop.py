"""The training loop: it knows neither Ray nor DeepSpeed, and the number of workers changes nothing in its result."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel

from sea_ray.errors import ConfigError, DataError
from sea_ray.tracking import Tracker
from sea_ray.training.config import TrainConfig
from sea_ray.training.engine import Engine, Parameters, PreemptedError, Worker
from sea_ray.training.footprint import CountedReductions, readable_bytes
from sea_ray.training.kernels import prepared
from sea_ray.training.mixture import Mixture
from sea_ray.training.policy import is_added
from sea_ray.training.schedule import learning_rate_at
from sea_ray.training.sequences import SequenceSet, collate
from sea_ray.training.state import Progress, TrainingStates, identity

RECENT_STEPS = 32
"""Accepted steps whose mean loss says what an exploding one is."""


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
    skipped: tuple[int, ...] = ()
    """Steps that moved nothing, because their loss or gradient was not finite or exploded."""
    held_out: tuple[tuple[int, Mapping[str, float]], ...] = ()
    """Steps done -> source -> nats per token of held-out text."""
    kept_step: int | None = None
    """Steps after which the values are those that the training ends with; None for all of them."""
    resumed_step: int = 0
    """Steps that an earlier process had done; 0 for a training in one go."""

    @property
    def tokens_per_s(self) -> float:
        """Loss targets per second, all workers together."""
        return self.tokens / max(self.seconds, 1e-9)

    def statement(self) -> str:
        """Return in one line what trained and what that took beside the model."""
        sent = readable_bytes(self.allreduce_bytes_per_step) if self.allreduce_bytes_per_step else "nothing"
        return (f"trains {self.trained_values:,} of {self.total_values:,} values "
                f"({self.trained_values / self.total_values:.2%}), {readable_bytes(self.gradient_and_state_bytes)} of "
                f"gradients and optimiser state, {sent} all-reduced per step"
                + (f"; goes on from step {self.resumed_step:,}" if self.resumed_step else "")
                + (f"; {len(self.skipped)} steps skipped, the first {self.skipped[0]:,}" if self.skipped else "")
                + (f"; keeps the values after step {self.kept_step:,}, the best on held-out text" if self.kept_step else ""))


def train(model: PreTrainedModel, sources: Mapping[str, SequenceSet], mixture: Mixture, config: TrainConfig,
          worker: Worker, tracker: Tracker, *, held_out: Mapping[str, SequenceSet] | None = None,
          states: TrainingStates | None = None) -> TrainReport:
    """Train the parameters of a model that require a gradient; called by every rank alike.

    A step's loss is the sum of the token losses of its global batch over their global number, so each token counts the
    same however the batch is split. With `states` the training goes on from the newest saved one, on the very next sample,
    whatever the number of workers and the engine that saved it.

    Args:
        model: trained in place.
        sources: name -> sequences of config.sequence_tokens tokens.
        mixture: says which samples make up each step.
        config: steps, batch, optimiser.
        worker: this rank.
        tracker: rank 0 logs loss, learning_rate, grad_norm, tokens_per_s and eta_s to it, held-out losses as
            held_out/SOURCE, and notes the report's statement.
        held_out: name -> sequences that are looked at every config.eval_every_steps steps.
        states: where states are saved and found; None saves nothing.

    Raises:
        ConfigError: if nothing trains, batch and workers don't fit, or a saved state is one of another training.
        DataError: if more losses than allowed are not finite or explode, with the step and its samples.
        MachineError: if states cannot be saved.
        PreemptedError: the machine goes away; the state is saved, if there are `states`.
    """
    run = _Run(model, sources, mixture, config, worker, tracker, held_out or {}, states)
    report = run.train()
    if worker.rank == 0:
        tracker.note(report.statement())
    return report


class _Run:
    """One training, from what is saved of it to its end."""

    def __init__(self, model: PreTrainedModel, sources: Mapping[str, SequenceSet], mixture: Mixture, config: TrainConfig,
                 worker: Worker, tracker: Tracker, held_out: Mapping[str, SequenceSet], states: TrainingStates | None) -> None:
        self._called = time.perf_counter()
        self._model, self._sources, self._mixture, self._config = model, sources, mixture, config
        self._worker, self._tracker, self._held_out, self._states = worker, tracker, held_out, states
        self._parameters: Parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        _check(self._parameters, sources, mixture, config, worker)
        if config.eval_every_steps and not held_out:
            raise ConfigError("eval_every_steps", "there is no held-out text to look at: give some, or set it to 0")
        if config.keep == "best" and states is None:
            raise ConfigError("keep", "'best' needs a place for the states to choose from: pass `states`, or keep 'last'")
        self._trained_values = sum(p.numel() for p in self._parameters.values())
        self._total_values = sum(p.numel() for name, p in model.named_parameters() if not is_added(name))
        self._identity = identity(self._parameters, config, mixture)
        self._progress = Progress()

    def train(self) -> TrainReport:
        saved = self._states.latest(self._identity) if self._states else None
        if saved is not None:
            saved.restore(self._parameters)
            self._progress = saved.progress
        resumed_step, setup_seconds = self._progress.step, 0.0
        if resumed_step < self._config.steps:
            self._model.train()
            with prepared(self._model, self._worker):
                engine = self._worker.engine(self._model, self._parameters, self._config)
                if saved is not None and self._progress.updates:
                    some = [(next(iter(self._sources)), 0)]
                    engine.load_moments(saved.read, self._progress.updates, collate(self._sources, some, self._worker.device))
                setup_seconds = time.perf_counter() - self._called
                self._steps(engine)
                self._progress = replace(self._progress, engine=engine.describe(), gradient_and_state_bytes=engine.state_bytes())
                self._save(engine)
                engine.close()  # not on errors: it may wait for ranks that are gone
            self._model.eval()
        best = self._progress.best_step if self._config.keep == "best" else None
        if self._states is not None:
            if best is not None and best != self._config.steps:
                self._states.at(best, self._identity).restore(self._parameters)
            self._states.wait()
        return self._report(setup_seconds, resumed_step, best)

    def _steps(self, engine: Engine) -> None:
        config, worker = self._config, self._worker
        every = worker.execution.checkpoint_every_steps
        log = _Log(worker, self._tracker, config, self._progress)
        for step in range(self._progress.step, config.steps):
            samples = self._mixture.batch(step, config.batch_sequences)
            count = num_targets(self._sources, samples)
            torch.manual_seed(config.seed + step)  # for models that drop out: a resumed step draws what it would have drawn
            watch = CountedReductions() if step == 0 and worker.world_size > 1 else contextlib.nullcontext()
            loss, preempted = self._accumulate(engine, samples, count, watch)
            learning_rate = learning_rate_at(step, config)
            norm = engine.step(learning_rate)
            moved = math.isfinite(norm)
            progress = self._progress
            self._progress = progress = replace(
                progress, step=step + 1, updates=progress.updates + moved, tokens=progress.tokens + count * moved,
                losses=(*progress.losses, loss), seconds=log.seconds, skipped=progress.skipped + (() if moved else (step,)),
                allreduce_bytes=getattr(watch, "bytes", progress.allreduce_bytes))
            if not moved:
                self._skipped(step, loss, norm, samples)
            log.step(progress, learning_rate=learning_rate, grad_norm=norm)
            looked = config.eval_every_steps and ((step + 1) % config.eval_every_steps == 0 or step + 1 == config.steps)
            if looked:
                self._look(engine)
            due = every and (step + 1) % every == 0
            is_best = looked and config.keep == "best" and self._progress.best_step == step + 1
            if preempted or (step + 1 < config.steps and (due or is_best)):  # the last one is saved with the engine's figures
                self._save(engine)
            if preempted:
                if self._states is not None:
                    self._states.wait()
                raise PreemptedError(f"after step {step}")

    def _accumulate(self, engine: Engine, samples: Sequence[tuple[str, int]], count: int,
                    watch: contextlib.AbstractContextManager[object]) -> tuple[float, bool]:
        """Add the gradient of this rank's part of a global batch, backward passes watched.

        Returns:
            The mean token loss of the whole batch, and whether any rank has heard that a machine goes away.
        """
        worker = self._worker
        total = torch.zeros(2, dtype=torch.float64, device=worker.device)
        parts = list(self._micro_batches(samples))
        for number, (part, is_spare) in enumerate(parts):
            loss = engine.loss(collate(self._sources, part, worker.device)) * (not is_spare)
            total[0] += loss.detach()
            last = number + 1 == len(parts)
            scale = 1 / count
            if last:
                total[1] = worker.preempted
                loss_sum, num_preempted = worker.sum(total).tolist()
                scale = 1 / count if self._is_sound(loss_sum / count) else math.nan  # the engines move nothing by a nan
            with watch:
                engine.backward(loss * scale, last=last)
        return loss_sum / count, num_preempted > 0

    def _micro_batches(self, samples: Sequence[tuple[str, int]]) -> Iterator[tuple[Sequence[tuple[str, int]], bool]]:
        """Yield this rank's samples in micro batches, of which every rank has as many; and whether one is there for that only."""
        worker = self._worker
        borders = [len(samples) * rank // worker.world_size for rank in range(worker.world_size + 1)]
        mine = samples[borders[worker.rank]:borders[worker.rank + 1]]
        most = max(end - start for start, end in itertools.pairwise(borders))
        size = self._config.micro_batch or most
        for start in range(0, most, size):
            part = mine[start:start + size]
            yield part or samples[:1], not part

    def _is_sound(self, loss: float) -> bool:
        """Return whether a batch's loss is finite and no explosion."""
        if not math.isfinite(loss):
            return False
        rise, skipped = self._config.max_loss_rise, set(self._progress.skipped)
        losses = self._progress.losses
        first = max(0, len(losses) - RECENT_STEPS)
        recent = [value for step, value in enumerate(losses[first:], first) if step not in skipped]
        return not rise or not recent or loss <= sum(recent) / len(recent) + rise

    def _skipped(self, step: int, loss: float, norm: float, samples: Sequence[tuple[str, int]]) -> None:
        skipped = self._progress.skipped
        what = (f"step {step} moved nothing: its loss is {loss:.4g} nats, its gradient's norm {norm:.4g}; its samples are "
                f"{', '.join(f'{name} {number}' for name, number in samples)}")
        if len(skipped) > self._config.max_skipped_steps:
            raise DataError(f"{what}. {len(skipped)} steps were skipped ({', '.join(map(str, skipped))}), more than "
                            f"max_skipped_steps={self._config.max_skipped_steps}: lower learning_rate="
                            f"{self._config.learning_rate:g} or look at these samples")
        if self._worker.rank == 0:
            self._tracker.note(what)

    def _look(self, engine: Engine) -> None:
        """Measure the held-out losses; the sequences of each source are shared out over the ranks."""
        self._model.eval()
        nats = held_out_nats(engine, self._held_out, self._worker, self._config.micro_batch or 16)
        self._model.train()
        self._progress = replace(self._progress, held_out=(*self._progress.held_out, (self._progress.step, nats)))
        if self._worker.rank == 0:
            self._tracker.log(step=self._progress.step - 1, **{f"held_out/{name}": value for name, value in nats.items()},
                              held_out_mean=sum(nats.values()) / len(nats))

    def _save(self, engine: Engine) -> None:
        if self._states is not None:
            self._states.save(engine.state(), self._progress, self._identity)

    def _report(self, setup_seconds: float, resumed_step: int, best: int | None) -> TrainReport:
        progress, config = self._progress, self._config
        return TrainReport(
            steps=config.steps, tokens=progress.tokens, seconds=progress.seconds, setup_seconds=setup_seconds,
            losses=progress.losses, trained_values=self._trained_values, total_values=self._total_values,
            gradient_and_state_bytes=progress.gradient_and_state_bytes, allreduce_bytes_per_step=progress.allreduce_bytes,
            engine=progress.engine, realised_shares=self._mixture.realised(config.steps, config.batch_sequences),
            skipped=progress.skipped, held_out=progress.held_out, kept_step=best, resumed_step=resumed_step)


def _check(parameters: Mapping[str, torch.nn.Parameter], sources: Mapping[str, SequenceSet], mixture: Mixture,
           config: TrainConfig, worker: Worker) -> None:
    if not parameters:
        raise ConfigError("", "no parameter of the model requires a gradient: install a training policy first")
    if config.batch_sequences < worker.world_size:
        raise ConfigError("batch_sequences", f"{config.batch_sequences} sequences are too few for {worker.world_size} workers: "
                                             "each needs one at least")
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


def held_out_nats(engine: Engine, parts: Mapping[str, SequenceSet], worker: Worker, size: int = 16) -> dict[str, float]:
    """Return source -> mean nats per token of held-out sequences; every rank runs as many forward passes.

    Args:
        engine: computes the losses.
        parts: name -> sequences.
        worker: this rank.
        size: sequences of a forward pass.
    """
    sums = torch.zeros(len(parts), dtype=torch.float64, device=worker.device)
    with torch.no_grad():
        for place, (name, part) in enumerate(parts.items()):
            for start in range(0, part.num_sequences, size * worker.world_size):
                first = start + worker.rank * size
                rows = range(first, min(first + size, part.num_sequences)) or range(1)
                loss = engine.loss(collate(parts, [(name, row) for row in rows], worker.device))
                sums[place] += loss.detach() if first < part.num_sequences else 0
    sums_L = worker.sum(sums).tolist()
    return {name: value / part.num_targets for (name, part), value in zip(parts.items(), sums_L, strict=True)}


class _Log:
    """Times the steps and shows them now and then."""

    def __init__(self, worker: Worker, tracker: Tracker, config: TrainConfig, progress: Progress) -> None:
        self._worker, self._tracker, self._steps = worker, tracker, config.steps
        self._start, self._before, self._shown = time.perf_counter(), progress.seconds, progress
        self._first_step = progress.step

    @property
    def seconds(self) -> float:
        """Wall time of all steps, those of earlier processes included."""
        return self._before + time.perf_counter() - self._start

    def step(self, progress: Progress, **figures: float) -> None:
        """Show the steps since the last time, if it is time."""
        if progress.step % self._worker.execution.log_every_steps and progress.step < self._steps:
            return
        if self._worker.rank == 0:
            since = progress.step - self._shown.step
            speed = (self.seconds - self._before) / (progress.step - self._first_step)
            self._tracker.log(step=progress.step - 1, loss=sum(progress.losses[-since:]) / since, **figures,
                              tokens_per_s=(progress.tokens - self._shown.tokens) / (progress.seconds - self._shown.seconds),
                              eta_s=speed * (self._steps - progress.step))
        self._shown = progress
