"""Public benchmarks, asked and scored by lm-evaluation-harness: its figures, with this project's intervals and details."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sea_ray.errors import ConfigError, DataError, MachineError
from sea_ray.evaluation.benchmark_sources import BENCHMARKS, has_language
from sea_ray.evaluation.benchmarks import BenchmarkConfig, check_chat_route, task_folder
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.evaluation.figures import Detail, EvalReport, Figure
from sea_ray.evaluation.harness_figures import details_of, figures_of, mean_of_sources
from sea_ray.evaluation.harness_models import Engine, quiet
from sea_ray.evaluation.suite import with_prompts
from sea_ray.languages import ADDED
from sea_ray.tracking import NullTracker, Tracker

SEED = 1234
"""Of the harness' choice of examples; its own default."""


@dataclass(frozen=True, kw_only=True)
class HarnessResult:
    """What the harness found of one model."""

    figures: tuple[Figure, ...]
    details: tuple[Detail, ...]
    settings: Mapping[str, Any]
    """The harness' version, and per "benchmark/language" what decides its figures."""


def evaluate_benchmarks(engine: Engine, benchmarks: BenchmarkConfig, config: EvaluationConfig, tracker: Tracker | None = None
                        ) -> HarnessResult:
    """Ask a model the public benchmarks.

    Each benchmark and language is a run of its own, so that figures do not depend on what else is asked beside it.

    Args:
        engine: the model.
        benchmarks: which, and where they lie.
        config: languages, tasks, items, prompting, longest answer.
        tracker: gets the figures as "task/metric/language".

    Raises:
        DataError: a wrong row, with file and line.
        ConfigError: answers leave no room for prompts; a chat route is to score, or to continue plain text; no task asks an
            added language's rows.
        DataError: the tokenizer has no chat template but is to chat.
        MachineError: the endpoint fails.
    """
    _check(engine, benchmarks, config)
    tracker, figures, details, tasks = tracker or NullTracker(), list[Figure](), list[Detail](), dict[str, Any]()
    for name in benchmarks.asked(config.tasks):
        place = benchmarks.place(name)
        for code in config.languages:
            if not has_language(name, code, place):
                continue
            found = [_run(engine, task, name, code, config) for task in
                     load_tasks(name, code, place, _sources(benchmarks, name, code, config))]
            new = [figure for run in found for figure in run.figures]
            if BENCHMARKS[name].part == "translation" and found:
                new.append(mean_of_sources(name, code, [run.pairs for run in found], config))
            tracker.log(None, **{f"{one.task}/{one.metric}/{one.language}": one.value for one in new})
            figures += new
            details += [detail for run in found for detail in run.details]
            tasks |= {f"{run.task}/{code}": run.settings for run in found}
    return HarnessResult(figures=tuple(figures), details=tuple(details), settings={
        **engine.settings, "lm_eval": version("lm_eval"), "prompting": config.prompting, "fewshot_seed": SEED, "tasks": tasks,
    } if tasks else {})


def with_benchmarks(report: EvalReport, found: HarnessResult) -> EvalReport:
    """Return a report with what the harness found beside it."""
    return with_prompts(replace(report, figures=report.figures + found.figures, details=report.details + found.details,
                                settings={**report.settings, "harness": found.settings}))


def load_tasks(name: str, code: str, place: str, sources: Sequence[str] = ("",)) -> list[Any]:
    """Return the harness' tasks of a benchmark in a language: of translation one for each source, else one.

    Args:
        name: benchmark.
        code: language.
        place: folder, or "hub", or "hub@COMMIT".
        sources: languages that are translated.
    """
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    group = load_yaml(task_folder() / f"{name}.yaml")
    items = [item for item in group["task"]
             if item["task_alias"] == code and item["dataset_kwargs"].get("source", "") in sources]
    shipped = group["metadata"].get("shipped")
    own = {key: value for key, value in group.items() if key not in ("group", "task", "metadata" if shipped else "")}
    folders = [Path(lm_eval.tasks.__file__).parent / shipped] if shipped else []
    with quiet():
        # Only the tasks that are extended are indexed: to index all takes ten seconds.
        manager = lm_eval.tasks.TaskManager(include_defaults=False, include_path=folders)
        known = {item: load_yaml(entry.yaml_path) for item, entry in manager.task_index.items() if entry.yaml_path}
        tasks = [task for item in items for task in manager.load([{
            **known.get(item["task"], {}), **own, **item, "dataset_kwargs": {**item["dataset_kwargs"], "place": place},
        }])["tasks"].values()]
    for task in tasks:
        task.set_config("num_fewshot", task.get_config("num_fewshot") or 0)
        task.set_fewshot_seed(SEED)
    return tasks


@dataclass(frozen=True, kw_only=True)
class _Run:
    task: str
    figures: list[Figure]
    details: list[Detail]
    settings: dict[str, Any]
    pairs: list[tuple[str, str]]
    """Of translation: reference and answer."""


def _run(engine: Engine, task: Any, name: str, code: str, config: EvaluationConfig) -> _Run:
    import lm_eval

    source = (task.get_config("dataset_kwargs") or {}).get("source")
    title = f"{name}_from_{source}" if source else name
    if task.OUTPUT_TYPE == "generate_until":
        task.set_config("generation_kwargs", {"max_gen_toks": config.max_new_tokens}, update=True)
    numbers = spread(len(task.eval_docs), config.texts if BENCHMARKS[name].part == "text" else config.items)
    with quiet(), _endpoint_errors(engine):
        found = lm_eval.evaluate(lm=engine.lm, task_dict={"tasks": {task.task_name: task}}, samples={task.task_name: numbers},
                                 bootstrap_iters=0, apply_chat_template=config.prompting == "chat", fewshot_as_multiturn=True)
    samples, values = found["samples"][task.task_name], found["results"][task.task_name]
    settings = {"task": task.task_name, "version": task.VERSION, "items": len(numbers), "output": task.OUTPUT_TYPE,
                "prompt_hash": _prompt_hash(samples), "cut": _cut(engine, samples, task),
                **({"generation": task.get_config("generation_kwargs")} if task.OUTPUT_TYPE == "generate_until" else {})}
    return _Run(task=title, figures=figures_of(title, code, task, samples, values, config),
                details=details_of(title, code, task, samples, chat=config.prompting == "chat"), settings=settings,
                pairs=[one["chrf"] for one in samples if "chrf" in one])


def spread(num_rows: int, wanted: int) -> list[int]:
    """Return the places of at most `wanted` rows, evenly over all: the first ones would be of one subject."""
    count = min(num_rows, wanted)
    return [place * num_rows // count for place in range(count)]


def _sources(benchmarks: BenchmarkConfig, name: str, code: str, config: EvaluationConfig) -> list[str]:
    if BENCHMARKS[name].part != "translation":
        return [""]
    place = benchmarks.place(name)
    return [source for source in config.sources(code) if has_language(name, source, place)]


def _check(engine: Engine, benchmarks: BenchmarkConfig, config: EvaluationConfig) -> None:
    if engine.tokenizer is None:
        check_chat_route(benchmarks.asked(config.tasks), config.prompting)
    elif config.prompting == "chat" and engine.tokenizer.chat_template is None:
        raise DataError("the tokenizer has no chat template; evaluate with evaluation.prompting=plain")
    if config.max_new_tokens > engine.max_tokens // 2:
        raise ConfigError("evaluation.max_new_tokens", f"{config.max_new_tokens} tokens for an answer leave less than half of "
                                                       f"the model's context of {engine.max_tokens} to the question; lower it")
    for name in benchmarks.asked(config.tasks):
        for code in config.languages:
            if code in ADDED and _has_files(name, code, benchmarks) and not load_tasks(
                    name, code, benchmarks.place(name), _sources(benchmarks, name, code, config)):
                raise ConfigError(f"benchmarks.files.{name}", f"there are rows in {code!r}, and {task_folder() / name}.yaml has "
                                                              "no line that asks them: docs/own_language.md shows one")


def _has_files(name: str, code: str, benchmarks: BenchmarkConfig) -> bool:
    """Return whether a benchmark has files of a language there, not files of all languages in one."""
    return (any("{" in pattern for pattern in BENCHMARKS[name].files["test"])
            and has_language(name, code, benchmarks.place(name)))


def _prompt_hash(samples: Sequence[Mapping[str, Any]]) -> str:
    """Return a digest of all requests: contexts and options, in order."""
    told = repr([one["arguments"] for one in samples])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _cut(engine: Engine, samples: Sequence[Mapping[str, Any]], task: Any) -> int:
    """Return how many items are longer than the context, so that the harness left their beginning out."""
    if engine.tokenizer is None:
        return 0  # the server refuses them
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return 0  # long texts are read window by window
    first = {one["doc_id"]: one["arguments"] for one in samples}
    answer = task.get_config("generation_kwargs")["max_gen_toks"] if task.OUTPUT_TYPE == "generate_until" else -1
    texts = [max(("".join(part for part in request if isinstance(part, str)) for request in requests), key=len)
             for requests in first.values()]
    lengths = [len(ids) for ids in engine.tokenizer(texts, add_special_tokens=False)["input_ids"]]
    return sum(length + answer > engine.max_tokens - 2 for length in lengths)


@contextmanager
def _endpoint_errors(engine: Engine) -> Iterator[None]:
    """Say of an endpoint that fails after all attempts who must act."""
    import aiohttp
    import requests

    try:
        yield
    except (aiohttp.ClientError, requests.RequestException, TimeoutError, ConnectionError) as error:
        said = f"{type(error).__name__}: {error}"
        raise MachineError(f"the endpoint failed while the harness asked it ({said}); see that the server is up") from error
