"""Which trainings an experiment will carry out, and which of its results are there already: the pipeline without computing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sea_ray.artifacts import Artifact, Store
from sea_ray.config import BaseModelConfig, ExperimentConfig
from sea_ray.execution import Endpoint, Search, Stage, Trial
from sea_ray.stages.configs import BaseStage, ContinuedPretrainingStage, ExtendedBaseStage, NeuronStage, SftStage
from sea_ray.studies.carry_out import carry_out
from sea_ray.tracking import NullTracker, Tracker
from sea_ray.training.config import TrainPolicy
from sea_ray.training.estimate import Training
from sea_ray.training.shape import ModelShape, selected_neurons

State = Literal["finished", "to do", "open"]


class _AnyFigure(dict):
    """Facts of what is not computed: every figure is there and none says anything."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> float:
        return 0.0


class Foreseen(Artifact):
    """A result that is not there yet."""

    @property
    def facts(self) -> dict[str, Any]:
        """Figures that decide nothing."""
        return _AnyFigure()


@dataclass(frozen=True, kw_only=True)
class PlannedSweep:
    """A sweep, as far as its trials are known beforehand."""

    name: str
    num_trials: int
    num_finished: int
    stages: frozenset[str]
    """Names of its trials' stages."""
    is_open: bool
    """Whether an earlier sweep decides which of them are finished."""


class Foresight:
    """A platform that computes nothing: it looks what the store has and keeps the list of stages.

    Until a sweep is finished nobody knows its winner, nor the fingerprints of what is made from it: such stages are "open",
    and reckoned with the sweep's first point.
    """

    def __init__(self, store: Store) -> None:
        """Args: store: is looked into, never written.

        `stages` are all stages in order, `results` kind -> the last finished one's, `sweeps` what is known of these,
        `trials` name of a sweep -> its trials.
        """
        self.store = store
        self.tracker: Tracker = NullTracker()
        self.stages: list[tuple[Stage, State]] = []
        self.results: dict[str, Artifact] = {}
        self.sweeps: list[PlannedSweep] = []
        self.trials: dict[str, list[Trial]] = {}
        self._undecided = False

    def run(self, stage: Stage) -> Artifact:
        """Return the stage's result if it is there, else what it will be known by."""
        found = self.store.find(stage.key)
        state: State = "open" if self._undecided else "finished" if found else "to do"
        self.stages.append((stage, state))
        if found is not None:
            self.results[stage.kind] = found
        return found or Foreseen(kind=stage.kind, name=stage.name, fingerprint=stage.key.fingerprint, folder=Path())

    def sweep(self, name: str, search: Search) -> list[Trial]:
        """Return the trials; with all of them finished the winner is known. What an adaptive search would learn is not."""
        done, first = [], len(self.stages)
        while (proposal := search.ask()) is not None:
            done.append(proposal.ended(self.run(proposal.stage)))
        self.trials[name] = done
        states = [state for _, state in self.stages[first:]]
        self.sweeps.append(PlannedSweep(
            name=name, num_trials=search.num_trials, num_finished=states.count("finished"), is_open="open" in states,
            stages=frozenset(stage.name for stage, _ in self.stages[first:])))
        if any(isinstance(trial.artifact, Foreseen) for trial in done):
            self._undecided = True
            return [replace(trial, artifact=_foreseen(trial.artifact)) for trial in done]
        return done

    @contextlib.contextmanager
    def serving(self, checkpoint: Artifact, config: Any) -> Iterator[Endpoint]:
        """Serve nothing."""
        yield Endpoint(url="", api_key="", model="")


def _foreseen(artifact: Artifact | None) -> Artifact:
    assert artifact is not None
    return Foreseen(kind=artifact.kind, name=artifact.name, fingerprint=artifact.fingerprint, folder=artifact.folder)


@dataclass(frozen=True, kw_only=True)
class PlannedTraining:
    """A training, or several that cost the same."""

    name: str
    """Stage, and the part of it if it has several."""
    state: State
    """finished: will be reused; to do: not in the store; open: a sweep that is not finished decides what it is."""
    times: int
    """How many of them follow each other, such as one per language."""
    training: Training


def foresee(config: ExperimentConfig, store: Store) -> Foresight:
    """Return what an experiment will do, in order, with what a store has of it.

    Args:
        config: the experiment.
        store: says what is finished; is not written.
    """
    foresight = Foresight(store)
    carry_out(config, foresight)
    return foresight


def planned_trainings(foresight: Foresight, shape: ModelShape) -> list[PlannedTraining]:
    """Return the trainings of an experiment, in order.

    Args:
        foresight: of the experiment.
        shape: of its model.
    """
    return [PlannedTraining(name=stage.name + part, state=state, times=times, training=training)
            for stage, state in foresight.stages for part, times, training in trainings_of(stage.config, shape)]


def trainings_of(stage: Any, shape: ModelShape) -> Iterator[tuple[str, int, Training]]:
    """Yield the trainings of a stage's config: the part's name, how many follow each other, and one of them."""
    whole = TrainPolicy(kind="all")
    if isinstance(stage, BaseStage) and stage.checkpoint is None:
        yield "", 1, Training(shape=shape, policy=whole, config=stage.training)
        if stage.annealing is not None:
            yield "/annealing", 1, Training(shape=shape, policy=whole, config=stage.annealing)
    elif isinstance(stage, ExtendedBaseStage):
        yield "", 1, Training(shape=shape, policy=TrainPolicy(kind="embeddings"), config=stage.training)
    elif isinstance(stage, NeuronStage):
        yield "", len(stage.languages), Training(shape=shape, policy=TrainPolicy(kind="neurons"), config=stage.training,
                                                 neurons=selected_neurons(shape, stage.selection))
    elif isinstance(stage, ContinuedPretrainingStage):
        steps = stage.training.steps * len(stage.languages)
        yield "", 1, Training(shape=shape, policy=stage.policy, config=replace(stage.training, steps=steps))
    elif isinstance(stage, SftStage):
        yield "", 1, Training(shape=shape, policy=stage.policy, config=stage.training)


def model_shape(model: BaseModelConfig) -> tuple[ModelShape, str]:
    """Return the shape of an experiment's model and where it is from; no weights are read and nothing is fetched.

    From config.json of a local checkpoint or of the Hub's cache; else as `model.shape` states it, with the tokenizer's
    configured size, which a model from scratch does not exceed but for single words that are added.

    Raises:
        ConfigError: config.json is of a type that cannot be planned.
    """
    file = _config_file(model)
    if file is not None:
        return ModelShape.from_checkpoint(json.loads(file.read_text(encoding="utf-8"))), str(file)
    return ModelShape.from_config(model.shape, model.tokenizer.vocab_size), "model.shape"


def _config_file(model: BaseModelConfig) -> Path | None:
    if model.checkpoint is None:
        return None
    folder = Path(model.checkpoint).expanduser()
    if folder.is_dir():
        return folder / "config.json" if (folder / "config.json").is_file() else None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model.checkpoint, "config.json", revision=model.revision)
    return Path(found) if isinstance(found, str) else None
