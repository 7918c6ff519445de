"""`sea-ray run`: compose, check, open Ray, carry out the pipeline, write the report; `detect`, `train`, `sweep` stop before."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from sea_ray.artifacts import Store, plain, read_json, write_json
from sea_ray.config import ExperimentConfig
from sea_ray.errors import ConfigError, DataError
from sea_ray.evaluation.figures import EvalReport
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.console import print_json
from sea_ray.launch.ending import Notice, ending, public_config, public_overrides
from sea_ray.launch.live import View, live_view
from sea_ray.launch.machine import MemoryMeter, check_room, cluster_address, machine, versions
from sea_ray.launch.narrator import Narrator
from sea_ray.launch.part import show_part
from sea_ray.launch.plan import agree_to_price, check_budget
from sea_ray.launch.room import check_plan
from sea_ray.launch.stage_figures import made
from sea_ray.launch.watched import watched
from sea_ray.pipeline import Detected, Experiment
from sea_ray.search_space import label
from sea_ray.studies.carry_out import carry_out
from sea_ray.studies.neurons import NeuronResults
from sea_ray.studies.tuning import TuningResults
from sea_ray.tracking import Tracker
from sea_ray.upkeep import RUN

ASKED = "asked.json"
"""File of a run's folder: what was asked, from its start on."""


def run(overrides: Sequence[str], console: Console, *, yes: bool = False, as_json: bool = False) -> int:
    """Carry out an experiment and return the exit code.

    Args:
        overrides: Hydra overrides; `experiment=NAME` is required.
        console: where a person looks.
        yes: what it costs is agreed to beforehand.
        as_json: print the result for machines, too.

    Raises:
        SeaRayError: what was refused, before or while running.
    """
    config = compose_experiment(overrides)
    check_budget(config, Store(config.store.url))
    if not agree_to_price(config, Store(config.store.url), console, yes=yes):
        console.print("nothing was started")
        return 0
    with ending(config, console) as notice:
        told = _run(config, overrides, console, notice)
    if as_json:
        print_json(told)
    return 0


def detect(overrides: Sequence[str], console: Console, *, yes: bool = False, as_json: bool = False) -> int:
    """Carry out an experiment until every neuron has its importance; show each language's neurons."""
    return run([*overrides, "until=detection"], console, yes=yes, as_json=as_json)


def train(overrides: Sequence[str], console: Console, *, yes: bool = False, as_json: bool = False) -> int:
    """Carry out an experiment until the neurons are trained and merged; show the packs."""
    return run([*overrides, "until=neurons"], console, yes=yes, as_json=as_json)


def sweep(overrides: Sequence[str], console: Console, *, yes: bool = False, as_json: bool = False) -> int:
    """Carry out an experiment until both sweeps have a winner; show their trials."""
    return run([*overrides, "until=sweeps"], console, yes=yes, as_json=as_json)


def _run(config: ExperimentConfig, overrides: Sequence[str], console: Console, notice: Notice) -> dict[str, Any]:
    """Return what came of it, as plain values."""
    store = Store(config.store.url)
    folder = store.run_folder(config.name)
    check_room(config.cluster, folder)
    check_plan(config, store)
    asked = {"name": config.name, "overrides": public_overrides(overrides), "config": plain(public_config(config))}
    write_json(folder / ASKED, asked)
    store.publish(folder / ASKED)
    with live_view(console) as view, watched(config, store, console, view) as tracker:
        return _watched_run(config, asked, store, console, notice, tracker, view)


def _watched_run(config: ExperimentConfig, asked: dict[str, Any], store: Store, console: Console, notice: Notice,
                 tracker: Tracker, view: View | None) -> dict[str, Any]:
    folder = store.run_folder(config.name)
    start = time.monotonic()
    with MemoryMeter() as memory:
        from sea_ray.launch.ray_platform import RayPlatform

        with RayPlatform.open(store, tracker, config.cluster, budget=config.budget) as platform:
            narrator = Narrator(platform, console, view)
            try:
                result = carry_out(config, narrator)
            finally:
                notice.usd = round(platform.meter.usd, 2) or None  # without prices in budget nothing is known
    seconds = time.monotonic() - start
    if config.until != "end":
        assert isinstance(result, Detected)
        return show_part(result, config, console)
    # The processes of a cluster that was joined are nobody's children here; each stage's own memory is in its record.
    peak_bytes = memory.peak_bytes if cluster_address(config.cluster) == "local" else 0
    record = {
        **asked, "versions": versions(), "machine": machine(),
        "seconds": round(seconds, 1), "peak_memory_bytes": peak_bytes, "stages": plain(narrator.rows),
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "usd": notice.usd,
    }
    if all(row.reused for row in narrator.rows) and (folder / RUN).exists():
        # A run that computed nothing keeps the cost of the one that did.
        record |= {key: read_json(folder / RUN).get(key) for key in ("seconds", "peak_memory_bytes", "usd")}
    if isinstance(result, Experiment):
        report = _conclude(result, record, store, tracker, console, notice)
    else:
        assert not isinstance(result, Detected)
        report = _conclude_study(result, record, store, console)
    _summarise_cost(record, report, seconds, console)
    notice.report = f"{store.url.rstrip('/')}/{config.name}/{report.name}" if store.is_shared else str(report)
    told = {"name": config.name, "until": config.until, "winner": notice.winner, "record": str(folder / RUN),
            "report": notice.report, "stages": record["stages"], "seconds": record["seconds"], "usd": notice.usd}
    if isinstance(result, Experiment):
        told |= {"gate": result.gate.facts, "reasons": {"neurons": result.thresholds.reason, "mixes": result.mixes.reason}}
    return told


def _conclude(experiment: Experiment, record: dict, store: Store, tracker: Tracker, console: Console, notice: Notice) -> Path:
    """Write and tell what came of the whole method; return its page."""
    folder = store.run_folder(record["name"])
    write_json(folder / RUN, record | {"experiment": describe(experiment)})
    report = write_run_report(store, experiment, record)
    card = write_model_card(store, experiment, record)
    figures = tracker.child("figures")
    found = write_tables(experiment, folder, figures)
    winner = made(experiment.winner, store)
    figures.made(replace(winner, kind="winner", parents=(winner,)))
    figures.finish()
    for file in (folder / RUN, report, card, *found):
        store.publish(file)
    summarise(experiment, console)
    console.print(f"model card  {card}")
    notice.winner = {**experiment.thresholds.winner.point, **experiment.mixes.winner.point}
    return report


def _conclude_study(study: NeuronResults | TuningResults, record: dict, store: Store, console: Console) -> Path:
    """Write and tell what came of a study; return its page."""
    report, found = write_study_report(store, study, record)
    write_json(report.with_name(RUN), record | {"study": found})
    for file in (report.with_name(RUN), report):
        store.publish(file)
    console.print()
    for sentence in found["answer"]:
        console.print(sentence)
    return report


def describe(experiment: Experiment) -> dict[str, object]:
    """Return which artifact plays which role, as plain containers."""

    def place(artifact: object) -> object:
        return {"kind": artifact.kind, "fingerprint": artifact.fingerprint}  # type: ignore[attr-defined]

    choices = {}
    for name, choice in (("thresholds", experiment.thresholds), ("mixes", experiment.mixes)):
        choices[name] = {"reason": choice.reason, "keeps_limits": choice.keeps_limits,
                         "winner": dict(choice.winner.point),
                         "front": [dict(point) for point in choice.front],
                         "trials": [{"point": dict(trial.point), "repetition": trial.repetition, "outcome": trial.outcome,
                                     "error": trial.error, "reused": trial.reused,
                                     "artifact": place(trial.artifact) if trial.artifact else None}
                                    for trial in choice.trials]}
    roles = {name: place(getattr(experiment, name))
             for name in ("corpus", "base", "statistics", "merged", "without_safety", "gate", "winner")}
    return {**roles, **choices, "controls": {name: place(item) for name, item in experiment.controls.items()},
            "evaluations": {name: place(item) for name, item in experiment.evaluations.items()}}


def load_run(store: Store, name: str) -> dict:
    """Return the record of a finished run.

    Raises:
        ConfigError: there is none of that name; lists those that are there. Or it is a study's.
        DataError: the record is half there.
    """
    file = store.root / name / RUN
    store.fetch(file)
    if not file.exists():
        known = sorted(path.parent.name for path in store.root.glob(f"*/{RUN}"))
        begun = f"; it was begun, and sea-ray report run={name} shows how far it is" if (file.parent / ASKED).exists() else ""
        raise ConfigError("run", f"no finished run {name!r} in {store.url!r}{begun}; "
                                 + (f"there: {', '.join(known)}" if known else "run an experiment first"))
    record: dict = read_run_file(file)
    if "experiment" not in record:
        raise ConfigError("run", f"{name!r} is a study: it compares arms and has no winner; name a run of the whole method")
    return record


def read_run_file(file: Path) -> dict:
    """Return what a run wrote about itself.

    Raises:
        DataError: it is half there, or something else.
    """
    try:
        record = read_json(file)
    except (OSError, ValueError) as error:
        raise DataError(f"it is half there ({error}): carry out the run again, what is finished is reused", file) from error
    if not isinstance(record, dict) or not record.keys() & {"config", "experiment", "study"}:
        raise DataError("it is no run's record; carry out the run again, what is finished is reused", file)
    return record


def write_run_report(store: Store, experiment: Experiment, record: dict) -> Path:
    """Write report.html of a run and return it."""
    from sea_ray.report.page import write_report
    from sea_ray.run_report import report_data

    file = store.root / record["name"] / "report.html"
    write_report(report_data(experiment, record), file)
    return file


def write_study_report(store: Store, study: NeuronResults | TuningResults, record: dict) -> tuple[Path, dict[str, Any]]:
    """Write report.html of a study; return it and what was found, as plain values."""
    file = store.run_folder(record["name"]) / "report.html"
    if isinstance(study, NeuronResults):
        from sea_ray.report.neuron_study_page import write_neuron_study
        from sea_ray.studies.neurons_report import neuron_study_data

        neurons = neuron_study_data(study, record)
        write_neuron_study(neurons, file)
        return file, {"arms": plain(neurons.arms), "rates": plain(neurons.rates), "answer": list(neurons.answer)}
    from sea_ray.report.tuning_study_page import write_tuning_study
    from sea_ray.studies.tuning_report import tuning_study_data

    tuning = tuning_study_data(study, record)
    write_tuning_study(tuning, file)
    return file, {"arms": plain(tuning.arms), "answer": list(tuning.answer)}


def write_tables(experiment: Experiment, folder: Path, tracker: Tracker) -> list[Path]:
    """Write the figures of all models beside published ones as Markdown, LaTeX and JSON, give them to the tracker, and return
    the files."""
    from sea_ray.evaluation.published import published_rows
    from sea_ray.evaluation.tables import log_tables, tables, written

    reports = [EvalReport.load(artifact.folder) for artifact in experiment.evaluations.values()]
    found = tables(reports, published_rows())
    log_tables(found, tracker)
    files = []
    for suffix, form in (("md", "markdown"), ("tex", "latex"), ("jsonl", "json")):
        files.append(folder / f"figures.{suffix}")
        files[-1].write_text(f"{written(found, form)}\n", encoding="utf-8")
    return files


def write_model_card(store: Store, experiment: Experiment, record: dict) -> Path:
    """Write model_card.md of a run's winner, which `sea-ray export` gives it as README.md, and return it."""
    from sea_ray.model_card import model_card

    file = store.root / record["name"] / "model_card.md"
    file.write_text(model_card(experiment, record), encoding="utf-8")
    return file


def summarise(experiment: Experiment, console: Console) -> None:
    """Print what a person wants to know of the whole method at the end."""
    neurons, gate = experiment.thresholds.winner, experiment.gate.facts
    assert neurons.artifact is not None
    facts = neurons.artifact.facts
    console.print()
    console.print(f"winner      {label(neurons.point)} and {label(experiment.mixes.winner.point)}")
    console.print(f"neurons     bits per byte {facts['gain_sea']:+.1%} better over {len(facts['runs'])} SEA languages, "
                  f"English x{facts['english_ratio']:.4f}")
    console.print(f"safety gate {'passed' if gate['passed'] else 'FAILED: ' + '; '.join(gate['reasons'][:3])}")


def _summarise_cost(record: dict, report: Path, seconds: float, console: Console) -> None:
    rows = record["stages"]
    reused = sum(row["reused"] for row in rows)
    console.print(f"stages      {len(rows)} in all, {reused} reused" + (" (nothing had changed)" if reused == len(rows) else ""))
    memory = record["peak_memory_bytes"]
    console.print(f"took        {seconds:.0f} s, "
                  + (f"peak memory {memory / (1 << 30):.1f} GiB (all processes)" if memory else "memory per stage in the report"))
    console.print(f"report      {report}")
