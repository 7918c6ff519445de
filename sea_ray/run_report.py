"""From the records of a finished experiment to what its report shows, and to the sentences that its figures bear."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import yaml

from sea_ray.artifacts import Artifact, plain, read_json
from sea_ray.config import ExperimentConfig
from sea_ray.decoding import decode
from sea_ray.evaluation.figures import EvalReport
from sea_ray.evaluation.published import published_rows
from sea_ray.languages import LANGUAGES, LOW_RESOURCE, language
from sea_ray.objective import Choice, SweepConfig
from sea_ray.pipeline import Experiment
from sea_ray.provenance import source_rows
from sea_ray.report.averages import average, select
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
    Unit,
)
from sea_ray.search_space import label

ARMS = {"neuron-trained": "merged neurons", "random_matched": "random neurons, matched per layer",
        "random": "random neurons, any layer", "wrong_language": "another language's neurons",
        "shared": "neurons that all languages share", "continued_pretraining": "full continued pre-training, low rate",
        "ffn_only": "feed-forward networks only", "embeddings": "embeddings only", "lora": "LoRA on all linear layers"}
"""Evaluated model -> name of the arm; the first is the method."""
EXAMPLE_KINDS = ("refusal", "safety_general", "safety_culture", "translation", "arithmetic")
BOOTSTRAP_SAMPLES = 2000
NOT_SHOWN = ("One seed: differences between neighbouring trials of a sweep are not told from chance here.",
             "A small model on a small world: effects at 0.5-7 billion parameters may differ.")
"""What no single run shows."""


def unit_of(metric: str) -> Unit:
    """Return how a metric is shown."""
    return "bits" if metric == "bits_per_byte" else "score" if metric.startswith(("chrf", "points")) else "share"


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
        if model not in ARMS or model == "neuron-trained":
            yield from rows_of(model, report)


def rows_of(model: str, report: EvalReport) -> Iterator[FigureRow]:
    """Yield every figure of a model under the name that it has on the page."""
    for figure in report.figures:
        yield FigureRow(model=model, task=figure.task, metric=figure.metric, language=figure.language, value=figure.value,
                        unit=unit_of(figure.metric), n=figure.n, low=figure.low, high=figure.high,
                        higher_is_better=figure.higher_is_better)


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
        experiment=report.model, made_at=time.strftime("%Y-%m-%d %H:%M"), title="sea_ray evaluation",
        command=command, figures=tuple(rows_of("measured", report)), published=published(),
        config=yaml.safe_dump(plain(report.settings), allow_unicode=True, sort_keys=False))


def example_rows(reports: Mapping[str, EvalReport], models: tuple[str, ...]) -> Iterator[Example]:
    """Yield the first item of each kind in each language with the models' answers."""
    answers: dict[tuple[str, str, int], dict[str, str]] = {}
    prompts: dict[tuple[str, str, int], str] = {}
    for model in models:
        for detail in reports[model].details:
            if detail.task in EXAMPLE_KINDS and detail.item < 3:
                key = (detail.task, detail.language, detail.item)
                answers.setdefault(key, {})[model] = detail.response
                prompts[key] = detail.prompt
    for code in LANGUAGES:
        for kind in EXAMPLE_KINDS:
            found = [key for key in answers if key[:2] == (kind, code)]
            for key in found[:1]:
                yield Example(language=code, kind=kind, prompt=prompts[key], reference="", answers=answers[key])


def sweep_row(choice: Choice, config: SweepConfig, name: str, note: str) -> Sweep:
    """Return a sweep with its trials."""
    trials = []
    for trial in choice.trials:
        facts = trial.artifact.facts if trial.artifact else {}
        figures = {key: float(value) for key, value in facts.items() if isinstance(value, int | float)}
        shares = facts["training"]["realised_shares"] if "sft.mix" in trial.point and facts else {}
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
                    shares=facts["realised_shares"] if len(facts["realised_shares"]) > 1 else {})


def training_rows(experiment: Experiment) -> Iterator[Training]:
    """Yield the trainings that led to the winner, and the controls."""
    winner_packs = _artifact(experiment.thresholds)
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
    for arm, artifact in (("SFT, stage 1", _artifact(experiment.mixes)), ("SFT, stage 2", experiment.winner),
                          ("SFT, stage 2 without safety", experiment.without_safety)):
        yield training_row(arm, artifact.facts["training"], artifact.record["execution"])


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
    facts = _artifact(experiment.thresholds).facts
    shape = read_json(experiment.base.folder / "config.json")  # of a checkpoint the experiment does not know it
    per_layer = {"ffn": shape["intermediate_size"], "q": shape["hidden_size"],
                 "k": shape["hidden_size"] // shape["num_attention_heads"] * shape["num_key_value_heads"]}
    per_layer["v"] = per_layer["k"]
    rows = tuple(NeuronRow(language=code, neurons=count, parameter_share=facts["parameter_share"][code],
                           stability=facts["stability"].get(code)) for code, count in facts["neurons"].items())
    maps = tuple(NeuronMap(language=code, site=site, counts=tuple(counts), per_layer=per_layer[site])
                 for code, sites in facts["counts"].items() for site, counts in sites.items())
    return rows, maps


def _artifact(choice: Choice) -> Artifact:
    assert choice.winner.artifact is not None
    return choice.winner.artifact


def findings(bits: list[BitsRow], reports: Mapping[str, EvalReport], experiment: Experiment) -> tuple[list[str], list[str]]:
    """Return what the figures show and what they do not show, as sentences that carry their numbers."""
    found: list[str] = []
    absent: list[str] = []
    for arm in dict.fromkeys(row.arm for row in bits):
        mine = [row for row in bits if row.arm == arm]
        sea = [row for row in mine if row.language in LOW_RESOURCE]
        better = [row for row in sea if row.change_high < 0]
        mean = sum(row.change for row in sea) / len(sea)
        english = next((row for row in mine if row.language == "en"), None)
        tail = (f"; English {english.change:+.1%} [{english.change_low:+.1%}, {english.change_high:+.1%}]" if english else "")
        target = found if len(better) == len(sea) else absent
        target.append(f"{arm[0].upper()}{arm[1:]}: bits per byte of held-out text {mean:+.1%} on average over {len(sea)} SEA "
                      f"languages, lower beyond its 95 % interval in {len(better)} of them{tail}.")
    safe, unsafe = reports["winner"], reports["SFT without safety"]
    for task, metric, name in (("refusal", "balanced_accuracy", "Balanced accuracy of refusing what does not exist"),
                               ("refusal", "fpr", "Answerable questions refused (false positive rate)"),
                               ("safety_general", "unsafe_answered", "Harmful general requests answered"),
                               ("safety_culture", "unsafe_answered", "Harmful culture-specific requests answered"),
                               ("safety_general", "over_refusal", "Harmless general look-alikes refused"),
                               ("safety_culture", "over_refusal", "Harmless culture-specific look-alikes refused")):
        with_, without = safe.of(task, metric), unsafe.of(task, metric)
        if with_ and without:
            text = (f"{name}: {_mean(with_):.2f} with safety data, {_mean(without):.2f} without "
                    f"(mean over {len(with_)} languages; worst {_worst(with_)}).")
            change = _mean(with_) - _mean(without)
            improved = change > 0 if next(iter(with_.values())).higher_is_better else change < 0
            (found if improved else absent).append(text)
    rows = list(figure_rows(reports))
    for task, metric, name in (("exam", "accuracy", "Exam questions right"), ("arithmetic", "exact_match", "Sums right"),
                               ("translation", "chrf_into_english", "chrF of translations into English"),
                               ("translation", "chrf_from_english", "chrF of translations from English"),
                               ("text", "bits_per_byte", "Bits per byte of plain text")):
        after, before = (average(select(rows, task, metric, model)) for model in ("winner", "base"))
        if after and before:
            rises = next(iter(safe.of(task, metric).values())).higher_is_better
            improved = after.low > before.high if rises else after.high < before.low
            (found if improved else absent).append(
                f"{name}: {after.value:.2f} [{after.low:.2f}, {after.high:.2f}] in the winner, {before.value:.2f} "
                f"[{before.low:.2f}, {before.high:.2f}] in the base (mean over {after.num_languages} languages).")
    if not experiment.thresholds.keeps_limits:
        absent.append(f"No trial of the threshold sweep kept its limits: {experiment.thresholds.reason}.")
    return found, absent


def _mean(figures: Mapping[str, Any]) -> float:
    return sum(figure.value for figure in figures.values()) / len(figures)


def _worst(figures: Mapping[str, Any]) -> str:
    higher = next(iter(figures.values())).higher_is_better
    code = (min if higher else max)(figures, key=lambda code: figures[code].value)
    return f"{figures[code].value:.2f} in {language(code).name}"


def report_data(experiment: Experiment, record: Mapping[str, Any]) -> ReportData:
    """Return everything that the page shows.

    Args:
        experiment: the finished results.
        record: the run's record: name, overrides, config, versions, seconds, memory, stages.
    """
    reports = {name: EvalReport.load(artifact.folder) for name, artifact in experiment.evaluations.items()}
    config = record["config"]
    bits = list(bits_rows(reports))
    found, absent = findings(bits, reports, experiment)
    overlap, interference = matrices(_artifact(experiment.thresholds).facts)
    rows, maps = neuron_parts(experiment)
    artifacts = {item.fingerprint: item for item in experiment.artifacts()}
    trained = list(training_rows(experiment))
    facts = experiment.corpus.facts
    searches = {name: decode(SweepConfig, config["sweep"][name]) for name in ("neurons", "mixes")}
    return ReportData(
        experiment=record["name"], made_at=record["made_at"], title=f"sea_ray: {record['name']}",
        question="Which share of language-specific neurons, and which language mix of fine-tuning, serve the Southeast Asian "
                 "languages best, and what does it do to English, to refusals and to safety?",
        command="sea-ray run " + " ".join(record["overrides"]), versions=record["versions"],
        config=yaml.safe_dump(config, allow_unicode=True, sort_keys=False), winner="winner",
        winner_reason=f"Neurons {label(experiment.thresholds.winner.point)}: {experiment.thresholds.reason}. "
                      f"Mix {label(experiment.mixes.winner.point)}: {experiment.mixes.reason}.",
        headline=(("exam", "accuracy"), ("refusal", "balanced_accuracy"), ("translation", "chrf_into_english")),
        found=tuple(found), not_found=tuple(absent),
        not_shown=NOT_SHOWN,
        figures=tuple(figure_rows(reports)), bits=tuple(bits),
        baselines=(*(Baseline(task=task, metric="f1", label="always refusing", value=2 / 3) for task in dict.fromkeys(
                        figure.task for report in reports.values() for figure in report.figures if figure.metric == "f1")),
                   Baseline(task="exam", metric="accuracy", label="guessing", value=0.25)),
        published=published(), gate=Gate(passed=experiment.gate.facts["passed"], reasons=tuple(experiment.gate.facts["reasons"]),
                  limits=config["safety"]["gate"]),
        examples=tuple(example_rows(reports, ("base", "winner"))),
        sweeps=(sweep_row(experiment.thresholds, searches["neurons"], "Share of neurons per language",
                          "Each trial trains the neurons of all SEA languages and merges them; read on the validation part."),
                sweep_row(experiment.mixes, searches["mixes"], "Language mix of fine-tuning",
                          "Each trial fine-tunes the merged model in stage 1; nats per answer token on validation "
                          "questions. The winner goes on into stage 2.")),
        neuron_rows=rows, neuron_maps=maps, overlap=overlap, interference=interference, trainings=tuple(trained),
        corpus=tuple(CorpusRow(language=code, split=split, **size) for code, splits in facts["sizes"].items()
                     for split, size in splits.items()),
        funnel=tuple(FunnelRow(**row) for row in facts["funnel"]),
        sources=tuple(source_rows(decode(ExperimentConfig, config), facts)), stages=tuple(stage_rows(record, artifacts)),
        cost=Cost(wall_s=record["seconds"], peak_memory_bytes=record["peak_memory_bytes"], machine=record["machine"],
                  tokens_trained=sum(row.tokens for row in trained)),
        notes={"bits": "Held-out test documents; intervals by bootstrap over documents, paired with the base.",
               "figures": _prompting_note(reports)})


def _prompting_note(reports: Mapping[str, EvalReport]) -> str:
    how = {name: report.settings["prompting"] for name, report in reports.items() if name not in ARMS or name == "neuron-trained"}
    plain = [name for name, prompting in how.items() if prompting == "plain"]
    return ("Held-out items, the same for every model. " + (f"{' and '.join(plain)} continue a line of text, the others answer "
            "a chat. " if plain else "") + "The winner was asked through its served endpoint.")

