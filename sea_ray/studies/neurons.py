"""The study of neurons against continued pre-training, in order: rates are chosen, then every arm runs with several seeds.

Rates are chosen on other languages' runs, another seed and the validation text; what is compared is measured on the test text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sea_ray import plan
from sea_ray.artifacts import Artifact
from sea_ray.config import ExperimentConfig
from sea_ray.errors import SeaRayError
from sea_ray.execution import Platform, Stage
from sea_ray.languages import HIGH_RESOURCE
from sea_ray.studies.parallel import side_by_side
from sea_ray.study_config import NeuronStudy


@dataclass(frozen=True, kw_only=True)
class RateTrial:
    """An arm with one of its rates, on the validation text."""

    arm: str
    rate: float
    gain: float | None
    """Mean relative fall of bits per byte over the languages that were taught; None: the training failed."""
    cost: float | None
    """Largest relative rise of English and Chinese."""
    error: str | None = None
    """Why it failed."""
    chosen: bool = False
    """Whether the arm goes on with it."""


@dataclass(frozen=True, kw_only=True)
class ArmRun:
    """A training that is compared, and what its model scores on the test text."""

    arm: str
    seed: int
    languages: tuple[str, ...]
    training: Artifact
    evaluation: Artifact


@dataclass(frozen=True, kw_only=True)
class NeuronResults:
    """The results of a finished study."""

    corpus: Artifact
    base: Artifact
    statistics: Artifact
    before: Artifact
    """Evaluation of the untouched base."""
    rates: tuple[RateTrial, ...]
    rate_trainings: tuple[Artifact, ...]
    runs: tuple[ArmRun, ...]
    """All languages together, each arm with each seed."""
    alone: tuple[ArmRun, ...]
    """One language each."""

    def artifacts(self) -> list[Artifact]:
        """Return every artifact that the results rest on."""
        runs = [artifact for run in (*self.runs, *self.alone) for artifact in (run.training, run.evaluation)]
        return [self.corpus, self.base, self.statistics, self.before, *self.rate_trainings, *runs]


def run_neuron_study(config: ExperimentConfig, platform: Platform) -> NeuronResults:
    """Carry out a study; finished stages are reused.

    Args:
        config: the experiment, with its study.
        platform: where stages are computed.

    Raises:
        SeaRayError: whatever a stage refuses; no rate of an arm could be trained with.
    """
    assert config.study is not None
    study = config.study.neurons
    assert study is not None
    corpus = platform.run(plan.corpus(config))
    base = platform.run(plan.base(config, corpus))
    statistics = platform.run(plan.detection(config, base, corpus))
    before = platform.run(plan.evaluation(config, "base", base, corpus, chat=False, tasks=("text",)))

    def stage(arm: str, languages: tuple[str, ...], rate: float, seed: int, name: str) -> Stage:
        made = plan.arm(config, arm, languages, rate, seed, base, corpus, statistics)
        return replace(made, name=name)

    trials = side_by_side(platform, "rates", {
        (arm, rate): stage(arm, study.rate_languages, rate, study.rate_seed, f"rates/{arm}/{rate:g}")
        for arm in study.arms for rate in study.rates_of(arm)})
    rates = choose_rates(study, [_rate_trial(arm, rate, *found, study.rate_languages) for (arm, rate), found in trials.items()])
    best = {trial.arm: trial.rate for trial in rates if trial.chosen}

    wanted = {(arm, seed, study.languages): stage(arm, study.languages, best[arm], seed, f"arms/{arm}/seed={seed}")
              for arm in study.arms for seed in study.seeds}
    wanted |= {(arm, study.alone_seed, (code,)): stage(arm, (code,), best[arm], study.alone_seed, f"alone/{arm}/{code}")
               for arm, own in study.arms.items() if own.alone for code in study.languages}
    trainings = side_by_side(platform, "arms", wanted)
    runs = []
    for (arm, seed, languages), (training, error) in trainings.items():
        if training is None:
            raise SeaRayError(f"arm {arm} with seed {seed} on {', '.join(languages)} failed: {error}")
        name = wanted[arm, seed, languages].name
        model = platform.run(plan.merged(base, training, name=f"{name}/merged")) if training.kind == "neurons" else training
        evaluation = platform.run(plan.evaluation(config, name, model, corpus, chat=False, tasks=("text",)))
        runs.append(ArmRun(arm=arm, seed=seed, languages=languages, training=training, evaluation=evaluation))
    return NeuronResults(corpus=corpus, base=base, statistics=statistics, before=before, rates=tuple(rates),
                 rate_trainings=tuple(found for found, _ in trials.values() if found),
                 runs=tuple(run for run in runs if run.languages == study.languages),
                 alone=tuple(run for run in runs if run.languages != study.languages))


def _rate_trial(arm: str, rate: float, training: Artifact | None, error: str | None, languages: Sequence[str]) -> RateTrial:
    if training is None:
        return RateTrial(arm=arm, rate=rate, gain=None, cost=None, error=error)
    ratio = {code: training.facts[f"ratio_{code}"] for code in (*languages, *HIGH_RESOURCE) if f"ratio_{code}" in training.facts}
    return RateTrial(arm=arm, rate=rate, gain=1 - sum(ratio[code] for code in languages) / len(languages),
                     cost=max(ratio[code] for code in HIGH_RESOURCE if code in ratio) - 1)


def choose_rates(study: NeuronStudy, trials: Sequence[RateTrial]) -> list[RateTrial]:
    """Mark each arm's rate: of those within the cost the one with the largest gain, else the cheapest.

    Args:
        study: says the cost.
        trials: of every arm.

    Raises:
        SeaRayError: all trainings of an arm failed.
    """
    chosen = set()
    for arm in study.arms:
        finished = [trial for trial in trials if trial.arm == arm and trial.gain is not None and trial.cost is not None]
        if not finished:
            reasons = "; ".join(f"{trial.rate:g}: {trial.error}" for trial in trials if trial.arm == arm)
            raise SeaRayError(f"arm {arm} could be trained with none of its rates ({reasons}): set study.arms.{arm}.rates")
        cheap = [trial for trial in finished if trial.cost is not None and trial.cost <= study.max_cost]
        best = max(cheap, key=lambda trial: trial.gain or 0.0) if cheap else min(finished, key=lambda trial: trial.cost or 0.0)
        chosen.add((arm, best.rate))
    return [replace(trial, chosen=(trial.arm, trial.rate) in chosen) for trial in trials]
