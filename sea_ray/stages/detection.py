"""Detection as a map over windows and a sum: the statistics that every selection reads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import Any

from sea_ray.execution import StageContext
from sea_ray.neurons.config import DetectionConfig
from sea_ray.neurons.detection import collect_importance
from sea_ray.neurons.statistics import ImportanceStats
from sea_ray.neurons.windows import cut_windows
from sea_ray.stages.corpus import load_corpus
from sea_ray.training.checkpoint import Checkpoint


def measure_shard(context: StageContext) -> Mapping[str, Any]:
    """Write the statistics of this shard's windows, an equal part of each language's, measured on the worker's device."""
    config: DetectionConfig = context.config
    corpus = load_corpus(context)
    model = Checkpoint.load(context.parents["base"]).load_for(context.worker.device)
    first = config.windows_per_language * context.shard // context.num_shards
    last = config.windows_per_language * (context.shard + 1) // context.num_shards
    windows = {code: cut_windows(corpus.tokens(code, "train"), corpus.eos_id, config, code)[first:last]
               for code in corpus.languages}
    collect_importance(model, windows, config, context.tracker).save(context.folder)
    return {}


def merge_shards(context: StageContext) -> Mapping[str, Any]:
    """Add the shards' statistics up; facts: mean importance per language, site and layer."""
    stats = reduce(add, map(ImportanceStats.load, context.shards))
    stats.save(context.folder)
    return {"languages": stats.languages, "sites": stats.sites,
            "windows_per_language": {code: stats[code, stats.sites[0]].num_windows for code in stats.languages}}
