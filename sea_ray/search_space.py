"""What a sweep searches: choices, ranges, and mixes on a simplex, each under the dotted path of a setting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sea_ray.errors import ConfigError
from sea_ray.languages import language

Point = Mapping[str, Any]
"""Dotted config path -> value: what one trial sets."""
DIGITS = 3
"""Significant digits of a number that is drawn: a point is known again by its values."""
SHARE_DIGITS = 4
"""Decimals of a share that is drawn."""


@dataclass(frozen=True, kw_only=True)
class Simplex:
    """Mixes of languages: shares that sum to 1."""

    languages: tuple[str, ...]
    """Whose shares are drawn."""
    floors: Mapping[str, float] = field(default_factory=dict)
    """Language -> least share that it gets in every mix, such as English and Chinese."""
    concentration: float = 1.0
    """Of the Dirichlet distribution that the rest is drawn from: 1 draws all mixes alike, more draws balanced ones, less draws
    one-sided ones."""

    def __post_init__(self) -> None:
        for code in (*self.languages, *self.floors):
            language(code, "simplex")
        if len(set(self.languages)) < 2 or len(set(self.languages)) < len(self.languages):
            raise ConfigError("languages", f"{list(self.languages)} is no mix: name two languages or more, each once")
        for code, share in self.floors.items():
            if code not in self.languages:
                raise ConfigError(f"floors.{code}", "this language is not in languages; add it there")
            if share < 0:
                raise ConfigError(f"floors.{code}", f"{share} is negative; a share is 0 or more")
        if sum(self.floors.values()) >= 1:
            raise ConfigError("floors", f"they sum to {sum(self.floors.values()):g} and leave nothing to search; stay below 1")
        if not self.concentration >= 0.05:
            raise ConfigError("concentration", f"{self.concentration} is below 0.05: one language would get everything")

    def mix(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Return the shares that non-negative weights, not all of them 0, make on top of the floors."""
        total, rest = sum(weights[code] for code in self.languages), 1 - sum(self.floors.values())
        return {code: round(self.floors.get(code, 0.0) + rest * weights[code] / total, SHARE_DIGITS) for code in self.languages}


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Values that are drawn; exactly one of the kinds is given. Choices need none: they are a plain list."""

    uniform: tuple[float, float] | None = None
    """Lowest and highest value, all alike."""
    log_uniform: tuple[float, float] | None = None
    """Lowest and highest value, all orders of magnitude alike, such as of a learning rate."""
    integer: tuple[int, int] | None = None
    """Lowest and highest whole number, both included."""
    simplex: Simplex | None = None
    """Mixes of languages."""

    def __post_init__(self) -> None:
        given = [name for name in ("uniform", "log_uniform", "integer", "simplex") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError("", f"{', '.join(given) or 'nothing'} given; give one of uniform, log_uniform, integer, simplex, "
                                  "or a list of choices")
        if (bounds := self.bounds) is not None:
            if not bounds[0] < bounds[1]:
                raise ConfigError(given[0], f"{list(bounds)} is empty; write [lowest, highest]")
            if self.log_uniform and not bounds[0] > 0:
                raise ConfigError("log_uniform", f"{bounds[0]} is not above 0; take uniform")

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Lowest and highest value; None for mixes."""
        return self.uniform or self.log_uniform or self.integer

    def ends(self) -> list[Any]:
        """Return values at the domain's ends, so that a check of them checks the path and the range."""
        if self.simplex is None:
            return list(self.bounds or ())
        return [self.simplex.mix(dict.fromkeys(self.simplex.languages, 1.0))]


Space = Mapping[str, Domain | tuple[Any, ...]]
"""Dotted config path -> domain, or values to choose from."""


def check_space(space: Space) -> None:
    """Raise ConfigError for a space in which there is nothing to search."""
    if not space:
        raise ConfigError("space", "empty; name at least one dotted path with its values")
    for path, domain in space.items():
        if isinstance(domain, tuple) and not domain:
            raise ConfigError(f"space.{path}", "no values to try; list at least one")


def rounded(value: float) -> float:
    """Return a number with DIGITS significant digits."""
    return float(f"{value:.{DIGITS}g}")


def label(point: Point) -> str:
    """Return a point in a few characters, such as "top_frac=0.02,mix=en5 th95"."""
    return ",".join(f"{path.rpartition('.')[2]}={_short(value)}" for path, value in point.items())


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{code}{100 * share:.3g}" for code, share in value.items())
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return str(value)
