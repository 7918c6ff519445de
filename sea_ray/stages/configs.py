"""What decides each stage's result: plain values, importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sea_ray.artifacts import NOT_IDENTITY
from sea_ray.asking import EndpointConfig
from sea_ray.corpus.config import CorpusConfig, NewPieces, TokenizerConfig
from sea_ray.evaluation.benchmarks import BenchmarkConfig
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.neurons.config import MergeRule, SelectionConfig
from sea_ray.sft.config import SftConfig
from sea_ray.training.config import MixRule, ModelConfig, TrainConfig, TrainPolicy

NEURON_FIGURES = ("gain_sea", "worst_sea_ratio", "english_ratio", "chinese_ratio", "merged_parameter_share")
"""What a trial of the neurons reports and a sweep may judge by; Chinese where it is among the languages."""
SFT_FIGURES = ("validation_nats_mean", "validation_nats_worst", "validation_nats_sea", "validation_nats_high_resource",
               "validation_bits_mean")
"""The same of fine-tuning."""


@dataclass(frozen=True, kw_only=True)
class CorpusStage:
    """What decides a tokenised corpus."""

    corpus: CorpusConfig
    tokenizer: TokenizerConfig | NewPieces | None
    """How to train a tokenizer, or which pieces that of `base_checkpoint` gets; None takes that as it is."""
    base_checkpoint: str | None = field(default=None, metadata=NOT_IDENTITY)
    """Hub id or folder whose tokenizer is taken; its content is among the stage's inputs."""
    base_revision: str | None = field(default=None, metadata=NOT_IDENTITY)
    """Its commit."""
    seed: int = 0
    benchmarks: BenchmarkConfig
    """Documents that repeat their items are left out."""


@dataclass(frozen=True, kw_only=True)
class BaseStage:
    """What decides a base model."""

    checkpoint: str | None = field(metadata=NOT_IDENTITY)
    """Hub id or folder; None trains from scratch. Its content is among the stage's inputs."""
    revision: str | None = field(metadata=NOT_IDENTITY)
    model: ModelConfig
    training: TrainConfig
    weights: Mapping[str, float]
    """Language -> share of the training tokens."""
    max_epochs: float | None
    annealing: TrainConfig | None
    """Second part on the high-resource languages alone."""
    seed: int


@dataclass(frozen=True, kw_only=True)
class ExtendedBaseStage:
    """What decides a checkpoint whose vocabulary was extended, besides the corpus, which brings its new tokenizer."""

    checkpoint: str = field(metadata=NOT_IDENTITY)
    """Hub id or folder. Its content is among the stage's inputs."""
    revision: str | None = field(metadata=NOT_IDENTITY)
    training: TrainConfig
    """Of the new rows of the embeddings."""
    weights: Mapping[str, float]
    """Language -> share of the training tokens."""


@dataclass(frozen=True, kw_only=True)
class NeuronStage:
    """What decides a set of trained packs: one trial of the threshold sweep, or a control."""

    languages: tuple[str, ...]
    selection: SelectionConfig
    training: TrainConfig
    context_tokens: int
    merge: MergeRule


@dataclass(frozen=True, kw_only=True)
class ContinuedPretrainingStage:
    """Continued pre-training on the same tokens as all packs together: a control, or an arm of a study."""

    languages: tuple[str, ...]
    training: TrainConfig
    """Of one language; the steps are multiplied by the number of languages."""
    context_tokens: int
    learning_rate: float
    policy: TrainPolicy
    """What trains."""
    replay: Mapping[str, float] = field(default_factory=dict)
    """Further language -> share of the tokens, in place of the languages'."""


@dataclass(frozen=True, kw_only=True)
class ConversationsStage:
    """What decides the packed conversations that fine-tuning draws from."""

    data: SftConfig
    sequence_tokens: Mapping[str, int]
    """Stage -> tokens of a packed sequence."""
    languages: tuple[str, ...]
    world_seed: int
    benchmarks: BenchmarkConfig
    """Conversations that repeat their items are left out."""


@dataclass(frozen=True, kw_only=True)
class SftStage:
    """What decides a fine-tuned model, besides its start and its conversations."""

    stage: Literal["broad", "high_quality"]
    training: TrainConfig
    mix: Mapping[str, float] | MixRule
    """Language -> share of the training tokens, or the rule that makes it."""
    kind_shares: Mapping[str, float]
    """Kind of conversation -> share of each language's conversations, as SftConfig says."""
    text_share: float
    """Share of them that is plain text of the corpus, in the same shares of languages."""
    max_epochs: float | None
    policy: TrainPolicy
    """What trains."""


@dataclass(frozen=True, kw_only=True)
class EvaluationStage:
    """What decides the figures of one model."""

    model: str
    """Name in tables."""
    evaluation: EvaluationConfig
    benchmarks: BenchmarkConfig
    languages: tuple[str, ...]
    world_seed: int


@dataclass(frozen=True, kw_only=True)
class OtherModelStage(EvaluationStage):
    """What decides the figures of a model that this experiment did not make."""

    checkpoint: str | None = field(metadata=NOT_IDENTITY)
    """Hub id or folder. Its content is among the stage's inputs."""
    revision: str | None = field(metadata=NOT_IDENTITY)
    endpoint: EndpointConfig | None
    """Who is asked instead."""
