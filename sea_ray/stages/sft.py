"""Fine-tuning in two stages on a language mix, with or without safety data, judged on validation conversations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from sea_ray.demo import World
from sea_ray.execution import StageContext
from sea_ray.languages import HIGH_RESOURCE, SEA_LANGUAGES
from sea_ray.sft.packing import pack_sources
from sea_ray.sft.stages import build_stage_data
from sea_ray.stages.base import report_facts
from sea_ray.stages.configs import SftStage
from sea_ray.training.checkpoint import Checkpoint
from sea_ray.training.engine import Worker
from sea_ray.training.loop import train
from sea_ray.training.mixture import Mixture
from sea_ray.training.sequences import SequenceSet, collate
from sea_ray.training.token_loss import TokenLoss


def build(context: StageContext) -> Mapping[str, Any]:
    """Write the fine-tuned checkpoint; facts: both reports, realised shares, validation nats per answer token."""
    config: SftStage = context.config
    start = Checkpoint.load(context.parents["start"])
    model, tokenizer = start.load_model(), start.load_tokenizer()
    world = World(config.world_seed, config.languages)
    stages = {}
    for name, data, training in (("broad", config.data.broad, config.broad),
                                 ("high_quality", config.data.high_quality, config.high_quality)):
        packed = pack_sources(build_stage_data(config.data, data, world), tokenizer, training.sequence_tokens)
        mixture = Mixture({code: part.num_sequences for code, part in packed.sequences.items()}, config.weights,
                          training.seed, config.max_epochs, training.total_samples)
        report = train(model, packed.sequences, mixture, training, context.worker, context.tracker.child(name))
        stages[name] = report_facts(report) | {
            "conversations": packed.num_conversations, "too_long": packed.num_too_long,
            "filled": {code: packed.filled_frac(code) for code in packed.sequences},
            "epochs": mixture.epochs(training.steps, training.batch_sequences)}
    # Validation always holds the safety data: the baseline without it is judged by the same questions.
    questions = build_stage_data(config.data, config.data.high_quality, world, split="validation")
    held_out = pack_sources(questions, tokenizer, config.high_quality.sequence_tokens).sequences
    nats = answer_nats(model, held_out, context.worker)
    if context.worker.rank == 0:
        Checkpoint.save(context.folder, model, tokenizer)
    sea = [nats[code] for code in nats if code in SEA_LANGUAGES]
    high = [nats[code] for code in nats if code in HIGH_RESOURCE]
    return {"stages": stages, "validation_nats": nats, "tokens": sum(stage["tokens"] for stage in stages.values()),
            "validation_nats_mean": sum(nats.values()) / len(nats),
            **({"validation_nats_sea": sum(sea) / len(sea)} if sea else {}),
            **({"validation_nats_high_resource": sum(high) / len(high)} if high else {})}


def answer_nats(model: PreTrainedModel, parts: Mapping[str, SequenceSet], worker: Worker) -> dict[str, float]:
    """Return language -> mean nats per answer token, the languages shared out over the ranks."""
    nats_L = torch.zeros(len(parts), dtype=torch.float64, device=worker.device)
    loss = TokenLoss(model)
    with torch.inference_mode():
        for place in range(worker.rank, len(parts), worker.world_size):
            name = list(parts)[place]
            total = 0.0
            for first in range(0, parts[name].num_sequences, 16):
                samples = [(name, row) for row in range(first, min(first + 16, parts[name].num_sequences))]
                total += float(loss(collate(parts, samples, worker.device)))
            nats_L[place] = total / parts[name].num_targets
    nats = worker.sum(nats_L).tolist()
    assert all(map(math.isfinite, nats)), "the training loop refuses a loss that is not finite"
    return dict(zip(parts, nats, strict=True))
