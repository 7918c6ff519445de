"""A miniature experiment, and what an experiment is made of, without torch."""

from collections.abc import Mapping

import pytest
from dry_platform import DryPlatform

from sea_ray.artifacts import Store


@pytest.fixture(scope="session")
def planned(tmp_path_factory):
    """Return a function from overrides to the planned stages: readable name -> Stage."""
    from sea_ray.launch.compose import compose_experiment
    from sea_ray.pipeline import run_experiment

    def plan(*overrides: str) -> Mapping[str, object]:
        platform = DryPlatform(Store(str(tmp_path_factory.mktemp("dry"))))
        run_experiment(compose_experiment(["experiment=demo", *overrides]), platform)
        return platform.stages

    return plan


KINDS = ("translate", "fact", "arithmetic", "exam", "unanswerable", "unsafe_general", "safe_general", "unsafe_culture",
         "safe_culture")
STAGE = "{" + ", ".join(f"{kind}: 2" for kind in KINDS) + ", list: 0}"
MINIATURE = [
    "experiment=demo", "name=miniature", "corpus.languages=[en,id,th]", "neurons.languages=[id,th]",
    "corpus.demo.train_documents=60", "corpus.demo.validation_documents=6", "corpus.demo.test_documents=6",
    "model.shape.d_model=32", "model.shape.num_layers=2", "model.shape.num_heads=2", "model.shape.num_kv_heads=1",
    "model.shape.d_mlp=48", "model.tokenizer.vocab_size=384",
    "training.schedule.steps=4", "training.schedule.batch_sequences=4", "training.schedule.sequence_tokens=64",
    "training.annealing.steps=2", "training.annealing.batch_sequences=4", "training.annealing.sequence_tokens=64",
    "neurons.detection.window_tokens=32", "neurons.detection.windows_per_language=4",
    "neurons.controls=[random_matched,continued_pretraining,lora]",
    "neurons.training.steps=2", "neurons.training.batch_sequences=2", "neurons.training.sequence_tokens=64",
    "sweep.neurons.space={neurons.selection.top_frac: [0.1, 0.2]}", "sweep.mixes.space={sft.mix: [even, english]}",
    "sft.mix=even", "~sft.mixes", "+sft.mixes={even: {en: 1, id: 1, th: 1}, english: {en: 2, id: 1, th: 1}}",
    f"sft.data.broad.demo={STAGE}", f"sft.data.high_quality.demo={STAGE}",
    "sft.broad.steps=2", "sft.high_quality.steps=2", "sft.broad.batch_sequences=2", "sft.high_quality.batch_sequences=2",
    "sft.broad.sequence_tokens=512", "sft.high_quality.sequence_tokens=512",
    "evaluation.items=4", "evaluation.texts=3", "evaluation.max_new_tokens=3", "evaluation.bootstrap_samples=100",
]


@pytest.fixture(scope="session")
def miniature() -> list[str]:
    """Overrides of the demo under which every stage takes a moment: three languages, a model of two layers, few steps."""
    return list(MINIATURE)
