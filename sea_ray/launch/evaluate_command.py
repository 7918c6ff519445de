"""`sea-ray evaluate`: public benchmarks on any checkpoint or endpoint, without an experiment."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.text import Text

from sea_ray.artifacts import fingerprint, read_json, write_json
from sea_ray.config import BaseModelConfig
from sea_ray.decoding import decode
from sea_ray.errors import ConfigError, nearest
from sea_ray.evaluation.benchmark_sources import BENCHMARKS, HUB
from sea_ray.evaluation.benchmarks import (
    OWN,
    BenchmarkConfig,
    check_chat_route,
    input_digests,
    own_items,
    task_digests,
)
from sea_ray.evaluation.benchmarks import held_out as texts_held_out
from sea_ray.evaluation.config import TASKS, EvaluationConfig
from sea_ray.languages import TWELVE
from sea_ray.launch.console import ConsoleTracker, print_json
from sea_ray.launch.key_values import key_values
from sea_ray.plan import checkpoint_digests
from sea_ray.tracking import Tracker

if TYPE_CHECKING:
    from sea_ray.evaluation.contamination import HeldOutText
    from sea_ray.evaluation.figures import EvalReport
    from sea_ray.stages.overlap import Overlap

_PROBE, _PROBE_TOKENS = "The rivers of the north were wide, ความรู้ 1.234,5", 32
_OVERLAP_VERSION = 2
"""Of overlap.json: 2 names all items that have the same words."""
_NAMED = 5
"""Rows of training data that are named on the terminal."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What `sea-ray evaluate` is told."""

    model: str | None = None
    """Folder or Hub id (owner/name, owner/name@REVISION) of a checkpoint that is loaded here."""
    endpoint: str | None = None
    """Root of an OpenAI-compatible API instead, such as http://127.0.0.1:8000/v1; its key is in SEA_RAY_API_KEY."""
    route: Literal["completions", "chat"] = "completions"
    """Of an endpoint: /completions with token ids, which scores and writes, or /chat/completions, which only writes."""
    served_model: str = "sea-ray"
    """Name of the model behind the endpoint."""
    tokenizer: str | None = None
    """Folder of the served checkpoint, or of its tokenizer; the chat route needs none."""
    max_tokens: int | None = None
    """Context length behind the endpoint; null reads it in config.json beside the tokenizer."""
    tasks: tuple[str, ...]
    """Benchmarks."""
    languages: tuple[str, ...] = tuple(TWELVE)
    """Languages; what a benchmark lacks is left out."""
    root: str | None = None
    """Folder of the benchmarks' files; null takes them from the Hub."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Benchmark -> its folder or file below root, if it has not the benchmark's name."""
    items: int = sys.maxsize
    """Most items of a benchmark and language, evenly over its rows; 0 or nothing: all."""
    pairs: tuple[str, ...] = EvaluationConfig.pairs
    """Directions of flores."""
    prompting: Literal["chat", "plain"] = "chat"
    """In the model's chat format, or as text that it continues (base models)."""
    max_new_tokens: int = 256
    """Longest answer, tokens."""
    dialogue_tokens: int = EvaluationConfig.dialogue_tokens
    """Longest answer to a turn of seabench, tokens."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the checkpoint is loaded; auto takes an accelerator if there is one."""
    out: str | None = None
    """Folder of report.json, report.html, details.jsonl and the kept answers; null is evaluations/ and the model's name."""
    format: Literal["text", "markdown", "latex", "json"] = "text"
    """How the table is printed."""

    def __post_init__(self) -> None:
        if (self.model is None) == (self.endpoint is None):
            raise ConfigError("model", "name either a checkpoint, model=FOLDER_OR_ID, or an endpoint, endpoint=URL")
        if self.route == "chat" and self.endpoint is None:
            raise ConfigError("route", "a chat route is an endpoint's; name it with endpoint=URL")
        if self.endpoint is not None and self.route == "completions" and self.tokenizer is None:
            raise ConfigError("tokenizer", "an endpoint is asked with token ids: name the folder of the checkpoint's tokenizer, "
                                           "or set route=chat, which needs none and scores nothing")
        known = {**BENCHMARKS, **OWN}
        for name in self.tasks:
            if name not in known:
                raise ConfigError("tasks", f"unknown benchmark {name!r}{nearest(name, known)}")
        if not self.tasks:
            raise ConfigError("tasks", f"name some of {', '.join(known)}")
        if self.route == "chat":
            check_chat_route(self.tasks, self.prompting)

    @property
    def benchmarks(self) -> BenchmarkConfig:
        """Where the benchmarks lie."""
        places = {name: self.files.get(name, HUB if self.root is None else name) for name in self.tasks}
        return BenchmarkConfig(root=self.root or "", files=places)

    @property
    def evaluation(self) -> EvaluationConfig:
        """How they are asked."""
        items = self.items or sys.maxsize
        return EvaluationConfig(languages=self.languages, tasks=TASKS, items=items, texts=items, pairs=self.pairs,
                                prompting=self.prompting, max_new_tokens=self.max_new_tokens,
                                dialogue_tokens=self.dialogue_tokens)


class _Figures(ConsoleTracker):
    """Shows each figure as it comes."""

    def log(self, step: int | None = None, **figures: float) -> None:
        """Print a line."""
        for name, value in figures.items():
            self.console.print(Text(f"    {name} {value:.4f}", style="dim"))


def evaluate(overrides: Sequence[str], console: Console, *, as_json: bool = False) -> int:
    """Ask a model the benchmarks, print and write what came of it, and return the exit code.

    Args:
        overrides: settings of EvaluateConfig as key=value.
        console: where a person looks.
        as_json: print the report for machines in place of the table.

    Raises:
        SeaRayError: what was refused.
    """
    config = decode(EvaluateConfig, _settings(overrides))
    benchmarks = config.benchmarks
    digests = input_digests(benchmarks)
    held_out = list(texts_held_out(benchmarks, config.languages))  # a wrong row is refused before anything is loaded or asked

    from sea_ray.corpus.identification import is_written_in
    from sea_ray.evaluation.figures import EvalReport
    from sea_ray.evaluation.harness import evaluate_benchmarks, with_benchmarks
    from sea_ray.evaluation.items import Suite
    from sea_ray.evaluation.kept_answers import KeptAnswers
    from sea_ray.evaluation.published import published_rows
    from sea_ray.evaluation.suite import evaluate as ask_own
    from sea_ray.evaluation.suite import how_asked
    from sea_ray.evaluation.tables import tables, written
    from sea_ray.safety.refusals import RefusalDetector

    name, identity, generator, engine = _models(config)
    folder = Path(config.out or f"evaluations/{re.sub('[^A-Za-z0-9.-]+', '_', name).strip('_')}")
    tracker = _Figures(Console(stderr=True, highlight=False, soft_wrap=True))
    overlaps, unknown = _overlaps(config, held_out, digests, folder, tracker)
    report = EvalReport(model=name, figures=(), settings=how_asked(config.evaluation, identity))
    items = own_items(benchmarks, config.evaluation)
    if items != Suite():
        kept_answers = KeptAnswers(generator(), folder / f"own-answers-{identity}.db")
        report = ask_own(kept_answers, items, config.evaluation, RefusalDetector().is_refusal, is_written_in, model=name,
                         checkpoint=identity, tracker=tracker)
    if benchmarks.asked(config.evaluation.tasks):
        kept = engine().cached(folder / f"answers-{identity}.db")
        report = with_benchmarks(report, evaluate_benchmarks(kept, benchmarks, config.evaluation, tracker))
    counted = Counter(f"{task}/{code}" for task, code, _ in {(one.benchmark, one.language, one.item) for one in overlaps})
    report = replace(report, settings={**report.settings, "files": digests | task_digests(benchmarks),
                                       "overlap": {"items": dict(sorted(counted.items())), "unknown": unknown}})
    report.save(folder)
    _write_page(report, overlaps, overrides, folder / "report.html")
    if as_json:
        print_json({"model": report.model, "folder": str(folder), "settings": report.settings, "figures": report.figures})
    else:
        print(written(tables([report], published_rows()), config.format))
    tracker.note(f"written to {folder}")
    return 0


def _settings(overrides: Sequence[str]) -> dict[str, Any]:
    """Return what EvaluateConfig is made from; files.NAME=PLACE adds to files."""
    settings = key_values(overrides, "tasks=[m3exam,mgsm]")
    nested = {path.removeprefix("files."): settings.pop(path) for path in list(settings) if path.startswith("files.")}
    files = settings.get("files", {})
    return settings | {"files": files | nested} if nested and isinstance(files, dict) else settings


def _overlaps(config: EvaluateConfig, held_out: Sequence[HeldOutText], digests: Mapping[str, str], folder: Path, tracker: Tracker
              ) -> tuple[list[Overlap], list[str]]:
    """Say where items stand in what the model was trained on, write it into overlap.json, and return it and what is not known."""
    from sea_ray.stages.overlap import Overlap, TrainingData, find_overlaps

    training = TrainingData(config.model or config.tokenizer or str(config.endpoint))
    file, key = folder / "overlap.json", fingerprint([_OVERLAP_VERSION, digests, config.languages, training.fingerprints])
    kept = read_json(file) if file.exists() else {}
    if kept.get("key") == key:
        found = [Overlap(**one) for one in kept["found"]]
    else:
        found = find_overlaps(training, held_out) if training.fingerprints else []
        write_json(file, {"key": key, "found": found})
    for one in found[:_NAMED]:
        tracker.note(f"trained on the test: {one}")
    if len(found) > _NAMED:
        tracker.note(f"and {len(found) - _NAMED:,} more rows; all of them are in {file}")
    for what in training.unknown:
        tracker.note(f"not looked into for items of the test: {what}")
    return found, training.unknown


def _write_page(report: EvalReport, overlaps: Sequence[Overlap], overrides: Sequence[str], file: Path) -> None:
    from sea_ray.report.evaluation_page import evaluation_page
    from sea_ray.report.page import write_page
    from sea_ray.run_report import evaluation_data

    data = evaluation_data(report, shlex.join(["sea-ray", "evaluate", *overrides]))
    rows = [(f"{one.benchmark}/{one.language} item {one.item}", one.file, one.row) for one in overlaps]
    write_page(evaluation_page(data, rows, report.settings["overlap"]["unknown"]), file)


def _models(config: EvaluateConfig) -> tuple[str, str, Callable[[], Any], Callable[[], Any]]:
    """Return a model's name, a digest of what it is, and what makes it ready for own questions and for the harness."""
    import torch

    from sea_ray.evaluation.harness_models import in_process, through_chat, through_endpoint
    from sea_ray.evaluation.local import LocalGenerator
    from sea_ray.evaluation.remote import ChatGenerator, HttpGenerator
    from sea_ray.training.checkpoint import Checkpoint

    if config.endpoint is None:
        assert config.model is not None
        checkpoint = Checkpoint.from_hub_or_path(config.model)
        tokenizer = checkpoint.load_tokenizer()
        device = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
        model = checkpoint.load_for(torch.device(device))
        identity = fingerprint(checkpoint_digests(BaseModelConfig(checkpoint=str(checkpoint.folder))))
        return config.model, identity, lambda: LocalGenerator(model, tokenizer), lambda: in_process(model, tokenizer)
    place = config.endpoint, os.environ.get("SEA_RAY_API_KEY", ""), config.served_model
    name = f"{config.served_model} at {config.endpoint}"
    # What it says of a text tells a checkpoint from the next one that is served under its name.
    if config.route == "chat":
        chat = ChatGenerator(*place)
        answer = chat.chat([[{"role": "user", "content": _PROBE}]], _PROBE_TOKENS)
        return name, fingerprint([config.endpoint, config.served_model, answer]), lambda: chat, lambda: through_chat(*place)
    assert config.tokenizer is not None
    served = Checkpoint(Path(config.tokenizer).expanduser())
    tokenizer = served.load_tokenizer()
    max_tokens = config.max_tokens or served.max_tokens
    own = HttpGenerator(*place, tokenizer, max_tokens=max_tokens)
    said = [round(nats, 2) for nats in own.rolling_loglikelihoods([_PROBE])]
    return (name, fingerprint([config.endpoint, config.served_model, said]), lambda: own,
            lambda: through_endpoint(*place, served.folder, tokenizer, max_tokens))
