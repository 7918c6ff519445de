"""`sea-ray data`: the corpus and the conversations of an experiment, and a page that shows them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence

from rich.console import Console

from sea_ray import plan
from sea_ray.artifacts import Store
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.machine import check_room
from sea_ray.launch.narrator import Narrator
from sea_ray.launch.watched import watched


def data(overrides: Sequence[str], console: Console) -> int:
    """Make what an experiment is trained on, write data.html and return the exit code; `sea-ray run` reuses it.

    Args:
        overrides: Hydra overrides; `experiment=NAME` is required.
        console: where a person looks.

    Raises:
        SeaRayError: what was refused.
    """
    config = compose_experiment(overrides)
    store = Store(config.store.url)
    folder = store.run_folder(config.name)
    check_room(config.cluster, folder)
    from sea_ray.launch.ray_platform import RayPlatform

    with (watched(config, store, console) as tracker,
          RayPlatform.open(store, tracker, config.cluster, trains=False) as platform):
        narrator = Narrator(platform, console)
        corpus = narrator.run(plan.corpus(config))
        conversations = narrator.run(plan.conversations(config, corpus))
    from sea_ray.data_report import data_report
    from sea_ray.report.data_page import write_data_report

    file = folder / "data.html"
    write_data_report(data_report(config, corpus, conversations, f"sea-ray data {shlex.join(overrides)}",
                                  time.strftime("%Y-%m-%d %H:%M %Z")), file)
    store.publish(file)
    _summarise(corpus.facts, console)
    console.print(f"report      {file}")
    return 0


def _summarise(facts: dict, console: Console) -> None:
    console.print()
    for code, splits in facts["sizes"].items():
        steps = [row for row in facts["funnel"] if row["language"] == code]
        taken = ", ".join(f"{row['step']} {row['documents_in'] - row['documents_out']:,}" for row in steps
                          if row["documents_in"] > row["documents_out"])
        train = splits["train"]
        console.print(f"{code:<4} {steps[0]['documents_in']:>9,} documents, {steps[-1]['documents_out']:>9,} kept, "
                      f"{train['tokens']:>11,} tokens to train on" + (f"; taken out: {taken}" if taken else ""))
