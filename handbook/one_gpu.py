"""The tables of docs/one_gpu.md: what `sea-ray plan` reckons for three sizes of model on one GPU, as it stands today."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sea_ray.artifacts import Store
from sea_ray.launch.accelerators import load_accelerators
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.outlook import Outlook, foretell, hours, prices, usd
from sea_ray.launch.prices import Offer, Range
from sea_ray.launch.room import Forecast, Room, excess, gigabytes, room_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "one_gpu.md"
BEGIN, END = "<!-- planned: `python -m handbook` writes what follows -->", "<!-- planned: end -->"
_SMALL = ["neurons.training.micro_batch=2", "sft.broad.micro_batch=1", "sft.high_quality.micro_batch=1"]
_OFFLOAD = ["cluster.training.whole.zero_stage=2", "cluster.training.whole.offload=optimizer"]
_ADAPTERS = ["neurons.training.micro_batch=2", "cluster.training.activation_checkpointing=true", "sft.policy.kind=lora",
             "neurons.controls=[random_matched,lora]"]
PLANS: dict[str, tuple[str, ...]] = {
    "A": ("experiment=seallms3_0_5b", "cluster=gpu1"),
    "B": ("experiment=seallms3_0_5b", "cluster=gpu1", "cluster.accelerator=l4"),
    "C": ("experiment=seallms3_1_5b", "cluster=gpu1"),
    "D": ("experiment=seallms3_1_5b", "cluster=gpu1", *_SMALL, *_OFFLOAD),
    "E": ("experiment=seallms3_1_5b", "cluster=gpu1", *_ADAPTERS),
    "F": ("experiment=seallms3_7b", "cluster=gpu1"),
    "G": ("experiment=seallms3_1_5b", "cluster=gpu1_80gb"),
    "H": ("experiment=seallms3_7b", "cluster=gpu1_80gb"),
    "I": ("experiment=seallms3_7b", "cluster=gpu1_80gb", *_OFFLOAD),
}
"""What is planned, each as it is said on the command line."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One plan and the remedies for what does not fit the GPU."""

    outlook: Outlook
    room: Room
    neurons: Forecast
    """The training of neurons that holds most."""
    others: Forecast
    """Of all values, or of adapters, the one that holds most."""

    @property
    def remedies(self) -> dict[str, str]:
        """What does not fit -> what would, in the command's words."""
        sizes = {"neurons": self.neurons, "the others": self.others}
        return {name: excess(each, self.room)[0].partition(f"{self.room.words}: ")[2] for name, each in sizes.items()
                if each.memory.peak > (self.room.device_bytes or 0)}


def planned(overrides: Sequence[str]) -> Planned:
    """Return a plan that does not look at this machine: its pace is the table's, its own memory is not asked."""
    config = compose_experiment(overrides)
    with tempfile.TemporaryDirectory() as folder:
        outlook = foretell(config, Store(folder), measure=False)
    largest = {kind: max((each for each in outlook.trainings if (each.planned.training.policy.kind == "neurons") is kind),
                         key=lambda each: each.memory.peak) for kind in (True, False)}
    return Planned(outlook=outlook, room=replace(room_of(config.cluster), host_bytes=None), neurons=largest[True],
                   others=largest[False])


def tables() -> str:
    """Return the part of the page that is made."""
    plans, table = {name: planned(overrides) for name, overrides in PLANS.items()}, load_accelerators()
    lines = [BEGIN, "", "```sh", *(line for name, said in PLANS.items() for line in _command(name, said)), "```", "",
             f"**Planned, not measured on a GPU**: memory and peak rates of `conf/accelerators.yaml` ({table.dated}), of which",
             f"{table.usable_memory_frac:.0%} of the memory and {table.utilisation:.0%} of the rate are taken to be of use; "
             "prices of `conf/prices.yaml`.", "",
             "| | a worker's peak, neurons | all values, or LoRA | it may hold | fits | hours | the cheapest on demand |",
             "|---|---|---|---|---|---|---|", *(_row(name, plan) for name, plan in plans.items()), "",
             "What does not fit, and what the command says of it:", ""]
    lines += [f"- {name}, {what}: {remedy}." for name, plan in plans.items() for what, remedy in plan.remedies.items()]
    return "\n".join([*lines, "", END])


def _command(name: str, overrides: Sequence[str]) -> list[str]:
    """Return a command as lines of a shell, under its name."""
    lines = textwrap.wrap(f"sea-ray plan {' '.join(overrides)}", 88, subsequent_indent="    ", break_long_words=False,
                          break_on_hyphens=False)
    return [f"# {name}", *(f"{line} \\" for line in lines[:-1]), lines[-1]]


def _row(name: str, plan: Planned) -> str:
    others, fits = plan.others, not plan.remedies
    offloaded = f" and {gigabytes(others.memory.host)} of the processor's" if others.execution.offload != "none" else ""
    took = hours(plan.outlook.seconds) if fits and plan.outlook.seconds else ""
    price = _price(*min(prices(plan.outlook), key=lambda each: each[2])) if fits else ""
    verdict = "yes" if fits else "no" if len(plan.remedies) == 2 else f"no: {next(iter(plan.remedies))}"
    return (f"| {name} | {gigabytes(plan.neurons.memory.peak)} | {gigabytes(others.memory.peak)}{offloaded} | "
            f"{gigabytes(plan.room.device_bytes or 0)} | {verdict} | {took} | {price} |")


def _price(offer: Offer, spot: Range | None, on_demand: Range) -> str:
    assumed = " (assumed)" if offer.of.is_spot_assumed else ""
    ways = ([f"{usd(spot)} as spot{assumed}"] if spot else []) + [f"{usd(on_demand)} on demand"]
    return f"{offer.provider} {offer.machine} {' or '.join(ways)}"


def write() -> bool:
    """Write the tables into the page; return whether they changed."""
    before = PAGE.read_text(encoding="utf-8")
    text = before.partition(BEGIN)[0] + tables() + before.partition(END)[2]
    PAGE.write_text(text, encoding="utf-8")
    return text != before
