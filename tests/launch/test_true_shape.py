"""`seallms3_0_5b` in Qwen2-0.5B's true shape, with random weights: neurons and all values train under Ray Train and DeepSpeed."""

import json
import math
import os
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config

from sea_ray import plan
from sea_ray.artifacts import Store
from sea_ray.corpus.config import TokenizerConfig
from sea_ray.corpus.documents import DocumentWriter
from sea_ray.corpus.tokenizer import train_tokenizer
from sea_ray.demo import World
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.foresight import foresee, model_shape
from sea_ray.launch.ray_platform import RayPlatform
from sea_ray.launch.room import PROCESS_BYTES, check_plan, forecasts
from sea_ray.tracking import NullTracker

pytestmark = [pytest.mark.ray, pytest.mark.soak]

SHAPE = {"hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
         "intermediate_size": 4864, "vocab_size": 151_936, "tie_word_embeddings": True, "max_position_embeddings": 131_072}
LANGUAGES = ("en", "th")


def padded(folder, size):
    """Give a tokenizer as many entries as the model has rows: what follows its own never occurs."""
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    used = {*tokenizer["model"]["vocab"].values(), *(token["id"] for token in tokenizer["added_tokens"])}
    tokenizer["model"]["vocab"] |= {f"<unused {number}>": number for number in range(size) if number not in used}
    file.write_text(json.dumps(tokenizer), encoding="utf-8")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder like that of the Hub: random float32 weights of 494 million values, and a small real tokenizer."""
    folder = tmp_path_factory.mktemp("checkpoint")
    world = World(0, LANGUAGES)
    with DocumentWriter(tmp_path_factory.mktemp("documents"), LANGUAGES) as writer:
        for code in LANGUAGES:
            writer.append(code, "train", world.documents(code, "train", 300))
        documents = writer.finish(())
    train_tokenizer(documents, TokenizerConfig(vocab_size=4096, chat_template="chatml"), 0).save_pretrained(folder)
    padded(folder, SHAPE["vocab_size"])
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(Qwen2Config(**SHAPE, eos_token_id=0)).save_pretrained(folder)
    assert AutoConfig.from_pretrained(folder).vocab_size == SHAPE["vocab_size"]
    return folder


DATA = "{" + ", ".join(f"{kind}: 2" for kind in ("translate", "fact", "arithmetic", "exam", "unanswerable", "unsafe_general",
                                                 "safe_general", "unsafe_culture", "safe_culture")) + ", list: 0}"
TRAINING = ("steps=2", "batch_sequences=2", "micro_batch=1", "dtype=float32")
SMALL = [
    "experiment=seallms3_0_5b", "model.revision=null", "cluster=local", "cluster.training.zero_stage=1",
    "cluster.training.checkpoint_every_steps=0", "corpus.languages=[en,th]", "neurons.languages=[th]", "corpus.source=demo",
    "corpus.identify_language=false", "corpus.min_characters=10", "corpus.demo.train_documents=300",
    "corpus.demo.validation_documents=2", "corpus.demo.test_documents=2", "neurons.detection.window_tokens=32",
    "neurons.detection.windows_per_language=2", "neurons.training.sequence_tokens=64",
    "sft.mix=even", "~sft.mixes", "+sft.mixes={even: {en: 1, th: 1}}", "sweep.mixes.space={sft.mix: [even]}", "sft.text_share=0",
    "sft.data.validation_conversations=1"]
for part in ("neurons.training", "sft.broad", "sft.high_quality"):
    SMALL += [f"{part}.{value}" for value in TRAINING]
for part in ("broad", "high_quality"):
    SMALL += [f"sft.{part}.sequence_tokens=128", f"sft.data.{part}.datasets=[]", f"sft.data.{part}.demo={DATA}"]


def test_neurons_and_all_values_train_two_steps_each(checkpoint, tmp_path):
    config = compose_experiment([*SMALL, f"model.checkpoint={checkpoint}"])
    store = Store(str(tmp_path / "store"))
    check_plan(config, store)
    planned = {forecast.planned.name: forecast.memory.peak + PROCESS_BYTES
               for forecast in forecasts(config, foresee(config, store), model_shape(config.model)[0])}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)
        with RayPlatform.open(store, NullTracker(), config.cluster) as platform:
            corpus = platform.run(plan.corpus(config))
            base = platform.run(plan.base(config, corpus))
            statistics = platform.run(plan.detection(config, base, corpus))
            neurons = platform.run(plan.neurons(config, base, corpus, statistics))
            merged = platform.run(plan.merged(base, neurons))
            conversations = platform.run(plan.conversations(config, corpus))
            tuned = platform.run(plan.sft(config, "broad", merged, conversations, corpus))
    assert base.facts["parameters"] == 494_032_768
    trained = neurons.facts["runs"]["th"]["training"]
    assert 0.0008 < trained["trained_values"] / trained["total_values"] < 0.0012
    assert trained["engine"]["engine"] == "deepspeed"
    assert neurons.record["execution"]["workers"] == 2
    whole = tuned.facts["training"]
    assert whole["trained_values"] == whole["total_values"] == 494_032_768
    for report in (trained, whole):
        assert report["steps"] == 2
        assert all(abs(loss - math.log(SHAPE["vocab_size"])) < 2 for _, loss in report["losses"])
    # The optimiser's own values and two moments, shared out, and what reaches into a partition of the gradients.
    assert 16 <= whole["gradient_and_state_bytes"] / whole["total_values"] < 24
    assert tuned.record["execution"]["peak_memory_bytes"] == pytest.approx(planned["sft/mix=even"], rel=0.25)
