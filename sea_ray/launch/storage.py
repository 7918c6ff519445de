"""What the results of an experiment take in the store, from the shapes of its models and the size of its text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from sea_ray.config import ExperimentConfig
from sea_ray.execution import Stage
from sea_ray.launch.durations import TextSize
from sea_ray.launch.foresight import trainings_of
from sea_ray.stages.configs import ConversationsStage, EvaluationStage, NeuronStage
from sea_ray.training.config import PROJECTIONS, TrainPolicy
from sea_ray.training.shape import ModelShape, selected_neurons

VALUE = 4
"""Bytes of a value: checkpoints, packs and states are float32."""
TOKENIZER_BYTES = 110
"""Of an entry of a tokenizer."""
SEQUENCE_BYTES = 9
"""Of a token of a packed conversation: its id, its segment, whether it is a target."""
STATISTICS_BYTES = 45
"""Of a neuron and language: sums, squares, both halves, hits."""
TEXT_SHARE = 0.2
"""Of a document's bytes, compressed."""
DETAIL_BYTES = 400
"""Of an item of an evaluation, with prompt and answer."""
CHECKPOINTS = ("base", "merged", "continued_pretraining", "sft")


def result_bytes(stage: Stage, config: ExperimentConfig, shape: ModelShape, text: TextSize, text_bytes: int) -> int:
    """Return the bytes of a stage's result.

    Args:
        stage: of the experiment.
        config: the experiment.
        shape: of its model.
        text: tokens of its corpus.
        text_bytes: of that text.
    """
    kind: Any = stage.config
    if stage.kind in CHECKPOINTS:
        return VALUE * shape.num_values + TOKENIZER_BYTES * shape.vocab_size
    if isinstance(kind, NeuronStage):
        pack = sum(math.prod(size) for size in
                   shape.trained(TrainPolicy(kind="neurons"), selected_neurons(shape, kind.selection)).values())
        packs = pack * len(kind.languages)
        return VALUE * (packs + min(packs, shape.num_layers * sum(math.prod(shape.projection(name)) for name in PROJECTIONS)))
    if stage.kind == "corpus":
        return int(TEXT_SHARE * text_bytes) + VALUE * (text.train + 2 * text.validation)
    if stage.kind == "detection":
        neurons = shape.num_layers * sum(shape.num_neurons(site) for site in kind.sites)
        return STATISTICS_BYTES * neurons * len(config.corpus.languages)
    if isinstance(kind, ConversationsStage):
        trainings = (config.sft.broad, config.sft.high_quality)
        return SEQUENCE_BYTES * sum(each.total_samples * each.sequence_tokens for each in trainings)
    if isinstance(kind, EvaluationStage):
        return DETAIL_BYTES * kind.evaluation.items * len(kind.evaluation.tasks) * len(kind.languages)
    return 0


def state_bytes(stages: Iterable[Stage], config: ExperimentConfig, shape: ModelShape) -> int:
    """Return the most that the states of one stage take while it trains: what trains and both moments, several times.

    A stage of several trainings keeps the end of each.
    """
    kept = config.cluster.training.keep_checkpoints + 1  # the one that is being written
    return max((sum(3 * VALUE * training.trained_values * (kept + times - 1)
                    for _, times, training in trainings_of(stage.config, shape)) for stage in stages), default=0)
