"""A study of ways to fine-tune, in order: the method up to fine-tuning once, then every arm with several seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sea_ray import plan
from sea_ray.artifacts import Artifact
from sea_ray.config import ExperimentConfig
from sea_ray.errors import SeaRayError
from sea_ray.execution import Platform
from sea_ray.pipeline import with_point
from sea_ray.studies.parallel import side_by_side


@dataclass(frozen=True, kw_only=True)
class TuningRun:
    """A fine-tuning that is compared, and what its model does."""

    arm: str
    seed: int
    training: Artifact
    evaluation: Artifact


@dataclass(frozen=True, kw_only=True)
class TuningResults:
    """The results of a finished study."""

    corpus: Artifact
    start: Artifact
    """What every arm starts from."""
    before: Artifact
    """Its evaluation, asked as what it is: without chat if it has not learnt to."""
    runs: tuple[TuningRun, ...]
    others: Mapping[str, Artifact]
    """Name -> evaluation of a model that stands beside the arms."""


def run_tuning_study(config: ExperimentConfig, platform: Platform) -> TuningResults:
    """Carry out a study; finished stages are reused.

    Args:
        config: the experiment, with its study. Neurons are those of its own settings, without a sweep.
        platform: where stages are computed.

    Raises:
        SeaRayError: whatever a stage refuses.
    """
    assert config.study is not None
    study = config.study.tuning
    assert study is not None
    method = replace(config, study=None)
    corpus = platform.run(plan.corpus(method))
    others = {}  # before all that takes long: a name or key that is wrong is told at once
    for name, other in study.others.items():
        tasks = study.chat_tasks if other.endpoint else study.tasks
        others[name] = platform.run(plan.other_model(method, name, other, corpus, tasks))
    base = platform.run(plan.base(method, corpus))
    statistics = platform.run(plan.detection(method, base, corpus))
    start = platform.run(plan.merged(base, platform.run(plan.neurons(method, base, corpus, statistics))))
    *shared, last = study.stages
    for stage in shared:
        start = platform.run(plan.sft(method, stage, start, platform.run(plan.conversations(method, corpus)), corpus))
    before = platform.run(plan.evaluation(method, "start", start, corpus, chat=bool(shared), tasks=study.tasks))

    stages = {}
    for name, arm in study.arms.items():
        own = with_point(method, arm.settings)
        conversations = platform.run(plan.conversations(own, corpus, with_safety=own.sft.data.with_safety))
        for seed in study.seeds:
            seeded = with_point(own, {f"sft.{last}.seed": seed})
            stages[name, seed] = replace(plan.sft(seeded, last, start, conversations, corpus), name=f"arms/{name}/seed={seed}")
    runs = []
    for (name, seed), (training, error) in side_by_side(platform, "arms", stages).items():
        if training is None:
            raise SeaRayError(f"arm {name} with seed {seed} failed: {error}")
        evaluation = platform.run(plan.evaluation(method, stages[name, seed].name, training, corpus, chat=True,
                                                  tasks=study.tasks))
        runs.append(TuningRun(arm=name, seed=seed, training=training, evaluation=evaluation))
    return TuningResults(corpus=corpus, start=start, before=before, runs=tuple(runs), others=others)
