"""Detection as a map over windows and a sum: the statistics that every selection reads."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import Any

from sea_ray.execution import StageContext
from sea_ray.neurons.detection import DetectionConfig, collect_importance, cut_windows
from sea_ray.neurons.statistics import ImportanceStats
from sea_ray.stages.corpus import load_corpus
from sea_ray.training.checkpoint import Checkpoint


def measure_shard(context: StageContext) -> Mapping[str, Any]:
    """Write the statistics of this shard's windows: every num_shards-th pair (even, odd) of each language."""
    config: DetectionConfig = context.config
    corpus = load_corpus(context)
    model = Checkpoint.load(context.parents["base"]).load_model()
    windows = {}
    first = config.windows_per_language * context.shard // context.num_shards
    last = config.windows_per_language * (context.shard + 1) // context.num_shards
    for code in corpus.languages:
        windows[code] = cut_windows(corpus.tokens(code, "train"), config, code)[first:last]
    collect_importance(model, windows, config, context.tracker, first_window=first).save(context.folder)
    return {}


def merge_shards(context: StageContext) -> Mapping[str, Any]:
    """Add the shards' statistics up; facts: mean importance per language, site and layer."""
    parts = sorted(context.folder.glob("shard-*"), key=lambda part: int(part.name.removeprefix("shard-")))
    stats = reduce(add, [ImportanceStats.load(part) for part in parts])
    for part in parts:
        shutil.rmtree(part)
    stats.save(context.folder)
    return {"languages": stats.languages, "sites": stats.sites,
            "windows_per_language": {code: stats[code, stats.sites[0]].num_windows for code in stats.languages}}
