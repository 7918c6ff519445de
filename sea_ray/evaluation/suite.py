"""All tasks on one model: a Generator and a Suite in, an EvalReport out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from sea_ray.artifacts import plain
from sea_ray.errors import DataError
from sea_ray.evaluation.answers import NumberWords, evaluate_arithmetic, evaluate_translation
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.evaluation.dialogues import evaluate_dialogues
from sea_ray.evaluation.fidelity import IsLanguage
from sea_ray.evaluation.figures import EvalReport
from sea_ray.evaluation.generator import Generator
from sea_ray.evaluation.items import Suite
from sea_ray.evaluation.refusal import IsRefusal, evaluate_refusal, evaluate_safety
from sea_ray.evaluation.tasks import TaskResult, evaluate_exam, evaluate_texts
from sea_ray.tracking import NullTracker, Tracker


def evaluate(
    generator: Generator,
    suite: Suite,
    config: EvaluationConfig,
    is_refusal: IsRefusal,
    is_language: IsLanguage,
    *,
    model: str,
    checkpoint: str = "",
    number_words: NumberWords | None = None,
    tracker: Tracker | None = None,
) -> EvalReport:
    """Ask a model everything in a suite.

    Args:
        generator: the model.
        suite: items; tasks that are not in config.tasks or have no items are left out.
        config: the same for all models that are compared.
        is_refusal: answer -> whether it refuses.
        is_language: text and code -> whether the text is in that language.
        model: name for the report.
        checkpoint: what was asked: a fingerprint, or the name by which an endpoint knows it; "" if that is not known.
        number_words: language -> number words, for arithmetic in words.
        tracker: gets the figures as "task/metric/language".

    Raises:
        DataError: no task has items, or an item does not fit the model's context.
    """
    tracker = tracker or NullTracker()
    chosen = select(suite, config)
    runs: dict[str, Callable[[], TaskResult]] = {
        "text": lambda: evaluate_texts(generator, chosen.texts, config),
        "exam": lambda: evaluate_exam(generator, chosen.exam, config),
        "arithmetic": lambda: evaluate_arithmetic(generator, chosen.arithmetic, config, number_words),
        "translation": lambda: evaluate_translation(generator, chosen.translation, config),
        "refusal": lambda: evaluate_refusal(generator, chosen.refusal, config, is_refusal, is_language),
        "safety": lambda: evaluate_safety(generator, chosen.safety, config, is_refusal, is_language),
        "dialogue": lambda: evaluate_dialogues(generator, chosen.dialogues, config, is_language),
    }
    items = {"text": chosen.texts, "exam": chosen.exam, "arithmetic": chosen.arithmetic,
             "translation": chosen.translation, "refusal": chosen.refusal, "safety": chosen.safety,
             "dialogue": chosen.dialogues}  # fmt: skip
    figures, details, seconds = [], [], {}
    for task in config.tasks:
        if items[task]:
            start = time.perf_counter()
            result = runs[task]()
            seconds[task] = round(time.perf_counter() - start, 3)
            figures += result.figures
            details += result.details
            tracker.log(None, **{f"{f.task}/{f.metric}/{f.language}": f.value for f in result.figures})
    if not figures:
        raise DataError(f"the suite has no items for tasks {list(config.tasks)} in {list(config.languages)}")
    settings = {**how_asked(config, checkpoint), "seconds": seconds}
    return with_prompts(EvalReport(model=model, figures=tuple(figures), settings=settings, details=tuple(details)))


def how_asked(config: EvaluationConfig, checkpoint: str) -> dict[str, Any]:
    """Return the settings of a report that say what was asked, and how."""
    return {**plain(config), "decoding": "greedy", "checkpoint": checkpoint}


def with_prompts(report: EvalReport) -> EvalReport:
    """Return a report whose settings hold the digests of its items."""
    return replace(report, settings={**report.settings, "prompts": report.prompts()})


def select(suite: Suite, config: EvaluationConfig) -> Suite:
    """Return the suite's items in the configured languages."""
    kept = {
        name: tuple(item for item in getattr(suite, name) if item.language in config.languages)
        for name in (part.name for part in fields(Suite))
    }
    return replace(suite, **kept)
