"""What is told when an experiment stops before its end: a table of what there is by then."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from sea_ray.config import ExperimentConfig
from sea_ray.launch.console import show_rows
from sea_ray.part_tables import neuron_rows, pack_rows, trial_rows
from sea_ray.pipeline import Detected, Swept, Taught
from sea_ray.search_space import label

NEXT = {"detection": "train", "neurons": "sweep", "sweeps": "run"}
"""Where an experiment stopped -> the command that goes on."""


def show_part(found: Detected, config: ExperimentConfig, console: Console) -> dict[str, Any]:
    """Print what a part of an experiment has found, and return it as plain values.

    Args:
        found: neurons of each language; once they are trained, packs; once there are sweeps, their trials.
        config: the experiment.
        console: where a person looks.

    Raises:
        ConfigError, DataError: the selection refuses what was detected, such as a set that is empty.
    """
    told: dict[str, Any] = {"name": config.name, "until": config.until}
    if isinstance(found, Swept):
        for name, choice, search in (("neurons", found.thresholds, config.sweep.neurons),
                                     ("mixes", found.mixes, config.sweep.mixes)):
            told[name] = {"trials": trial_rows(choice, search), "winner": choice.winner.point, "reason": choice.reason}
            console.print(f"\nsweep {name}")
            show_rows([{column: value for column, value in row.items() if column != "point"} for row in told[name]["trials"]],
                      console)
            console.print(f"winner      {label(choice.winner.point)}: {choice.reason}")
    elif isinstance(found, Taught):
        packs = found.thresholds.winner.artifact
        assert packs is not None
        told |= {"winner": found.thresholds.winner.point, "reason": found.thresholds.reason, "packs": pack_rows(packs),
                 "merged": str(found.merged.folder)}
        console.print()
        show_rows(told["packs"], console)
        console.print(f"winner      {label(found.thresholds.winner.point)}: {found.thresholds.reason}\n"
                      f"merged      {found.merged.folder}")
    else:
        told |= {"neurons": neuron_rows(config, found), "statistics": str(found.statistics.folder)}
        console.print()
        show_rows(told["neurons"], console)
        console.print(f"statistics  {found.statistics.folder}: one pass for every method and share")
    console.print(f"next        sea-ray {NEXT[config.until]} with the same settings goes on from here")
    return told
