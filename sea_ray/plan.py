"""What each stage of an experiment is made of: its config, its parents, its function, its version.

`VERSIONS` is part of every fingerprint; `tests/test_stage_versions.py` holds a digest of the code behind each stage and asks
for a new number when that code changes what it computes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from sea_ray.artifacts import Artifact, digest_file, fingerprint, plain
from sea_ray.config import BaseModelConfig, ClusterConfig, ExperimentConfig, VocabularyExtension
from sea_ray.corpus.config import QualityConfig
from sea_ray.corpus.sources import input_bytes, input_digests
from sea_ray.evaluation.benchmarks import input_digests as benchmark_digests
from sea_ray.evaluation.benchmarks import task_digests
from sea_ray.execution import Stage
from sea_ray.languages import ADDED, HIGH_RESOURCE
from sea_ray.neurons.config import NeuronControl
from sea_ray.sft.stages import input_digests as sft_digests
from sea_ray.stages.configs import (
    BaseStage,
    ContinuedPretrainingStage,
    ConversationsStage,
    CorpusStage,
    EvaluationStage,
    ExtendedBaseStage,
    NeuronStage,
    OtherModelStage,
    SftStage,
)
from sea_ray.study_config import OtherModel
from sea_ray.training.config import MixRule, PolicyControl, PolicyKind, TrainPolicy

VERSIONS: dict[str, int] = {
    "corpus": 7, "base": 2, "detection": 2, "neurons": 2, "continued_pretraining": 2, "merged": 1,
    "conversations": 7, "sft": 3, "evaluation": 7, "gate": 1,
}


def checkpoint_digests(model: BaseModelConfig | QualityConfig | OtherModel | None, role: str = "checkpoint") -> dict[str, str]:
    """Return what a checkpoint is: the digests of a local folder's files, or the Hub id with its revision."""
    if model is None or model.checkpoint is None:
        return {}
    folder = Path(model.checkpoint).expanduser()
    if not folder.is_dir():
        return {role: f"{model.checkpoint}@{model.revision}"}
    return {f"{role}/{file.name}": digest_file(file) for file in sorted(folder.iterdir()) if file.is_file()}


def language_digests(languages: Sequence[str]) -> dict[str, str]:
    """Return what the added ones of some languages are; all later stages have it from the corpus."""
    return {f"language/{code}": fingerprint(plain(ADDED[code])) for code in languages if code in ADDED}


def corpus(config: ExperimentConfig) -> Stage:
    """Text to tokens. Where the files lie does not matter, their content does."""
    model = config.model
    pieces = model.extension.pieces if model.extension else None
    stage = CorpusStage(corpus=config.corpus, tokenizer=model.tokenizer if model.checkpoint is None else pieces, seed=config.seed,
                        base_checkpoint=model.checkpoint, base_revision=model.revision, benchmarks=config.benchmarks)
    is_large = input_bytes(config.corpus) >= config.cluster.stream_from_bytes
    return Stage(kind="corpus", name="corpus", function="sea_ray.stages.corpus:gather_shard", config=stage, streams=is_large,
                 combine="sea_ray.stages.corpus:tokenise", num_shards=1 if is_large else config.cluster.num_tasks,
                 inputs=input_digests(config.corpus) | checkpoint_digests(model) | benchmark_digests(config.benchmarks)
                 | checkpoint_digests(config.corpus.quality, "quality") | language_digests(config.corpus.languages),
                 version=VERSIONS["corpus"])


def base(config: ExperimentConfig, corpus: Artifact) -> Stage:
    """The base model."""
    model = config.model
    if model.extension is not None:
        return _extended_base(config, model.extension, corpus)
    stage = BaseStage(checkpoint=model.checkpoint, revision=model.revision, model=model.shape, seed=config.seed,
                      training=config.training.schedule, weights=config.pretraining_weights(),
                      max_epochs=config.training.max_epochs, annealing=config.training.annealing)
    return Stage(kind="base", name="base", function="sea_ray.stages.base:build", config=stage, place="group",
                 parents={"corpus": corpus}, inputs=checkpoint_digests(model), version=VERSIONS["base"])


def _extended_base(config: ExperimentConfig, extension: VocabularyExtension, corpus: Artifact) -> Stage:
    """The checkpoint with rows for the corpus' new pieces."""
    model = config.model
    assert model.checkpoint is not None, "BaseModelConfig refuses an extension without"
    stage = ExtendedBaseStage(checkpoint=model.checkpoint, revision=model.revision, training=extension.training,
                              weights=extension.weights())
    return Stage(kind="base", name="base", function="sea_ray.stages.extension:build", config=stage, place="group",
                 parents={"corpus": corpus}, inputs=checkpoint_digests(model), version=VERSIONS["base"])


def _by_model(cluster: ClusterConfig) -> tuple[Literal["group", "task"], int]:
    """Return where a map over what a model says runs, and in how many shards.

    The worker group holds the accelerators, so there its ranks share the shards out, as many to each. On the processor tasks
    are better: they need no group, and Ray tries each again by itself.
    """
    if cluster.training.device != "cuda":
        return "task", cluster.num_tasks
    ranks = cluster.training.num_workers
    return "group", math.ceil(cluster.num_tasks / ranks) * ranks


def detection(config: ExperimentConfig, base: Artifact, corpus: Artifact) -> Stage:
    """Importance of every neuron for every language: one pass serves every method and threshold."""
    place, num_shards = _by_model(config.cluster)
    return Stage(kind="detection", name="detection", function="sea_ray.stages.detection:measure_shard",
                 combine="sea_ray.stages.detection:merge_shards", place=place, num_shards=num_shards,
                 config=config.neurons.detection, parents={"base": base, "corpus": corpus}, version=VERSIONS["detection"])


def neurons(config: ExperimentConfig, base: Artifact, corpus: Artifact, statistics: Artifact) -> Stage:
    """Neurons selected, trained per language and merged: one trial of the threshold sweep."""
    stage = NeuronStage(languages=config.neurons.languages, selection=config.neurons.selection,
                        training=config.neurons.training, context_tokens=config.neurons.context_tokens,
                        merge=config.neurons.merge)
    return Stage(kind="neurons", name="neurons", function="sea_ray.stages.neurons:build", config=stage, place="group",
                 parents={"base": base, "corpus": corpus, "statistics": statistics}, version=VERSIONS["neurons"])


def control_neurons(config: ExperimentConfig, control: NeuronControl, base: Artifact, corpus: Artifact,
                    statistics: Artifact) -> Stage:
    """Control: other neurons than the winner's, on the same tokens."""
    selection = replace(config.neurons.selection, method=control)
    chosen = replace(config, neurons=replace(config.neurons, selection=selection))
    return replace(neurons(chosen, base, corpus, statistics), name=f"control/{control}")


def continued_pretraining(config: ExperimentConfig, control: PolicyControl, base: Artifact, corpus: Artifact) -> Stage:
    """Control: all values or other values than neurons, on the tokens that all packs together saw."""
    kind: PolicyKind = "all" if control == "continued_pretraining" else control
    stage = ContinuedPretrainingStage(languages=config.neurons.languages, training=config.neurons.training,
                                      context_tokens=config.neurons.context_tokens,
                                      learning_rate=config.neurons.control_rates[control],
                                      policy=TrainPolicy(kind=kind, lora_rank=config.neurons.lora_rank,
                                                         lora_alpha=2.0 * config.neurons.lora_rank))
    return Stage(kind="continued_pretraining", name=f"control/{control}", place="group", config=stage,
                 function="sea_ray.stages.neurons:build_continued_pretraining",
                 parents={"base": base, "corpus": corpus}, version=VERSIONS["continued_pretraining"])


def arm(config: ExperimentConfig, name: str, languages: tuple[str, ...], rate: float, seed: int, base: Artifact, corpus: Artifact,
        statistics: Artifact) -> Stage:
    """One training of a study's arm; every arm sees as many tokens of each language, or English and Chinese in their place.

    Args:
        config: the experiment with its study.
        name: of the arm.
        languages: that are taught.
        rate: peak learning rate.
        seed: of the order of the text, and of random neurons.
        base, corpus, statistics: what it starts from.
    """
    assert config.study is not None
    assert config.study.neurons is not None
    arm, own = config.study.neurons.arms[name], config.neurons
    training = replace(own.training, learning_rate=rate, seed=seed)
    if arm.trains == "neurons":
        chosen = replace(config, study=None, neurons=replace(
            own, languages=languages, selection=arm.selection(own.selection, seed), training=training))
        return neurons(chosen, base, corpus, statistics)
    kept = [code for code in HIGH_RESOURCE if code in config.corpus.languages]
    stage = ContinuedPretrainingStage(
        languages=languages, training=training, context_tokens=own.context_tokens, learning_rate=rate,
        replay=dict.fromkeys(kept, arm.replay / len(kept)) if arm.replay else {},
        policy=TrainPolicy(kind=arm.trains, lora_rank=arm.lora_rank or TrainPolicy().lora_rank,
                           lora_alpha=2.0 * (arm.lora_rank or TrainPolicy().lora_rank)))
    return Stage(kind="continued_pretraining", name=name, place="group", config=stage,
                 function="sea_ray.stages.neurons:build_continued_pretraining",
                 parents={"base": base, "corpus": corpus}, version=VERSIONS["continued_pretraining"])


def merged(base: Artifact, packs: Artifact, name: str = "merged") -> Stage:
    """The base with all packs of a trial, as a checkpoint."""
    return Stage(kind="merged", name=name, function="sea_ray.stages.neurons:build_merged", config={},
                 parents={"base": base, "neurons": packs}, version=VERSIONS["merged"])


def conversations(config: ExperimentConfig, corpus: Artifact, *, with_safety: bool = True) -> Stage:
    """Packed conversations of both stages of fine-tuning; every mix of the sweep draws from them."""
    tuning = config.sft
    data = replace(tuning.data, with_safety=with_safety)
    stage = ConversationsStage(
        data=data, languages=config.corpus.languages, world_seed=config.corpus.demo.world_seed, benchmarks=config.benchmarks,
        sequence_tokens={"broad": tuning.broad.sequence_tokens, "high_quality": tuning.high_quality.sequence_tokens})
    return Stage(kind="conversations", name="conversations" if with_safety else "conversations/without_safety",
                 function="sea_ray.stages.sft:build_conversations", config=stage, parents={"corpus": corpus},
                 inputs=sft_digests(tuning.data) | benchmark_digests(config.benchmarks), version=VERSIONS["conversations"])


def sft(config: ExperimentConfig, stage: Literal["broad", "high_quality"], start: Artifact, conversations: Artifact,
        corpus: Artifact) -> Stage:
    """One stage of fine-tuning on one language mix; the broad stage is a trial of the mix sweep."""
    tuning = config.sft
    mix: Mapping[str, float] | MixRule
    if tuning.mix in tuning.mixes:
        mix = {code: tuning.mixes[tuning.mix].get(code, 0.0) for code in config.corpus.languages}
    else:
        mix = tuning.mix_rules[tuning.mix]
    chosen = SftStage(stage=stage, training=getattr(tuning, stage), max_epochs=tuning.max_epochs, policy=tuning.policy,
                      mix=mix, kind_shares=tuning.data.kind_shares, text_share=tuning.text_share)
    return Stage(kind="sft", name=f"sft/{stage}", config=chosen, place="group", function="sea_ray.stages.sft:build",
                 parents={"start": start, "conversations": conversations, "corpus": corpus}, version=VERSIONS["sft"])


def evaluation(config: ExperimentConfig, name: str, model: Artifact, corpus: Artifact, *, chat: bool,
               tasks: tuple[str, ...] | None = None) -> Stage:
    """Figures of one model, per language.

    Args:
        config: items and tasks.
        name: of the model in tables.
        model: checkpoint.
        corpus: holds the test documents.
        chat: ask in the chat format; a base model continues a line of text instead.
        tasks: fewer tasks than the experiment's.
    """
    own = replace(config.evaluation, prompting="chat" if chat else "plain", tasks=tasks or config.evaluation.tasks,
                  languages=_asked(config))
    stage = EvaluationStage(evaluation=own, benchmarks=config.benchmarks, languages=config.corpus.languages, model=name,
                            world_seed=config.corpus.demo.world_seed)
    place, num_shards = _by_model(config.cluster)
    return Stage(kind="evaluation", name=f"evaluation/{name}", function="sea_ray.stages.evaluation:evaluate_shard",
                 combine="sea_ray.stages.evaluation:join_shards", place=place, num_shards=num_shards, config=stage,
                 parents={"model": model, "corpus": corpus}, version=VERSIONS["evaluation"],
                 inputs=benchmark_digests(config.benchmarks) | task_digests(config.benchmarks))


def _asked(config: ExperimentConfig) -> tuple[str, ...]:
    """Return the languages that models are asked in: the evaluation's, and the added ones of the corpus."""
    added = (code for code in config.corpus.languages if code in ADDED)
    return tuple(dict.fromkeys([*config.evaluation.languages, *added]))


def other_model(config: ExperimentConfig, name: str, other: OtherModel, corpus: Artifact, tasks: tuple[str, ...]) -> Stage:
    """Figures of a model that this experiment did not make, on the same questions.

    Args:
        config: items.
        name: of the model.
        other: checkpoint, or the endpoint that is asked.
        corpus: holds the test documents.
        tasks: what it is asked.
    """
    own = replace(config.evaluation, prompting="chat", tasks=tasks, languages=_asked(config))
    stage = OtherModelStage(evaluation=own, benchmarks=config.benchmarks, languages=config.corpus.languages, model=name,
                            world_seed=config.corpus.demo.world_seed, checkpoint=other.checkpoint, revision=other.revision,
                            endpoint=other.endpoint)
    place, num_shards = _by_model(config.cluster)
    return Stage(kind="evaluation", name=f"evaluation/{name}", function="sea_ray.stages.other_models:evaluate_shard",
                 combine="sea_ray.stages.evaluation:join_shards", place="task" if other.endpoint else place,
                 num_shards=num_shards, config=stage, parents={"corpus": corpus}, version=VERSIONS["evaluation"],
                 inputs=benchmark_digests(config.benchmarks) | task_digests(config.benchmarks) | checkpoint_digests(other))


def gate(config: ExperimentConfig, winner: Artifact, evaluation: Artifact) -> Stage:
    """Whether the winner may be served."""
    return Stage(kind="gate", name="gate", function="sea_ray.stages.gate:build", config=config.safety,
                 parents={"model": winner, "evaluation": evaluation}, version=VERSIONS["gate"])
