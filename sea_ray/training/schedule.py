"""The learning rate of each step."""

from __future__ import annotations

import math

from sea_ray.training.config import TrainConfig


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Return the learning rate of a step (from 0): linear warm-up, then the schedule down to its minimum at the last.

    Cosine as in Loshchilov & Hutter, arXiv 1608.03983, equation 5, without restarts.
    """
    warmup = round(config.warmup_frac * config.steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - warmup) / max(1, config.steps - 1 - warmup)
    fall = (1 + math.cos(math.pi * done)) / 2 if config.schedule == "cosine" else 1 - done
    return config.learning_rate * (config.min_lr_frac + (1 - config.min_lr_frac) * fall)
