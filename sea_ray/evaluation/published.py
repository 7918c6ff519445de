"""Figures that others have published, to be read beside measured ones and never mixed with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml


@dataclass(frozen=True, kw_only=True)
class Published:
    """One row of somebody's table."""

    task: str
    metric: str
    model: str
    source: str
    """Where it stands, and how it was measured as far as that is said."""
    values: Mapping[str, float]
    """Language -> value; empty where only an average is published."""
    average: float | None
    """The source's own, over its own languages."""


@cache
def published_rows() -> tuple[Published, ...]:
    """Return the rows of published.yaml."""
    text = (resources.files("sea_ray.evaluation") / "published.yaml").read_text(encoding="utf-8")
    return tuple(Published(task=group["task"], metric=group["metric"], model=model, source=group["source"], **row)
                 for group in yaml.safe_load(text) for model, row in group["models"].items())
