"""The whole method, in order: open this first.

Each line that says `plan.` is a stage: a typed config and the artifacts that it is made from go in, an artifact comes out.
Where it is computed is the platform's business, what it is made of is in `sea_ray.plan`, how it is computed in
`sea_ray.stages`, and the algorithms are in the rooms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sea_ray import plan
from sea_ray.artifacts import Artifact, fingerprint, plain
from sea_ray.config import ExperimentConfig
from sea_ray.decoding import decode
from sea_ray.errors import BudgetError
from sea_ray.execution import Platform, Stage
from sea_ray.objective import Choice, SweepConfig, choose, get_path, set_path
from sea_ray.search import SweepSearch
from sea_ray.search_space import Point, label


@dataclass(frozen=True, kw_only=True)
class Detected:
    """What is there once every neuron has its importance."""

    corpus: Artifact
    base: Artifact
    statistics: Artifact


@dataclass(frozen=True, kw_only=True)
class Taught(Detected):
    """What is there once the neurons of each language are trained."""

    thresholds: Choice
    """The sweep over LSN thresholds; its winner holds the packs."""
    merged: Artifact


@dataclass(frozen=True, kw_only=True)
class Swept(Taught):
    """What is there once both sweeps have a winner."""

    conversations: tuple[Artifact, ...]
    """Packed conversations; of a finished experiment with and without safety data."""
    mixes: Choice
    """The sweep over SFT language mixes, read after stage 1; its winner goes on into stage 2."""


@dataclass(frozen=True, kw_only=True)
class Experiment(Swept):
    """The results of a finished experiment."""

    controls: Mapping[str, Artifact]
    """Arms beside the winner as checkpoints, trained on the same tokens."""
    control_packs: tuple[Artifact, ...]
    """What the controls of other neurons are merged from."""
    winner: Artifact
    """The winning mix after both stages: the deployed checkpoint."""
    without_safety: Artifact
    """The same with stage 2 without refusals and safety data."""
    evaluations: Mapping[str, Artifact]
    """Model name -> its evaluation; of the controls, bits per byte only."""
    gate: Artifact

    def artifacts(self) -> list[Artifact]:
        """Return every artifact that the results rest on."""
        trials = [trial.artifact for choice in (self.thresholds, self.mixes) for trial in choice.trials if trial.artifact]
        return [self.corpus, self.base, self.statistics, *trials, *self.control_packs, *self.controls.values(), self.merged,
                *self.conversations, self.winner, self.without_safety, *self.evaluations.values(), self.gate]


def run_experiment(config: ExperimentConfig, platform: Platform) -> Experiment:
    """Carry out an experiment; finished stages are reused.

    Args:
        config: the experiment.
        platform: where stages are computed.

    Raises:
        SeaRayError: whatever a stage refuses, with who must act.
    """
    detected = detect(config, platform)
    taught = teach(config, detected, platform)
    corpus, base, merged = detected.corpus, detected.base, taught.merged
    best = with_point(config, taught.thresholds.winner.point)
    controls: dict[str, Artifact] = {}
    control_packs: list[Artifact] = []
    for control in config.neurons.neuron_controls:
        control_packs.append(platform.run(plan.control_neurons(best, control, base, corpus, detected.statistics)))
        controls[control] = platform.run(plan.merged(base, control_packs[-1], name=f"control/{control}_merged"))
    for arm in config.neurons.policy_controls:
        controls[arm] = platform.run(plan.continued_pretraining(best, arm, base, corpus))

    swept = mix(config, taught, platform)
    (conversations,), mixes = swept.conversations, swept.mixes
    best, broad = with_point(best, mixes.winner.point), _artifact(mixes)
    winner = platform.run(plan.sft(best, "high_quality", broad, conversations, corpus))
    unsafe_data = platform.run(plan.conversations(config, corpus, with_safety=False))
    without_safety = platform.run(replace(plan.sft(best, "high_quality", broad, unsafe_data, corpus),
                                          name="control/without_safety"))

    evaluations = {name: platform.run(plan.evaluation(best, name, model, corpus, chat=chat)) for name, model, chat in (
        ("base", base, False), ("neuron-trained", merged, False), ("SFT without safety", without_safety, True))}
    evaluations |= {name: platform.run(plan.evaluation(best, name, model, corpus, chat=False, tasks=("text",)))
                    for name, model in controls.items()}
    evaluations["winner"] = _evaluate_served(best, winner, corpus, platform)
    gate = platform.run(plan.gate(best, winner, evaluations["winner"]))
    return Experiment(**vars(swept) | {"conversations": (conversations, unsafe_data)}, controls=controls, winner=winner,
                      control_packs=tuple(control_packs), without_safety=without_safety, evaluations=evaluations, gate=gate)


def run_part(config: ExperimentConfig, platform: Platform) -> Detected | Taught | Swept:
    """Carry out an experiment up to `config.until`, without what stands beside it: controls, evaluations.

    Args:
        config: the experiment.
        platform: where stages are computed.

    Raises:
        SeaRayError: whatever a stage refuses.
    """
    detected = detect(config, platform)
    if config.until == "detection":
        return detected
    taught = teach(config, detected, platform)
    return taught if config.until == "neurons" else mix(config, taught, platform)


def detect(config: ExperimentConfig, platform: Platform) -> Detected:
    """Make corpus and base, and measure every neuron's importance for every language."""
    corpus = platform.run(plan.corpus(config))
    base = platform.run(plan.base(config, corpus))
    return Detected(corpus=corpus, base=base, statistics=platform.run(plan.detection(config, base, corpus)))


def teach(config: ExperimentConfig, found: Detected, platform: Platform) -> Taught:
    """Train the neurons of each language, for each trial of the sweep over thresholds, and merge the winner's."""
    thresholds = sweep(config, config.sweep.neurons, platform, "neurons", "neurons.training.seed",
                       lambda point: plan.neurons(point, found.base, found.corpus, found.statistics))
    merged = platform.run(plan.merged(found.base, _artifact(thresholds)))
    return Taught(**vars(found), thresholds=thresholds, merged=merged)


def mix(config: ExperimentConfig, taught: Taught, platform: Platform) -> Swept:
    """Fine-tune what was merged in stage 1, for each trial of the sweep over language mixes."""
    best = with_point(config, taught.thresholds.winner.point)
    conversations = platform.run(plan.conversations(config, taught.corpus))
    mixes = sweep(best, config.sweep.mixes, platform, "sft", "sft.broad.seed",
                  lambda point: plan.sft(point, "broad", taught.merged, conversations, taught.corpus))
    return Swept(**vars(taught), conversations=(conversations,), mixes=mixes)


def sweep(config: ExperimentConfig, search: SweepConfig, platform: Platform, name: str, seed: str,
          stage_of: Callable[[ExperimentConfig], Stage]) -> Choice:
    """Run one stage per trial of a search and choose the winner.

    Args:
        config: the experiment whose values the points override.
        search: space, objectives, limits.
        platform: where trials run.
        name: of the sweep.
        seed: dotted path of the seed that repetitions raise.
        stage_of: makes the trial's stage from a point's config.

    Raises:
        BudgetError: the budget ended before the sweep; with its best so far.
    """
    def trial(point: Point, repetition: int) -> Stage:
        changes = dict(point)
        if repetition:
            changes[seed] = get_path(plain(config), seed) + repetition
        repeated = f"/seed+{repetition}" if repetition else ""
        return replace(stage_of(with_point(config, changes)), name=f"{name}/{label(point)}{repeated}")

    trials = platform.sweep(name, SweepSearch(search, trial, _history(config, search, name)))
    if stopped := [one for one in trials if one.outcome == "stopped"]:
        finished = [one for one in trials if one.artifact is not None]
        choice = choose(search, trials) if finished else None
        best = f"the best so far is {label(choice.winner.point)}: {choice.reason}" if choice else "none is the best so far"
        raise BudgetError(f"{stopped[0].error}: sweep {name} has finished {len(finished)} of {search.num_trials} trials, {best}. "
                          "Run again with a higher limit: what is finished is reused, what was under way goes on")
    return choose(search, trials)


def _history(config: ExperimentConfig, search: SweepConfig, name: str) -> str:
    """Return where a sweep's proposed points are kept: known by the experiment but for what the sweep sets, so that a changed
    range finds the points of the one before."""
    values = plain(config, identity=True)
    for path in search.space:
        set_path(values, path, None)
    own = {part: value for part, value in values.items() if part not in (
        "name", "experiment", "cluster", "budget", "ending", "store", "tracking", "sweep", "evaluation", "safety", "serving")}
    return f"sweeps/{name}-{fingerprint([sorted(search.space), search.search, search.search_seed, own])}"


def with_point(config: ExperimentConfig, point: Mapping[str, Any]) -> ExperimentConfig:
    """Return the experiment with the values of a sweep's point.

    Raises:
        ConfigError: the point names what is not there, or a value of a wrong type or out of range.
    """
    values = plain(config)
    for path, value in point.items():
        set_path(values, path, plain(value))
    return decode(ExperimentConfig, values)


def _artifact(choice: Choice) -> Artifact:
    assert choice.winner.artifact is not None
    return choice.winner.artifact


def _evaluate_served(config: ExperimentConfig, winner: Artifact, corpus: Artifact, platform: Platform) -> Artifact:
    """Evaluate the winner through the door that users will use; nothing is served if that is done already."""
    stage = plan.evaluation(config, "winner", winner, corpus, chat=True)
    if platform.store.find(stage.key) is not None:
        return platform.run(stage)
    with platform.serving(winner, config.serving) as endpoint:
        return platform.run(replace(stage, endpoint=plain(endpoint), place="task"))  # the endpoint computes
