"""The page of a run that has not finished: what is there by now, and what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from sea_ray.artifacts import Artifact
from sea_ray.config import ExperimentConfig
from sea_ray.decoding import decode
from sea_ray.evaluation.figures import EvalReport
from sea_ray.execution import Stage, Trial
from sea_ray.objective import SweepConfig
from sea_ray.provenance import source_rows
from sea_ray.report.data import CorpusRow, FunnelRow, Limit, Part, ReportData, StageRow, Sweep, Training, TrialRow
from sea_ray.run_findings import question, repeat_command
from sea_ray.run_report import bits_rows, engine_text, figure_rows, training_row

_KINDS: Mapping[Part, tuple[str, ...]] = {
    "corpus": ("corpus",), "figures": ("evaluation",), "bits": ("evaluation",), "examples": ("evaluation",), "gate": ("gate",),
    "neurons": ("neurons",), "overlap": ("neurons",), "interference": ("neurons",), "sweeps": ("neurons", "sft"),
    "trainings": ("base", "neurons", "sft")}
"""Part of the page -> the kinds of stages that it is made from."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far an experiment is: its stages in order, with the result of those that have one."""

    stages: Sequence[tuple[Stage, Artifact | None]]
    sweeps: Mapping[str, Sequence[Trial]]
    """Name of a sweep -> its trials; one that has not finished has no artifact."""

    @property
    def finished(self) -> list[tuple[Stage, Artifact]]:
        """The stages that have a result."""
        return [(stage, artifact) for stage, artifact in self.stages if artifact is not None]

    @property
    def waiting(self) -> list[Stage]:
        """The stages that have none."""
        return [stage for stage, artifact in self.stages if artifact is None]


def unfinished_data(progress: Progress, asked: Mapping[str, Any], made_at: str) -> ReportData:
    """Return everything that the page of an unfinished run shows.

    Args:
        progress: what is there.
        asked: what the run wrote at its start: name, overrides, config.
        made_at: date and time, as it shall read.
    """
    config = decode(ExperimentConfig, asked["config"])
    done = progress.finished
    of_kind = {artifact.kind: artifact for _, artifact in reversed(done)}
    reports = {stage.config.model: EvalReport.load(artifact.folder) for stage, artifact in done if artifact.kind == "evaluation"}
    corpus = of_kind["corpus"].facts if "corpus" in of_kind else None
    data = ReportData(
        experiment=asked["name"], made_at=made_at, title="sea_ray: not finished", question=question(config), ran=_ran(progress),
        command=repeat_command(asked["overrides"]),
        config=yaml.safe_dump(asked["config"], allow_unicode=True, sort_keys=False),
        not_shown=("Which settings win, before the sweeps have finished.",) if progress.waiting else (),
        stages=tuple(StageRow(name=stage.name, kind=stage.kind, seconds=artifact.record["seconds"], reused=False,
                              fingerprint=artifact.fingerprint,
                              engine=engine_text(artifact.record["execution"], artifact.facts),
                              peak_memory_bytes=artifact.record["execution"].get("peak_memory_bytes", 0))
                     for stage, artifact in done),
        trainings=tuple(_trainings(done)), figures=tuple(figure_rows(reports)),
        bits=tuple(bits_rows(reports)) if "base" in reports else (),
        sweeps=tuple(_sweep(title, progress.sweeps[name], search) for name, title, search in (
            ("neurons", "Neurons of each language", config.sweep.neurons), ("sft", "Fine-tuning", config.sweep.mixes))
            if any(trial.artifact for trial in progress.sweeps.get(name, ()))))
    if corpus is not None:
        data = replace(data, funnel=tuple(FunnelRow(**row) for row in corpus["funnel"]),
                       sources=tuple(source_rows(config, corpus)),
                       corpus=tuple(CorpusRow(language=code, split=split, **size) for code, splits in corpus["sizes"].items()
                                    for split, size in splits.items()))
    return replace(data, missing=_missing(progress))


def _ran(progress: Progress) -> str:
    """Return how far the run is, in words."""
    done, waiting = [stage for stage, _ in progress.finished], progress.waiting
    lists = [f"{name}: {_kinds(stages)}." for name, stages in (("There", done), ("Not there yet", waiting)) if stages]
    return " ".join([f"This run has not finished: {len(done)} of {len(progress.stages)} stages are there.", *lists,
                     "The same command goes on with the others."])


def _kinds(stages: Sequence[Stage]) -> str:
    counts = Counter(stage.kind.replace("_", " ") for stage in stages)
    return ", ".join(kind + (f" ({number})" if number > 1 else "") for kind, number in counts.items())


def _missing(progress: Progress) -> dict[Part, str]:
    found: dict[Part, str] = {}
    for part, kinds in _KINDS.items():
        names = [stage.name for stage in progress.waiting if stage.kind in kinds]
        if names:
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            found[part] = f"Not there yet: {', '.join(names[:4])}{more}."
    for part in ("neurons", "overlap", "interference"):
        found.setdefault(part, "The page of the finished run shows it, of the winner.")
    return found


def _trainings(done: Sequence[tuple[Stage, Artifact]]) -> Iterator[Training]:
    """Yield the trainings that have finished."""
    for stage, artifact in done:
        facts, execution = artifact.facts, artifact.record["execution"]
        if facts.get("training"):
            yield training_row(stage.name, facts["training"], execution)
        for code, run in facts.get("runs", {}).items():
            yield training_row(f"{stage.name} {code}", run["training"], execution)


def _sweep(title: str, trials: Sequence[Trial], search: SweepConfig) -> Sweep:
    rows = []
    for trial in trials:
        facts = trial.artifact.facts if trial.artifact else {}
        figures = {key: float(value) for key, value in facts.items() if isinstance(value, int | float)}
        rows.append(TrialRow(point=dict(trial.point), repetition=trial.repetition, figures=figures,
                             outcome="finished" if trial.artifact else "to do", error="not there yet"))
    return Sweep(name=title, trials=tuple(rows), objectives=search.objectives,
                 limits=tuple(Limit(figure=key, value=value) for key, value in search.at_most.items()))
