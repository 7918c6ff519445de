"""How long the stages of an experiment take: trainings by their steps, what reads and writes text by its tokens, and the rest by
what a run was seen to spend on it.

What a stage spends beside its model's arithmetic was measured once (`overheads` in conf/accelerators.yaml) and is stretched by
how much slower the probe's step (timing.py) is here and now. Letters: n values of linear layers, T tokens of a sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sea_ray.artifacts import Artifact
from sea_ray.config import ClusterConfig, ExperimentConfig
from sea_ray.errors import ConfigError
from sea_ray.evaluation.benchmark_sources import BENCHMARKS
from sea_ray.evaluation.benchmarks import OWN, BenchmarkConfig
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.execution import Stage
from sea_ray.launch.accelerators import AcceleratorTable, Overheads
from sea_ray.launch.foresight import trainings_of
from sea_ray.stages.configs import (
    CorpusStage,
    EvaluationStage,
    NeuronStage,
    SftStage,
)
from sea_ray.training.config import ExecutionConfig
from sea_ray.training.estimate import Training, step_work
from sea_ray.training.shape import ModelShape

DEMO_TOKENS, DEMO_BYTES = 37, 292
"""Of a document of the embedded world, on average over the languages."""
TOKENS_PER_BYTE = 0.25
"""Of other text, with a tokenizer that knows the languages."""
PROMPT_TOKENS, EXAM_TOKENS = 30, 45
"""Of a question, and of an exam question."""
BENCHMARK_TOKENS = 200
"""The same of a public benchmark."""
ANSWERED_TOKENS = 6000
"""Of each language's validation conversations, by which a fine-tuning is judged: so many in the demo."""
SEABENCH_LANGUAGES = 3
VALUE_BYTES = 4
DETECTION_COST = {"other": 1.1, "attention": 1.94}
"""Reading for detection, as a multiple of a forward pass without the output layer (docs/benchmarks.md): with scores of query and
key rows, and without."""
GENERATIONS = {"arithmetic": 1, "translation": 1, "refusal": 1, "safety": 2}
"""Task -> answers that are written for each of `evaluation.items`."""

Key = tuple[str, int, int, int, str]


def training_key(training: Training) -> Key:
    """Return what trainings have in common whose steps differ by their neurons at most."""
    config = training.config
    return training.policy.kind, config.batch_sequences, config.sequence_tokens, config.micro_batch, config.dtype


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast the workers compute."""

    flops_per_s: float | None
    """Of one worker in a training, where its steps were not timed; None: not known."""
    reading_flops_per_s: float
    """Of one process of detection, evaluation and the like."""
    slowness: float = 1.0
    """By how much what was measured once takes longer here."""
    probe_s: float | None = None
    """A step of the probe, where it was timed here."""
    share: float = 1.0
    """Of the time that was timed, in which the workers had their processors; others used them for the rest."""
    step_cost: float = 1.0
    """A step of a run, as a multiple of a timed one."""
    steps: Mapping[Key, tuple[float, float]] = field(default_factory=dict)
    """Kind of training -> FLOPs and seconds of a step that were timed here."""
    words: str
    """Where that is from."""

    def step_s(self, training: Training, execution: ExecutionConfig) -> float | None:
        """Return the seconds of a step, None if nothing is known."""
        flops = step_work(training, checkpointing=execution.for_policy(training.policy.kind).activation_checkpointing).total
        if (timed := self.steps.get(training_key(training))) is not None:
            return self.step_cost * timed[1] * flops / timed[0]
        return self.step_cost * flops / (execution.num_workers * self.flops_per_s) if self.flops_per_s else None


def assumed_pace(cluster: ClusterConfig, device: str, table: AcceleratorTable, dtype: str) -> Pace:
    """Return the pace by the table of accelerators.

    Raises:
        ConfigError: it has no such accelerator, or no rate for the precision.
    """
    threads = max(1, cluster.training.threads_per_worker)
    processor = table.get("cpu").tflops["float32"] * 1e12 * table.utilisation * threads
    name = cluster.accelerator or ("cpu" if device == "cpu" else None)
    if name is None:
        return Pace(flops_per_s=None, reading_flops_per_s=processor, words="the accelerator is not named: cluster.accelerator")
    accelerator = table.get(name)
    if dtype not in accelerator.tflops:
        raise ConfigError(f"accelerators.{name}.tflops", f"there is no rate for {dtype}")
    rate = accelerator.tflops[dtype] * 1e12 * table.utilisation * (threads if accelerator.per_thread else 1)
    return Pace(flops_per_s=rate, reading_flops_per_s=processor,
                words=f"{table.utilisation:.0%} of the peak rate of {name} (accelerators.yaml, {table.dated})")


@dataclass(frozen=True, kw_only=True)
class TextSize:
    """Tokens of a corpus."""

    train: int
    validation: int
    documents: int
    """Of all splits."""


def text_size(config: ExperimentConfig, corpus: Artifact | None, num_bytes: int) -> TextSize:
    """Return the size of an experiment's corpus: of the finished one, else as far as its configuration tells.

    Args:
        config: the experiment.
        corpus: the finished one.
        num_bytes: of its input, where it is known.
    """
    if corpus is not None and (sizes := corpus.facts.get("sizes")):
        splits = {split: sum(each[split]["tokens"] for each in sizes.values()) for split in ("train", "validation")}
        documents = sum(split["documents"] for each in sizes.values() for split in each.values())
        return TextSize(**splits, documents=documents)
    demo, languages = config.corpus.demo, len(config.corpus.languages)
    if config.corpus.source == "demo":
        documents = demo.train_documents + demo.validation_documents + demo.test_documents
        return TextSize(train=demo.train_documents * DEMO_TOKENS * languages,
                        validation=demo.validation_documents * DEMO_TOKENS * languages, documents=documents * languages)
    tokens = num_bytes * TOKENS_PER_BYTE
    train = tokens * (1 - config.corpus.validation_frac - config.corpus.test_frac)
    if config.corpus.max_tokens_per_language:
        train = min(train, config.corpus.max_tokens_per_language * languages)
    return TextSize(train=int(train), validation=int(tokens * config.corpus.validation_frac), documents=0)


def forward_flops(shape: ModelShape, sequence_tokens: int, *, head: bool = True) -> float:
    """Return the operations that a model reads a token with: 2 n, attention over a sequence, and the output layer or not."""
    layer = 2.0 * shape.layer_matrix_values + 4.0 * sequence_tokens * shape.d_query
    return shape.num_layers * layer + (2.0 * shape.embedding_values if head else 0.0)


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Says what a stage takes."""

    config: ExperimentConfig
    shape: ModelShape
    text: TextSize
    text_bytes: int
    """Of the corpus' input; 0: not known."""
    table: AcceleratorTable
    pace: Pace

    @property
    def _spent(self) -> Overheads:
        return self.table.overheads

    def seconds(self, stage: Stage) -> float | None:
        """Return the seconds of a stage once its processes are there, None if the accelerator is not known."""
        fixed = self._spent.of(stage.kind) * self.pace.slowness
        trained = self._training_s(stage)
        if trained is None:
            return None
        return (fixed + trained + self._corpus_s(stage) + self._reading_flops(stage) / self._readers(stage)
                + self._checkpoints(stage) * VALUE_BYTES * self.shape.num_values / (self._spent.checkpoint_mb_per_s * 1e6))

    def start_s(self, stages: list[tuple[Stage, float]]) -> float:
        """Return what a run takes besides its stages: Ray, the worker group, the server, the report.

        Args:
            stages: those to do, with their seconds; the group comes up while the corpus is made.
        """
        if not stages:
            return 0.0
        corpus = sum(seconds for stage, seconds in stages if stage.kind == "corpus")
        group = self._spent.group_s if any(stage.place == "group" for stage, _ in stages) else 0.0
        server = self._spent.server_s if any(stage.kind == "evaluation" for stage, _ in stages) else 0.0
        return (self._spent.run_s + server) * self.pace.slowness + max(0.0, group * self.pace.slowness - corpus)

    def _training_s(self, stage: Stage) -> float | None:
        total = 0.0
        for _, times, training in trainings_of(stage.config, self.shape):
            step = self.pace.step_s(training, self.config.cluster.training)
            if step is None:
                return None
            total += times * (training.config.steps * step + self._spent.training_s * self.pace.slowness)
        return total

    def _corpus_s(self, stage: Stage) -> float:
        if not isinstance(stage.config, CorpusStage):
            return 0.0
        if self.config.corpus.source == "demo":
            return self.text.documents / self._spent.demo_documents_per_s * self.pace.slowness
        cpus = self.config.cluster.num_tasks if self.config.cluster.address == "local" else stage.num_shards
        return self.text_bytes / (self.table.text.mb_per_s_per_cpu * 1e6 * cpus) * self.pace.slowness

    def _checkpoints(self, stage: Stage) -> int:
        """Return how many checkpoints a stage loads and saves."""
        if stage.kind in ("corpus", "conversations", "gate"):
            return 0
        return 1 if stage.kind in ("neurons", "detection", "evaluation") else 2

    def _readers(self, stage: Stage) -> float:
        """Return the operations a second of all processes that read for a stage."""
        if stage.place == "group":  # where it trains
            return self.config.cluster.training.num_workers * (self.pace.flops_per_s or self.pace.reading_flops_per_s)
        return stage.num_shards * self.pace.reading_flops_per_s

    def _reading_flops(self, stage: Stage) -> float:
        """Return the operations with which a stage measures, beside its trainings."""
        kind: Any = stage.config
        if isinstance(kind, EvaluationStage):
            return self._evaluation_flops(kind.evaluation, kind.languages, kind.benchmarks)
        if stage.kind == "detection":
            tokens = len(self.config.corpus.languages) * kind.windows_per_language * kind.window_tokens
            cost = DETECTION_COST["attention" if {"q", "k"} & set(kind.sites) else "other"]
            return cost * tokens * forward_flops(self.shape, kind.window_tokens, head=False)
        if stage.place == "group":  # bits per byte of the validation text; of neurons each language's own, and of all merged
            times = 2 if isinstance(kind, NeuronStage) else 1
            flops = times * self.text.validation * forward_flops(self.shape, DEMO_TOKENS)
            if isinstance(kind, SftStage):
                tokens = ANSWERED_TOKENS * len(self.config.corpus.languages)
                flops += tokens * forward_flops(self.shape, kind.training.sequence_tokens)
            return flops
        return 0.0

    def _evaluation_flops(self, config: EvaluationConfig, codes: tuple[str, ...], benchmarks: BenchmarkConfig) -> float:
        tasks, languages, items = set(config.tasks), len(codes), config.items * len(codes)
        scored = asked = written = 0.0
        if "text" in tasks:
            scored += config.texts * languages * self._document_tokens()
        if "exam" in tasks:
            scored += items * EXAM_TOKENS
        for task, times in GENERATIONS.items():
            if task in tasks:
                asked += times * items * PROMPT_TOKENS
                written += times * items * config.max_new_tokens
        sets = items * sum(OWN[name][0] in tasks for name in benchmarks.files if name in OWN)
        asked, written = asked + sets * PROMPT_TOKENS, written + sets * config.max_new_tokens
        for name in benchmarks.asked(config.tasks):
            part = BENCHMARKS[name].part
            runs = sum(len(config.sources(code)) for code in codes) if part == "translation" else languages
            scored += runs * config.items * BENCHMARK_TOKENS
            if part in GENERATIONS:
                written += runs * config.items * config.max_new_tokens
        if "dialogue" in tasks and "seabench" in benchmarks.files:
            turns = 2 * SEABENCH_LANGUAGES * config.items
            asked += turns * BENCHMARK_TOKENS
            written += turns * config.dialogue_tokens
        return ((scored + self._spent.writing_cost * written) * forward_flops(self.shape, PROMPT_TOKENS)
                + asked * forward_flops(self.shape, PROMPT_TOKENS, head=False))

    def _document_tokens(self) -> float:
        if not self.text.documents:
            return 10 * DEMO_TOKENS
        return (self.text.train + self.text.validation) / self.text.documents
