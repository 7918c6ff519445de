"""Statistics of importances that a test knows, without a model."""

import numpy as np
import torch

from sea_ray.neurons.sites import Architecture
from sea_ray.neurons.statistics import ImportanceStats, SiteStatistics
from sea_ray.neurons.sums import Observation, SiteSums

LANGUAGES = ("en", "id", "ms", "th")


def shape_of(num_layers, d_mlp, num_kv_heads=2):
    """Return an architecture of four heads of width 4."""
    return Architecture(
        model_type="qwen2", num_layers=num_layers, d_model=16, d_mlp=d_mlp, num_heads=4, num_kv_heads=num_kv_heads,
        d_head=4, biased=frozenset(), qk_norm=False, total_values=9999)


SHAPE = shape_of(2, 50)


def stats_of(importance, active=None, window_tokens=8, ranks=(5,)):
    """Return statistics of given windows of ffn: language -> Imp [W, L, N]."""
    parts = {}
    for language, values in importance.items():
        nothing = SiteStatistics.zeros(*values.shape[1:], len(ranks), gated=True, num_released=values.shape[2])
        sums = SiteSums(nothing, ranks, torch.device("cpu"))
        opened = np.zeros(values.shape, np.int64)
        if active is not None:
            opened += active[language]
        seen = Observation(*map(torch.from_numpy, (values, values, opened)))
        sums.add(seen, torch.arange(len(values)) % 2, window_tokens)
        parts[language, "ffn"] = sums.statistics()
    return ImportanceStats(window_tokens=window_tokens, ranks={"ffn": ranks}, parts=parts)


def planted(noise=0.0, windows=6):
    """Each language's own ten channels of layer 1 have Imp 4; id and ms share ten more; the rest have 1."""
    generator = np.random.default_rng(0)
    importance = {}
    for place, language in enumerate(LANGUAGES):
        values = np.ones((windows, 2, 50))
        values[:, 1, 10 * place:10 * place + 10] = 4
        if language in ("id", "ms"):
            values[:, 0, :10] = 3
        importance[language] = values * np.exp(noise * generator.normal(size=values.shape))
    return importance
