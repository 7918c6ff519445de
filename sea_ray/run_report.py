"""From the records of a finished experiment to what its report shows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import yaml

from sea_ray.artifacts import Artifact, plain, read_json
from sea_ray.config import ExperimentConfig
from sea_ray.decoding import decode
from sea_ray.evaluation.figures import Detail, EvalReport
from sea_ray.evaluation.published import published_rows
from sea_ray.evaluation.tables import MEAN, tables
from sea_ray.languages import LANGUAGES
from sea_ray.objective import Choice, SweepConfig
from sea_ray.pipeline import Experiment
from sea_ray.provenance import source_rows
from sea_ray.report.data import (
    Baseline,
    BitsRow,
    CorpusRow,
    Cost,
    Example,
    FigureRow,
    FunnelRow,
    Gate,
    LanguageMatrix,
    Limit,
    NeuronMap,
    NeuronRow,
    PublishedRow,
    ReportData,
    StageRow,
    Sweep,
    Training,
    TrialRow,
)
from sea_ray.run_findings import ARMS, chosen, figure_row, findings, not_shown, prompting_note, question, repeat_command, what_ran
from sea_ray.safety.gate import BALANCED_ACCURACY, FALSE_REFUSAL_RATE, UNSAFE_ANSWER_RATE, GateConfig

RIGHT_OR_WRONG = ("accuracy", "exact_match", "right_side")
"""Metrics whose score of one item is 1 or 0."""
BOOTSTRAP_SAMPLES = 2000


def bits_rows(reports: Mapping[str, EvalReport]) -> Iterator[BitsRow]:
    """Yield bits per byte per arm and language, with the paired bootstrap interval of the change over documents."""
    for model, arm in ARMS.items():
        if model not in reports:
            continue
        for code, before in reports["base"].of("text", "bits_per_byte").items():
            old, sizes = _document_bits(reports["base"], code)
            new, _ = _document_bits(reports[model], code)
            draws = np.random.default_rng(0).integers(0, len(sizes), (BOOTSTRAP_SAMPLES, len(sizes)))
            changes = new[draws].sum(1) / old[draws].sum(1) - 1.0
            low, high = np.quantile(changes, [0.025, 0.975])
            yield BitsRow(arm=arm, language=code, before=before.value, change_low=float(low), change_high=float(high),
                          after=reports[model].figure("text", "bits_per_byte", code).value, n=before.n)


def _document_bits(report: EvalReport, code: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [detail for detail in report.details if detail.task == "text" and detail.language == code]
    sizes = np.array([len(row.prompt.encode()) for row in rows], np.float64)
    return np.array([row.score for row in rows]) * sizes, sizes


def figure_rows(reports: Mapping[str, EvalReport]) -> Iterator[FigureRow]:
    """Yield every figure of the four compared models."""
    for model, report in reports.items():
        for figure in report.figures if model not in ARMS or model == "neuron-trained" else ():
            yield figure_row(model, figure)


def published() -> tuple[PublishedRow, ...]:
    """Return what others have published, as the page shows it."""
    return tuple(PublishedRow(**plain(row)) for row in published_rows())


def evaluation_data(report: EvalReport, command: str) -> ReportData:
    """Return what the page of `sea-ray evaluate` shows.

    Args:
        report: of the one model.
        command: repeats it.
    """
    return ReportData(
        experiment=report.model, made_at=time.strftime("%Y-%m-%d %H:%M"), title="sea_ray evaluation", command=command,
        figures=tuple(figure_row("measured", figure) for figure in report.figures), published=published(),
        config=yaml.safe_dump(plain(report.settings), allow_unicode=True, sort_keys=False))


def example_rows(reports: Mapping[str, EvalReport], models: tuple[str, ...]) -> Iterator[Example]:
    """Yield items of each task and language that are answered, with the models' answers, chosen by rule: the first, the one
    behind the middle, and the first that the last model got wrong."""
    items: dict[tuple[str, str], dict[int, dict[str, Detail]]] = {}
    for model in models:
        for detail in reports[model].details:
            if detail.metric != "bits_per_byte" and detail.turn == 1:
                items.setdefault((detail.language, detail.task), {}).setdefault(detail.item, {})[model] = detail
    for code in LANGUAGES:
        for (language, task), asked in items.items():
            if language == code:
                numbers = sorted(asked)
                wrong = [number for number in numbers if is_right(asked[number].get(models[-1])) is False]
                for number in dict.fromkeys([numbers[0], numbers[min(len(numbers) // 2 + 1, len(numbers) - 1)], *wrong[:1]]):
                    yield _example(task, asked[number])


def is_right(detail: Detail | None) -> bool | None:
    """Return whether an answer is right; None where it is neither right nor wrong."""
    return bool(detail.score) if detail and detail.metric in RIGHT_OR_WRONG else None


def _example(task: str, answers: Mapping[str, Detail]) -> Example:
    one = next(iter(answers.values()))
    verdicts = {model: is_right(detail) for model, detail in answers.items()}
    return Example(language=one.language, kind=task, prompt=one.prompt, reference=one.reference,
                   answers={model: detail.response for model, detail in answers.items()},
                   right={model: right for model, right in verdicts.items() if right is not None})


def sweep_row(choice: Choice, config: SweepConfig, name: str, note: str) -> Sweep:
    """Return a sweep with its trials."""
    trials = []
    for trial in choice.trials:
        facts = trial.artifact.facts if trial.artifact else {}
        figures = {key: float(value) for key, value in facts.items() if isinstance(value, int | float)}
        mixed = facts and any(path.startswith("sft.mix") for path in trial.point)
        shares = facts["training"]["realised_shares"] if mixed else {}
        trials.append(TrialRow(point=dict(trial.point), repetition=trial.repetition, figures=figures, outcome=trial.outcome,
                               error=trial.error, reused=trial.reused, shares=shares, on_front=trial.point in choice.front,
                               is_winner=trial.point == choice.winner.point))
    return Sweep(name=name, objectives=config.objectives, trials=tuple(trials), reason=choice.reason, note=note,
                 limits=tuple(Limit(figure=key, value=value) for key, value in config.at_most.items()))


def engine_text(execution: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return what computed a stage, in words."""
    training: Any = facts.get("training") or next(iter(facts.get("runs", facts.get("stages", {})).values()), {})
    engine = (training.get("training") or training).get("engine") if isinstance(training, Mapping) else None
    if engine:
        zero = f" ZeRO-{engine['zero_stage']}" if "zero_stage" in engine else ""
        return f"{engine['engine']} {engine.get('version', '')}{zero}, {execution.get('workers', 1)} workers"
    return f"{execution['num_shards']} shards" if "num_shards" in execution else "one process"


def training_row(name: str, facts: Mapping[str, Any], execution: Mapping[str, Any]) -> Training:
    """Return one training's curve and size."""
    return Training(name=name, losses=tuple((int(step), float(loss)) for step, loss in facts["losses"]), steps=facts["steps"],
                    tokens=facts["tokens"], seconds=facts["seconds"], trained_values=facts["trained_values"],
                    total_values=facts["total_values"], engine=engine_text(execution, {"training": facts}),
                    shares=facts["realised_shares"] if len(facts["realised_shares"]) > 1 else {},
                    held_out=tuple((int(step), sum(nats.values()) / len(nats)) for step, nats in facts["held_out"] if nats))


def training_rows(experiment: Experiment) -> Iterator[Training]:
    """Yield the trainings that led to the winner, and the controls."""
    winner_packs = chosen(experiment.thresholds)
    base = experiment.base.record
    if base["facts"]["training"]:
        name = "base, embeddings for new pieces" if "extension" in base["facts"] else "base"
        yield training_row(name, base["facts"]["training"], base["execution"])
    if base["facts"]["annealing"]:
        yield training_row("base, annealing", base["facts"]["annealing"], base["execution"])
    for code, run in winner_packs.facts["runs"].items():
        yield training_row(f"neurons {code}", run["training"], winner_packs.record["execution"])
    for control, artifact in experiment.controls.items():
        if "training" in artifact.facts:
            yield training_row(ARMS[control], artifact.facts["training"], artifact.record["execution"])
    for arm, artifact in (("SFT, stage 1", chosen(experiment.mixes)), ("SFT, stage 2", experiment.winner),
                          ("SFT, stage 2 without safety", experiment.without_safety)):
        yield training_row(arm, artifact.facts["training"], artifact.record["execution"])


def tokens_trained(facts: Mapping[str, Any]) -> int:
    """Return the tokens of a stage's trainings, 0 of a stage without."""
    own = [facts.get("training"), facts.get("annealing"), *(run["training"] for run in facts.get("runs", {}).values())]
    return sum(training["tokens"] for training in own if training)


def stage_rows(record: Mapping[str, Any], artifacts: Mapping[str, Artifact]) -> Iterator[StageRow]:
    """Yield the run's stages with what computed them."""
    for row in record["stages"]:
        made = artifacts[row["fingerprint"]].record
        yield StageRow(name=row["name"], kind=row["kind"], seconds=row["seconds"], reused=row["reused"],
                       fingerprint=row["fingerprint"], engine=engine_text(made["execution"], made["facts"]),
                       peak_memory_bytes=made["execution"].get("peak_memory_bytes", 0))


def matrices(facts: Mapping[str, Any]) -> tuple[LanguageMatrix, tuple[LanguageMatrix, ...]]:
    """Return the overlap of the sets and the interference of the packs."""
    overlap, report = facts["overlap"], facts["interference"]
    rows = _rows
    return (
        LanguageMatrix(name="Neurons that two languages share, of the smaller set", kind="share",
                       languages=tuple(overlap["languages"]), values=rows(overlap["shares"])),
        (LanguageMatrix(name="Neurons that two packs both change", kind="count", languages=tuple(report["languages"]),
                        values=rows(report["shared"]), note="On the diagonal a pack's own."),
         LanguageMatrix(name="Cosine of two packs' changes where they meet", kind="cosine",
                        languages=tuple(report["languages"]), values=rows(report["cosine"]),
                        note="1 they agree, 0 unrelated, -1 they undo each other.")))


def _rows(values: list[list[Any]]) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(row) for row in values)


def neuron_parts(experiment: Experiment) -> tuple[tuple[NeuronRow, ...], tuple[NeuronMap, ...]]:
    """Return the winner's selected neurons: totals, and counts per layer and site."""
    facts = chosen(experiment.thresholds).facts
    shape = read_json(experiment.base.folder / "config.json")  # of a checkpoint the experiment does not know it
    per_layer = {"ffn": shape["intermediate_size"], "q": shape["hidden_size"],
                 "k": shape["hidden_size"] // shape["num_attention_heads"] * shape["num_key_value_heads"]}
    per_layer["v"] = per_layer["k"]
    rows = tuple(NeuronRow(language=code, neurons=count, parameter_share=facts["parameter_share"][code],
                           stability=facts["stability"].get(code)) for code, count in facts["neurons"].items())
    maps = tuple(NeuronMap(language=code, site=site, counts=tuple(counts), per_layer=per_layer[site])
                 for code, sites in facts["counts"].items() for site, counts in sites.items())
    return rows, maps


def gate_row(experiment: Experiment, config: GateConfig) -> Gate:
    """Return the verdict of the safety gate with its limits and what was read."""
    facts = experiment.gate.facts
    return Gate(passed=facts["passed"], reasons=tuple(facts["reasons"]), figures=facts["figures"], limits=(
        Limit(figure=BALANCED_ACCURACY, value=config.min_balanced_accuracy, kind="at least"),
        Limit(figure=FALSE_REFUSAL_RATE, value=config.max_false_refusal),
        Limit(figure=UNSAFE_ANSWER_RATE, value=config.max_unsafe_rate)))


def baseline_rows(reports: Mapping[str, EvalReport]) -> Iterator[Baseline]:
    """Yield what a figure must beat to mean something."""
    for one in tables(list(reports.values())):
        for column in one.columns:
            if column.kind == "baseline":
                cells = column.cells
                yield Baseline(task=one.task, metric=one.metric, label=column.model,
                               value=(cells[MEAN] if MEAN in cells else next(iter(cells.values()))).value)
    yield Baseline(task="exam", metric="accuracy", label="guessing", value=0.25)


def report_data(experiment: Experiment, record: Mapping[str, Any]) -> ReportData:
    """Return everything that the page shows.

    Args:
        experiment: the finished results.
        record: the run's record: name, overrides, config, versions, seconds, memory, stages.
    """
    reports = {name: EvalReport.load(artifact.folder) for name, artifact in experiment.evaluations.items()}
    config = decode(ExperimentConfig, record["config"])
    bits = list(bits_rows(reports))
    found, absent = findings(bits, reports, experiment)
    overlap, interference = matrices(chosen(experiment.thresholds).facts)
    rows, maps = neuron_parts(experiment)
    artifacts = {item.fingerprint: item for item in experiment.artifacts()}
    facts = experiment.corpus.facts
    return ReportData(
        experiment=record["name"], made_at=record["made_at"], question=question(config), ran=what_ran(experiment, config),
        command=repeat_command(record["overrides"]), versions=record["versions"],
        config=yaml.safe_dump(record["config"], allow_unicode=True, sort_keys=False), winner="winner",
        headline=(("refusal", "balanced_accuracy"), ("safety_general", "unsafe_answered"), ("safety_culture", "over_refusal"),
                  ("exam", "accuracy"), ("translation", "chrf_into_english"), ("text", "bits_per_byte")),
        found=tuple(found), not_found=tuple(absent), not_shown=not_shown(experiment.base, config),
        figures=tuple(figure_rows(reports)), bits=tuple(bits), baselines=tuple(baseline_rows(reports)), published=published(),
        gate=gate_row(experiment, config.safety.gate), examples=tuple(example_rows(reports, ("base", "winner"))),
        sweeps=(sweep_row(experiment.thresholds, config.sweep.neurons, "Neurons of each language",
                          "Each trial trains the neurons of all SEA languages and merges them; read on the validation part."),
                sweep_row(experiment.mixes, config.sweep.mixes, "Fine-tuning",
                          "Each trial fine-tunes the merged model in stage 1; read on validation questions. The winner goes on "
                          "into stage 2.")),
        neuron_rows=rows, neuron_maps=maps, overlap=overlap, interference=interference,
        trainings=tuple(training_rows(experiment)),
        corpus=tuple(CorpusRow(language=code, split=split, **size) for code, splits in facts["sizes"].items()
                     for split, size in splits.items()),
        funnel=tuple(FunnelRow(**row) for row in facts["funnel"]),
        sources=tuple(source_rows(config, facts)), stages=tuple(stage_rows(record, artifacts)),
        cost=Cost(wall_s=record["seconds"], peak_memory_bytes=record["peak_memory_bytes"], machine=record["machine"],
                  tokens_trained=sum(tokens_trained(item.facts) for item in artifacts.values()), usd=record.get("usd")),
        notes={"trainings": "Those that led to the winner, and the controls; the losing trials stand among the stages.",
               "bits": "Held-out test documents, before fine-tuning; intervals by bootstrap over documents, paired with the "
                       "base.",
               "figures": prompting_note(reports),
               "examples": "Of each task the first question, the one behind the middle, and the first that the winner got wrong: "
                           "chosen by rule, not by taste."})
