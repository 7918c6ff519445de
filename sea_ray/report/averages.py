"""Averages over languages, with the interval of the average."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sea_ray.report.data import BitsRow, FigureRow, Unit
from sea_ray.report.labels import is_kept

SMALL_SAMPLE = 30
"""A figure of fewer items is marked: its interval is wide and its normal form doubtful."""


@dataclass(frozen=True, kw_only=True)
class Average:
    """The mean of one figure over languages that weigh the same."""

    value: float
    low: float
    high: float
    n: int
    """Items of all languages together."""
    num_languages: int
    unit: Unit


def average(figures: Sequence[FigureRow]) -> Average | None:
    """Return the mean over languages, None of no figure.

    Languages are independent samples, so the distances of their interval ends add in squares:
    half(mean) = sqrt(sum of half_i^2) / k, the lower and the upper half each by itself.

    Args:
        figures: one per language, of one model, task and metric.
    """
    if not figures:
        return None
    num = len(figures)
    value = sum(row.value for row in figures) / num
    return Average(
        value=value,
        low=value - math.sqrt(sum((row.value - row.low) ** 2 for row in figures)) / num,
        high=value + math.sqrt(sum((row.high - row.value) ** 2 for row in figures)) / num,
        n=sum(row.n for row in figures), num_languages=num, unit=figures[0].unit)


def average_change(rows: Sequence[BitsRow]) -> tuple[float, float, float]:
    """Return the mean relative change of bits per byte and its interval, by the rule of `average`.

    Args:
        rows: one per language, of one arm; at least one.
    """
    num = len(rows)
    value = sum(row.change for row in rows) / num
    return (value, value - math.sqrt(sum((row.change - row.change_low) ** 2 for row in rows)) / num,
            value + math.sqrt(sum((row.change_high - row.change) ** 2 for row in rows)) / num)


def verdict(after: Average, before: Average, *, higher_is_better: bool) -> str:
    """Return "better" or "worse" where the intervals don't meet, else "no clear difference"."""
    if after.low <= before.high and before.low <= after.high:
        return "no clear difference"
    return "better" if (after.value > before.value) == higher_is_better else "worse"


def select(figures: Sequence[FigureRow], task: str, metric: str, model: str) -> list[FigureRow]:
    """Return the figures of one task, metric and model."""
    return [row for row in figures if (row.task, row.metric, row.model) == (task, metric, model)]


def trained(figures: Sequence[FigureRow]) -> list[FigureRow]:
    """Return those of languages that are trained for, without English and Chinese."""
    return [row for row in figures if not is_kept(row.language)]
