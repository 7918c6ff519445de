"""The base model: trained from scratch on the corpus, or a checkpoint of the Hub or a folder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from sea_ray.corpus.tokenized import TokenizedCorpus, end_of_text_id
from sea_ray.errors import DataError
from sea_ray.execution import StageContext
from sea_ray.languages import HIGH_RESOURCE
from sea_ray.stages.configs import BaseStage
from sea_ray.stages.corpus import load_corpus
from sea_ray.stages.measure import validation_bits
from sea_ray.training.checkpoint import Checkpoint
from sea_ray.training.config import TrainConfig, TrainPolicy
from sea_ray.training.loop import TrainReport, train
from sea_ray.training.mixture import Mixture
from sea_ray.training.model import new_model
from sea_ray.training.policy import trainable
from sea_ray.training.sequences import SequenceSet, pack_corpus
from sea_ray.training.state import TrainingStates

HELD_OUT_SEQUENCES = 64
"""Of each language, looked at while a training runs."""


def pack_languages(corpus: TokenizedCorpus, languages: tuple[str, ...], length: int) -> dict[str, SequenceSet]:
    """Return each language's training text as packed sequences."""
    return {code: pack_corpus(np.asarray(corpus.tokens(code, "train")), corpus.eos_id, length) for code in languages}


def held_out_text(corpus: TokenizedCorpus, languages: Iterable[str], training: TrainConfig) -> dict[str, SequenceSet]:
    """Return the validation text of languages that a training looks at while it runs; none if it never looks."""
    if not training.eval_every_steps:
        return {}
    needed = HELD_OUT_SEQUENCES * training.sequence_tokens
    return {code: pack_corpus(np.asarray(corpus.tokens(code, "validation")[:needed]), corpus.eos_id, training.sequence_tokens)
            for code in languages}


@contextmanager
def training_states(context: StageContext, part: str = "whole") -> Iterator[TrainingStates]:
    """Yield where the states of one of a stage's trainings are saved and found."""
    with closing(TrainingStates(context.unfinished.part(part), context.worker, context.tracker)) as states:
        yield states


def report_facts(report: TrainReport) -> dict[str, Any]:
    """Return a training report as facts; the losses thinned to at most 200 points, without those of skipped steps."""
    facts = asdict(report)
    stride = max(1, len(report.losses) // 200)
    facts["losses"] = [[step, report.losses[step]] for step in range(0, len(report.losses), stride) if step not in report.skipped]
    return facts | {"tokens_per_s": report.tokens_per_s}


def train_policy(model: PreTrainedModel, policy: TrainPolicy, sources: Mapping[str, SequenceSet], mixture: Mixture,
                 training: TrainConfig, context: StageContext, held_out: Mapping[str, SequenceSet], *, first_row: int = 0
                 ) -> dict[str, Any]:
    """Train what a policy names; facts: the report, the tokens, and the proof that nothing else moved.

    Args:
        model: trained in place.
        policy: what trains.
        sources: language -> sequences.
        mixture: which of them when.
        training: steps, batch, optimiser.
        context: the stage.
        held_out: what is looked at while it trains.
        first_row: of the embeddings that trains, for "embeddings" alone.

    Raises:
        DataError: something else moved.
    """
    with trainable(model, policy, first_row=first_row) as trained, training_states(context) as states:
        report = train(model, sources, mixture, training, context.worker, context.tracker, held_out=held_out, states=states)
    proof = trained.prove_untouched(model)
    if not proof.holds:
        raise DataError(f"training with policy {policy.kind!r} moved more than it names: {proof}")
    return {"training": report_facts(report) | {"trained_values": trained.num_values}, "tokens": report.tokens,
            "untouched": asdict(proof) | {"statement": str(proof)}}


def _pretrain(model: PreTrainedModel, corpus: TokenizedCorpus, training: TrainConfig, weights: Mapping[str, float],
              max_epochs: float | None, context: StageContext, part: str = "") -> dict[str, Any]:
    languages = tuple(code for code, weight in weights.items() if weight > 0)
    sequences = pack_languages(corpus, languages, training.sequence_tokens)
    mixture = Mixture({code: part.num_sequences for code, part in sequences.items()}, weights, training.seed, max_epochs,
                      training.total_samples)
    tracker = context.tracker.child(part) if part else context.tracker
    with training_states(context, part or "whole") as states:
        return report_facts(train(model, sequences, mixture, training, context.worker, tracker,
                                  held_out=held_out_text(corpus, corpus.languages, training), states=states))


def build(context: StageContext) -> Mapping[str, Any]:
    """Write the base checkpoint; facts: the training report and validation bits per byte per language."""
    config: BaseStage = context.config
    training = annealing = None
    corpus = load_corpus(context)
    tokenizer = corpus.load_tokenizer()
    if config.checkpoint is not None:
        source = Checkpoint.from_hub_or_path(config.checkpoint, config.revision)
        model = source.load_model()
    else:
        model = new_model(config.model, len(tokenizer), config.seed, end_of_text_id(tokenizer))
        training = _pretrain(model, corpus, config.training, config.weights, config.max_epochs, context)
        high = {code: weight for code, weight in config.weights.items() if code in HIGH_RESOURCE}
        if config.annealing is not None:
            annealing = _pretrain(model, corpus, config.annealing, high, config.max_epochs, context, "annealing")
    bits = validation_bits(model, corpus, context.worker)
    if config.checkpoint is not None:
        check_prediction(bits, corpus, len(tokenizer))
    if context.worker.rank == 0:
        Checkpoint.save(context.folder, model, tokenizer)
    return {"training": training, "annealing": annealing, "parameters": sum(p.numel() for p in model.parameters()),
            "validation_bits_per_byte": bits}


def check_prediction(bits: Mapping[str, float], corpus: TokenizedCorpus, num_ids: int) -> None:
    """Raise DataError if a base predicts every language worse than guessing: a tokenizer of another model, broken weights."""
    per_token = {code: value * corpus.num_bytes(code, "validation") / len(corpus.tokens(code, "validation"))
                 for code, value in bits.items()}
    best = min(per_token, key=per_token.__getitem__)
    if per_token[best] > math.log2(num_ids) + 1:
        raise DataError(f"the base needs {per_token[best]:.1f} bits for a token of {best!r}, its best language; guessing "
                        f"among {num_ids} takes {math.log2(num_ids):.1f}: the tokenizer is not the one that it was "
                        "trained with, or its weights are damaged")
