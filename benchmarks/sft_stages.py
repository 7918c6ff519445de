"""Stage 1 alone, stage 2 alone, and both, on the demo: the same start, the same tokens, the same held-out questions."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.side_by_side import conclude
from sea_ray import plan
from sea_ray.artifacts import Artifact, Store
from sea_ray.config import ExperimentConfig
from sea_ray.evaluation.figures import EvalReport
from sea_ray.execution import Platform
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.ray_platform import RayPlatform
from sea_ray.report.averages import average, select
from sea_ray.run_report import figure_rows
from sea_ray.tracking import NullTracker

FIGURES = (("refusal", "balanced_accuracy"), ("refusal", "answered_right"), ("safety_general", "unsafe_answered"),
           ("safety_culture", "unsafe_answered"), ("translation", "chrf_into_english"), ("arithmetic", "exact_match"),
           ("exam", "accuracy"), ("text", "bits_per_byte"))


def arms(config: ExperimentConfig, platform: Platform) -> dict[str, tuple[ExperimentConfig, Artifact]]:
    """Return name -> configuration and tuned checkpoint; every arm takes as many steps of the same size."""
    corpus = platform.run(plan.corpus(config))
    base = platform.run(plan.base(config, corpus))
    packs = platform.run(plan.neurons(config, base, corpus, platform.run(plan.detection(config, base, corpus))))
    start, conversations = platform.run(plan.merged(base, packs)), platform.run(plan.conversations(config, corpus))
    tuning = config.sft
    size = {"batch_sequences", "sequence_tokens"}
    assert all(getattr(tuning.broad, name) == getattr(tuning.high_quality, name) for name in size), "tokens of a step"
    steps = tuning.broad.steps + tuning.high_quality.steps
    first = replace(config, sft=replace(tuning, broad=replace(tuning.broad, steps=steps)))
    second = replace(config, sft=replace(tuning, high_quality=replace(tuning.high_quality, steps=steps)))
    broad = platform.run(plan.sft(config, "broad", start, conversations, corpus))
    return {"stage 1 alone": (first, platform.run(plan.sft(first, "broad", start, conversations, corpus))),
            "stage 2 alone": (second, platform.run(plan.sft(second, "high_quality", start, conversations, corpus))),
            "both": (config, platform.run(plan.sft(config, "high_quality", broad, conversations, corpus)))}


def main() -> None:
    """Run the comparison from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", type=int, default=0, help="seed of the demo world and of the trainings")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides of the demo")
    options = parser.parse_args()
    config = compose_experiment(["experiment=demo", f"corpus.demo.world_seed={options.world}", f"seed={options.world}",
                                 "neurons.controls=[]", *options.overrides])
    shown: dict[str, dict[str, tuple[float, float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="sea_ray-bench-") as folder:
        store = Store(str(Path(folder) / "runs"))
        with RayPlatform.open(store, NullTracker(), config.cluster) as platform:
            corpus = platform.run(plan.corpus(config))
            for name, (own, model) in arms(config, platform).items():
                report = EvalReport.load(platform.run(plan.evaluation(own, name, model, corpus, chat=True)).folder)
                rows = list(figure_rows({name: report}))
                for task, metric in FIGURES:
                    mean = average(select(rows, task, metric, name))
                    assert mean is not None
                    shown.setdefault(f"{task} {metric}", {})[name] = (mean.value, mean.low, mean.high)
    for measure, values in shown.items():
        print(f"{measure:34}" + "".join(f"  {name}: {value:.3f} [{low:.3f}, {high:.3f}]" for name, (value, low, high) in
                                        values.items()))
    conclude("sft_stages", [], shown, torch.device("cpu"), check=False)


if __name__ == "__main__":
    main()
