"""What a person sees of an experiment at W&B: panels, made of what its trackers log (see stage_figures)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr

from sea_ray.config import ExperimentConfig
from sea_ray.languages import LANGUAGES
from sea_ray.objective import SweepConfig

SWEEPS = {"neurons": ("Share of neurons per language", "neurons"), "mixes": ("Language mix of fine-tuning", "sft")}
"""Sweep of the configuration -> its title, and the job type of its trials."""
ASKED = (("text", "bits_per_byte"), ("exam", "accuracy"), ("arithmetic", "exact_match"), ("refusal", "balanced_accuracy"),
         ("translation", "chrf_into_english"))
"""Figures of the evaluated models that each language shows."""
JOB_TYPES = ("corpus", "base", "detection", "neurons", "control", "merged", "conversations", "sft", "evaluation", "gate",
             "figures")
"""First part of the names of an experiment's runs."""
Sections = Mapping[str, list[Any]]
"""Title -> panels."""


def sections(config: ExperimentConfig) -> Sections:
    """Return the panels of an experiment by section."""
    found = {f"Sweep: {title}": sweep_panels(getattr(config.sweep, name), title) for name, (title, _) in SWEEPS.items()}
    found["Training"] = [_line("Loss", "loss"), _line("Learning rate", "learning_rate"),
                         _line("Norm of the gradient", "grad_norm"), _line("Tokens per second", "tokens_per_s")]
    for code in config.corpus.languages:
        found[f"Language: {LANGUAGES[code].name}"] = language_panels(code, trained=code in config.neurons.languages)
    found["Neuron maps"] = [
        wr.WeavePanelSummaryTable(table_name="neuron_map", layout=wr.Layout(w=16, h=10)),
        _bars("Selected neurons", *(f"neurons/{code}" for code in config.neurons.languages)),
        _bars("Stability of the selection", *(f"stability/{code}" for code in config.neurons.languages))]
    found["Cost"] = [_bars("Seconds of each stage", "cost/seconds"), _bars("US dollars of each stage", "cost/usd"),
                     _bars("Peak memory of a process, bytes", "cost/peak_memory_bytes"), _bars("Tokens trained on", "tokens")]
    return found


def sweep_panels(search: SweepConfig, title: str) -> list[Any]:
    """Return the overview of a sweep: parallel coordinates from what it sets to what it is judged by, and each figure."""
    figures = [*search.objectives, *search.at_most]
    columns = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(path), display_name=path) for path in search.space]
    columns += [wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(figure), inverted=search.objectives.get(figure) == "min")
                for figure in [*figures, "cost/seconds"]]
    panels: list[Any] = [wr.ParallelCoordinatesPlot(columns=columns, title=title, layout=wr.Layout(w=24, h=10))]
    panels += [_bars(figure, figure) for figure in figures]
    panels += [wr.ScatterPlot(x=wr.Config(path), y=wr.SummaryMetric(next(iter(search.objectives))), title=path)
               for path in search.space]
    return panels


def language_panels(code: str, *, trained: bool) -> list[Any]:
    """Return what is logged of one language; `trained`: its neurons are trained, in a part of each trial."""
    panels = [wr.LinePlot(x=f"{code}/step", y=[f"{code}/loss"], title="Loss of its neurons' training"),
              _bars("Bits per byte before and after, validation part", f"before/{code}", f"after/{code}")] if trained else []
    return [*panels, _bars("Nats per answer token, validation part", f"validation_nats/{code}"),
            *(_bars(f"{task}: {metric}", f"{task}/{metric}/{code}") for task, metric in ASKED)]


def _line(title: str, metric: str) -> Any:
    return wr.LinePlot(x="step", y=[metric], title=title)


def _bars(title: str, *metrics: str) -> Any:
    return wr.BarPlot(metrics=list(metrics), title=title)


def workspace(config: ExperimentConfig, entity: str) -> ws.Workspace:
    """Return a view of the project that shows the experiment's runs."""
    return ws.Workspace(
        entity=entity, project=config.tracking.project, name=f"sea_ray {config.name}",
        sections=[ws.Section(name=title, panels=panels, is_open=title.startswith("Sweep"))
                  for title, panels in sections(config).items()],
        runset_settings=ws.RunsetSettings(filters=[_groups(config, JOB_TYPES)]))


def report(config: ExperimentConfig, entity: str) -> wr.Report:
    """Return a page about the experiment, with the same panels in chapters and a sentence that says what each chapter shows."""
    blocks: list[Any] = [wr.TableOfContents()]
    for title, panels in sections(config).items():
        blocks += [wr.H1(title), wr.P(_about(title)),
                   wr.PanelGrid(runsets=[_runset(config, title)], panels=panels)]
    return wr.Report(entity=entity, project=config.tracking.project, title=f"sea_ray {config.name}", blocks=blocks, width="fluid",
                     description=f"Runs of the experiment {config.name}; intervals and baselines are in its report.html.")


def _about(title: str) -> str:
    kind = title.partition(":")[0]
    return {"Sweep": "Each line is a trial: what it sets on the left, what it is judged by and what it took on the right.",
            "Training": "All trainings that have one curve; those of a language are with the language.",
            "Language": "Trials, and the evaluated models, side by side.",
            "Neuron maps": "How many neurons each trial selects per language, site and layer.",
            "Cost": "Of each stage, in whichever run it was made; dollars where the machines have a price."}[kind]


def _runset(config: ExperimentConfig, title: str) -> wr.Runset:
    """Return which runs of the report's own project a chapter shows: a sweep's trials, or all of the experiment."""
    jobs = [job for name, job in SWEEPS.values() if title == f"Sweep: {name}"] or list(JOB_TYPES)
    return wr.Runset(name=title, filters=[_groups(config, jobs)])


def _groups(config: ExperimentConfig, jobs: Sequence[str]) -> Any:
    return expr.Metric("Group").isin([f"{config.name}/{job}" for job in jobs])


def spec(thing: ws.Workspace | wr.Report) -> Any:
    """Return what is sent of a workspace or a report as plain values, without the ids that the library draws anew each time."""
    return _without_ids(thing._to_model().model_dump(mode="json", by_alias=True, exclude_none=True))  # there is no public way


def _without_ids(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_ids(item) for key, item in value.items() if key not in ("id", "__id__")}
    return [_without_ids(item) for item in value] if isinstance(value, list) else value
