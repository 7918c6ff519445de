"""What a part of an experiment has found, as rows for a terminal or a machine: neurons, packs, trials."""

from __future__ import annotations

from typing import Any

from sea_ray.artifacts import Artifact, plain, read_json
from sea_ray.config import ExperimentConfig
from sea_ray.objective import Choice, SweepConfig
from sea_ray.pipeline import Detected
from sea_ray.search_space import label

Row = dict[str, Any]
"""Column -> value; None where there is nothing."""


def neuron_rows(config: ExperimentConfig, found: Detected) -> list[Row]:
    """Return per language how many neurons the experiment's selection finds, at which sites, and how steady they are.

    Args:
        config: its `neurons.selection` is asked, whatever a sweep would try.
        found: base and statistics.

    Raises:
        ConfigError, DataError: what select_neurons refuses, such as a set that is empty or nearly everything.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from sea_ray.neurons.selection import select_neurons, stability
    from sea_ray.neurons.sites import describe
    from sea_ray.neurons.statistics import ImportanceStats

    with torch.device("meta"):  # its shape alone: no weights are read
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(found.base.folder, local_files_only=True))
    shape, stats = describe(model), ImportanceStats.load(found.statistics.folder)
    sets = select_neurons(stats, shape, config.neurons.selection)
    steady = stability(stats, shape, config.neurons.selection)
    return [{"language": code, "windows": stats[code, chosen.sites[0]].num_windows, "neurons": chosen.count,
             **{site: sum(chosen.counts(site, shape.num_layers)) for site in config.neurons.selection.sites},
             "parameter share": chosen.share(shape), "stability": steady.get(code)} for code, chosen in sets.items()]


def pack_rows(packs: Artifact) -> list[Row]:
    """Return per language what its pack changes, how large it is and what it gains.

    Args:
        packs: artifact of a trial of the sweep over neurons.

    The gain is the share by which the pack, laid alone on its base, lowers the bits per byte of validation text.
    """
    rows = []
    for code, run in packs.facts["runs"].items():
        folder = packs.folder / "packs" / code
        record = read_json(folder / "pack.json")
        before, alone = packs.facts["before"][code], run["alone_bits_per_byte"]
        rows.append({"language": code, "neurons": record["neurons"], "values": record["values"],
                     "bytes": sum(file.stat().st_size for file in folder.iterdir()), "bits per byte": before,
                     "with pack": alone, "gain": 1 - alone / before, "folder": str(folder)})
    return rows


def trial_rows(choice: Choice, config: SweepConfig) -> list[Row]:
    """Return the trials of a sweep with the figures that decide, and which won."""
    names = [*config.objectives, *(name for name in config.at_most if name not in config.objectives)]
    rows = []
    for trial in choice.trials:
        facts = trial.artifact.facts if trial.artifact else {}
        seconds = trial.artifact.record["seconds"] if trial.artifact else None
        rows.append({"trial": label(trial.point), "seed": f"+{trial.repetition}" if trial.repetition else "",
                     **{name: facts.get(name) for name in names}, "seconds": seconds, "outcome": trial.outcome,
                     "winner": trial.point == choice.winner.point, "point": plain(trial.point)})
    return rows
