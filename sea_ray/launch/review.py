"""`sea-ray review`: sheets for native speakers, and how far those that were filled in agree."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from rich.console import Console

from sea_ray.artifacts import Store
from sea_ray.demo import World
from sea_ray.launch.compose import compose_experiment
from sea_ray.sft.review import agreement, read_sheet, review_id, sample, write_sheets
from sea_ray.sft.stages import all_conversations


def review(overrides: Sequence[str], console: Console) -> int:
    """Write review sheets of an experiment, or read those of sft.data.reviews, and return the exit code.

    Args:
        overrides: Hydra overrides; `experiment=NAME` is required.
        console: where a person looks.

    Raises:
        SeaRayError: what was refused.
    """
    config = compose_experiment(overrides)
    world = World(config.corpus.demo.world_seed, config.corpus.languages)
    conversations = all_conversations(config.sft.data, world)
    if not config.sft.data.reviews:
        folder = Store(config.store.url).run_folder(config.name) / "review"
        chosen = sample(conversations, config.sft.data.review_per_kind, config.seed)
        for file in write_sheets(chosen, folder):
            console.print(f"{file}")
        console.print(f"{len(chosen):,} of {len(conversations):,} conversations; write accept, fix or reject into `decision`, "
                      "then name the sheets in sft.data.reviews")
        return 0
    known = set(map(review_id, conversations))
    sheets = {file: read_sheet(Path(file), known) for file in config.sft.data.reviews}
    for sheet, decisions in sheets.items():
        choices = [one.choice for one in decisions.values()]
        console.print(f"{sheet}: " + ", ".join(f"{choice} {choices.count(choice):,}" for choice in ("accept", "fix", "reject")))
    for (first, mine), (second, theirs) in combinations(sheets.items(), 2):
        if mine.keys() & theirs.keys():
            found = agreement(mine, theirs)
            console.print(f"{first} and {second} agree on {found.share:.0%} of {found.items:,} items, kappa {found.kappa:.2f}")
    return 0
