"""All figures of one model: languages are shared out over shards, items are the same for every model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from itertools import islice
from typing import Any

from sea_ray.corpus.documents import Documents
from sea_ray.corpus.identification import is_written_in
from sea_ray.demo import World
from sea_ray.evaluation.benchmarks import own_items
from sea_ray.evaluation.demo_suite import demo_number_words, demo_suite
from sea_ray.evaluation.figures import EvalReport
from sea_ray.evaluation.generator import Generator
from sea_ray.evaluation.harness import evaluate_benchmarks, with_benchmarks
from sea_ray.evaluation.harness_models import Engine, in_process, through_endpoint
from sea_ray.evaluation.items import Suite, TextItem
from sea_ray.evaluation.local import LocalGenerator
from sea_ray.evaluation.remote import HttpGenerator
from sea_ray.evaluation.suite import evaluate, with_prompts
from sea_ray.execution import StageContext
from sea_ray.safety.refusals import RefusalDetector
from sea_ray.stages.configs import EvaluationStage
from sea_ray.training.checkpoint import Checkpoint


def make_models(context: StageContext, checkpoint: Checkpoint) -> tuple[Generator, Callable[[], Engine]]:
    """Return the model behind its endpoint if the stage has one, else in this process, on the worker's device.

    Returns:
        The model for this project's own questions, and what makes the same ready for lm-evaluation-harness.
    """
    tokenizer = checkpoint.load_tokenizer()
    if context.endpoint is None:
        model = checkpoint.load_for(context.worker.device)
        return LocalGenerator(model, tokenizer), lambda: in_process(model, tokenizer)
    place = context.endpoint["url"], context.endpoint["api_key"], context.endpoint["model"]
    return (HttpGenerator(*place, tokenizer, max_tokens=checkpoint.max_tokens),
            lambda: through_endpoint(*place, checkpoint.folder, tokenizer, checkpoint.max_tokens))


def make_suite(config: EvaluationStage, documents: Documents, languages: tuple[str, ...]) -> Suite:
    """Return own held-out items: the corpus' test documents, the demo world's questions, benchmarks that the harness lacks."""
    own, world = replace(config.evaluation, languages=languages), World(config.world_seed, config.languages)
    suite = demo_suite(world, replace(own, languages=_spoken(world, languages)))
    public = own_items(config.benchmarks, own)
    texts = tuple(TextItem(language=code, text=text) for code in languages
                  for text in islice(documents.texts(code, "test"), config.evaluation.texts))
    both = {part.name: getattr(suite, part.name) + getattr(public, part.name) for part in fields(Suite)}
    return Suite(**both | {"texts": texts})


def _spoken(world: World, languages: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(code for code in languages if code in world.spoken)


def evaluate_shard(context: StageContext) -> Mapping[str, Any]:
    """Write the report of this shard's languages."""
    if languages_of(context):
        checkpoint = Checkpoint.load(context.parents["model"])
        report_on(context, *make_models(context, checkpoint), name=context.parents["model"].name)
    return {}


def languages_of(context: StageContext) -> tuple[str, ...]:
    """Return the languages of a shard."""
    config: EvaluationStage = context.config
    return tuple(code for code in config.evaluation.languages if code in config.languages)[context.shard::context.num_shards]


def report_on(context: StageContext, generator: Generator, engine: Callable[[], Engine] | None, *, name: str) -> None:
    """Ask a model about a shard's languages and write the report.

    Args:
        context: of the shard.
        generator: the model for this project's own questions.
        engine: what makes the same ready for lm-evaluation-harness; None: its benchmarks are left out.
        name: by which the report knows what was asked.
    """
    config, mine = context.config, languages_of(context)
    documents = Documents.load(context.parents["corpus"] / "documents")
    world, own = World(config.world_seed, config.languages), replace(config.evaluation, languages=mine)
    report = evaluate(generator, make_suite(config, documents, mine), own, RefusalDetector().is_refusal, is_written_in,
                      model=config.model, checkpoint=name, number_words=demo_number_words(world, _spoken(world, mine)),
                      tracker=context.tracker)
    if engine is not None and config.benchmarks.asked(own.tasks):
        report = with_benchmarks(report, evaluate_benchmarks(engine(), config.benchmarks, own, context.tracker))
    report.save(context.folder)


def join_shards(context: StageContext) -> Mapping[str, Any]:
    """Join the shards' reports in the languages' order; facts: the means over languages."""
    config: EvaluationStage = context.config
    reports = [EvalReport.load(part) for part in context.shards if (part / "report.json").exists()]
    order = {code: place for place, code in enumerate(config.languages)}
    figures = sorted((figure for report in reports for figure in report.figures),
                     key=lambda figure: (figure.task, figure.metric, order[figure.language]))
    details = sorted((detail for report in reports for detail in report.details),
                     key=lambda detail: (detail.task, order[detail.language], detail.item, detail.turn))
    settings = {**reports[0].settings, "languages": list(config.languages),
                "seconds": [report.settings["seconds"] for report in reports]}
    asked = [report.settings["harness"] for report in reports if report.settings.get("harness")]
    if asked:
        settings["harness"] = {**asked[0], "tasks": {name: one for part in asked for name, one in part["tasks"].items()}}
    joined = with_prompts(EvalReport(model=config.model, figures=tuple(figures), settings=settings, details=tuple(details)))
    joined.save(context.folder)
    return {f"{task}/{metric}": mean(joined, task, metric)
            for task, metric in dict.fromkeys((figure.task, figure.metric) for figure in figures)}


def mean(report: EvalReport, task: str, metric: str) -> float:
    """Return the unweighted mean of a metric over its languages."""
    values = [figure.value for figure in report.of(task, metric).values()]
    return sum(values) / len(values)

