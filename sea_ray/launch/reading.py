"""A run read back from what it left: its results when it has finished, how far it is when it has not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sea_ray.artifacts import Store
from sea_ray.config import ExperimentConfig
from sea_ray.decoding import decode
from sea_ray.errors import ConfigError, nearest
from sea_ray.execution import Trial
from sea_ray.launch.foresight import Foreseen, Foresight
from sea_ray.launch.offers import stored
from sea_ray.launch.run import ASKED, load_run, read_run_file
from sea_ray.launch.serve_command import split_overrides
from sea_ray.model_card import RunPacks
from sea_ray.objective import Choice
from sea_ray.pipeline import Experiment, Taught, run_part
from sea_ray.studies.carry_out import carry_out
from sea_ray.studies.neurons import NeuronResults
from sea_ray.studies.tuning import TuningResults
from sea_ray.unfinished_report import Progress
from sea_ray.upkeep import RUN


def named_run(arguments: Sequence[str], *settings: str) -> tuple[Store, str, dict[str, Any]]:
    """Return the store, the name and the settings that `run=NAME store.url=URL SETTING=VALUE` say.

    Args:
        arguments: of the command line.
        settings: that the command knows besides.

    Raises:
        ConfigError: no run is named, or a setting is unknown.
    """
    name, url, ignore_gate, found = split_overrides(arguments)
    if ignore_gate:
        found["safety.ignore_gate"] = True
    for key in found:
        if key not in settings:
            raise ConfigError(key, f"unknown{nearest(key, ('run', 'store.url', *settings))}")
    return Store(url), name, found


def has_finished(store: Store, name: str) -> bool:
    """Return whether a run has its record."""
    file = store.root / name / RUN
    store.fetch(file)
    return file.exists()


def load_asked(store: Store, name: str) -> dict[str, Any]:
    """Return what a run was asked, whether it has finished or not: name, overrides, config.

    Raises:
        ConfigError: no such run was ever begun; lists those that were.
        DataError: what it wrote is half there.
    """
    file = store.root / name / ASKED
    store.fetch(file)
    if not file.exists():
        known = sorted(path.parent.name for path in store.root.glob(f"*/{ASKED}"))
        raise ConfigError("run", f"no run {name!r} was begun in {store.url!r}; "
                                 + (f"there: {', '.join(known)}" if known else "run an experiment first"))
    return read_run_file(file)


def read_experiment(store: Store, record: Mapping[str, Any]) -> Experiment:
    """Return the results that a finished run's record names: what `describe` wrote.

    Args:
        store: holds them.
        record: of the run.

    Raises:
        SeaRayError: one of them is no longer in the store.
    """
    roles = record["experiment"]
    rows = [(row["name"], stored(store, row)) for row in record["stages"] if row["kind"] in ("conversations", "neurons")]
    single = {name: stored(store, roles[name])
              for name in ("corpus", "base", "statistics", "merged", "without_safety", "gate", "winner")}
    return Experiment(
        **single, thresholds=_choice(store, roles["thresholds"]), mixes=_choice(store, roles["mixes"]),
        controls={name: stored(store, place) for name, place in roles["controls"].items()},
        evaluations={name: stored(store, place) for name, place in roles["evaluations"].items()},
        conversations=tuple(artifact for _, artifact in rows if artifact.kind == "conversations"),
        control_packs=tuple(artifact for name, artifact in rows if name.startswith("control/")))


def read_study(store: Store, record: Mapping[str, Any]) -> NeuronResults | TuningResults:
    """Return the results of a finished study.

    Args:
        store: holds them.
        record: of the study.

    Raises:
        ConfigError: its stages are not those of today's code and settings, so what they made is not found.
    """
    foresight = Foresight(store)
    study = carry_out(decode(ExperimentConfig, record["config"]), foresight)
    missing = [stage.name for stage, state in foresight.stages if state != "finished"]
    if missing:
        raise ConfigError("run", f"{len(missing)} of its {len(foresight.stages)} stages are not in the store, "
                                 f"such as {missing[0]}")
    assert isinstance(study, NeuronResults | TuningResults)
    return study


def _choice(store: Store, said: Mapping[str, Any]) -> Choice:
    trials = [Trial(**trial | {"artifact": stored(store, trial["artifact"]) if trial["artifact"] else None})
              for trial in said["trials"]]
    winner = next(trial for trial in trials if trial.point == said["winner"] and trial.artifact)
    return Choice(winner=winner, trials=trials, reason=said["reason"], keeps_limits=said["keeps_limits"],
                  front=tuple(said["front"]))


def read_progress(store: Store, asked: Mapping[str, Any]) -> Progress:
    """Return how far a run is, stage for stage.

    Args:
        store: is looked into, never written.
        asked: what it was asked.
    """
    foresight = Foresight(store)
    carry_out(replace(decode(ExperimentConfig, asked["config"]), until="end"), foresight)
    return Progress(
        stages=[(stage, store.find(stage.key) if state == "finished" else None) for stage, state in foresight.stages],
        sweeps={name: [replace(trial, artifact=None) if isinstance(trial.artifact, Foreseen) else trial for trial in trials]
                for name, trials in foresight.trials.items()})


def packs_of(store: Store, name: str) -> RunPacks:
    """Return the packs of a run, as soon as they are trained.

    Raises:
        ConfigError: no such run, or its sweep over neurons has not finished.
        SeaRayError: they are no longer in the store.
    """
    if has_finished(store, name):
        record = load_run(store, name)
        roles = record["experiment"]
        packs = _choice(store, roles["thresholds"]).winner.artifact
        assert packs is not None
        return RunPacks(asked=record, packs=packs, base=stored(store, roles["base"]), corpus=stored(store, roles["corpus"]))
    asked = load_asked(store, name)
    config = replace(decode(ExperimentConfig, asked["config"]), until="neurons")
    taught = run_part(config, Foresight(store))
    assert isinstance(taught, Taught)
    packs = taught.thresholds.winner.artifact
    if packs is None or isinstance(packs, Foreseen):
        raise ConfigError("run", f"the packs of {name!r} are not trained yet: sea-ray train with the settings of that run goes "
                                 "on with it")
    return RunPacks(asked=asked, packs=packs, base=taught.base, corpus=taught.corpus)
