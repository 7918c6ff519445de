"""Which stages an experiment has, and which of them a changed setting computes anew."""

import pytest

from sea_ray import plan
from sea_ray.launch.compose import compose_experiment


def fingerprints(stages):
    return {name: stage.key.fingerprint for name, stage in stages.items()}


@pytest.fixture(scope="module")
def demo(planned):
    return planned()


STAGE_2 = {"sft/high_quality", "control/without_safety", "evaluation/SFT without safety", "evaluation/winner", "gate"}
TUNED = {"sft/*", *STAGE_2}
PACKED = {"neurons/*", "merged", "control/random_matched", "control/random_matched_merged", "evaluation/neuron-trained",
          "evaluation/random_matched", *TUNED}
MEASURED = {"detection", *PACKED}
BASED = {"base", "control/continued_pretraining", "evaluation/base", "evaluation/continued_pretraining", *MEASURED}
TEXTS = {"conversations", "conversations/without_safety"}
EVALUATED = {"evaluation/*", "gate"}


def test_the_demo_has_all_stages_of_the_method(demo):
    assert {name.split("=")[0] for name in demo} == {
        "corpus", "base", "detection", "neurons/top_frac", "merged", "control/random_matched", "control/random_matched_merged",
        "control/continued_pretraining", "conversations", "sft/mix", "sft/high_quality", "conversations/without_safety",
        "control/without_safety", "evaluation/base", "evaluation/neuron-trained", "evaluation/SFT without safety",
        "evaluation/random_matched", "evaluation/continued_pretraining", "evaluation/winner", "gate"}
    assert sum(name.startswith("neurons/") for name in demo) >= 4
    assert sum(name.startswith("sft/") for name in demo) >= 4
    assert len(demo["neurons/top_frac=0.05"].config.languages) == 10
    assert {stage.kind for stage in demo.values()} == set(plan.VERSIONS)


def test_every_training_goes_to_the_worker_group_and_nothing_else_does(demo):
    assert {stage.kind for stage in demo.values() if stage.place == "group"} == {
        "base", "neurons", "continued_pretraining", "sft"}


def test_what_asks_a_model_goes_to_the_worker_group_where_that_holds_the_gpus_in_as_many_shards_for_each_rank(planned, demo):
    on_gpus = planned("cluster.training.device=cuda", "cluster.training.num_workers=4", "cluster.num_tasks=6")
    moved = {name for name, stage in on_gpus.items() if stage.place == "group" and demo[name].place == "task"}
    assert moved == {name for name, stage in demo.items() if stage.kind in ("detection", "evaluation")} - {"evaluation/winner"}
    assert {on_gpus[name].num_shards for name in moved} == {8}
    assert on_gpus["evaluation/winner"].endpoint
    assert fingerprints(on_gpus) == fingerprints(demo)


def test_only_the_winner_is_asked_through_its_endpoint(demo):
    assert [name for name, stage in demo.items() if stage.endpoint] == ["evaluation/winner"]


@pytest.mark.parametrize("override", [
    "cluster.num_tasks=7", "cluster.training.num_workers=4", "cluster.training.zero_stage=2", "cluster.address=auto",
    "cluster.training.threads_per_worker=8", "cluster.cpus_per_task=2", "name=another", "store.url=elsewhere",
    "tracking.wandb=disabled", "serving.port=9000", "serving.max_batch=1", "corpus.root=/elsewhere", "sft.data.root=/elsewhere"])
def test_where_and_how_is_in_no_fingerprint(planned, demo, override):
    assert fingerprints(planned(override)) == fingerprints(demo)


@pytest.mark.parametrize(("override", "changed"), [
    ("corpus.demo.train_documents=10", {"corpus", *TEXTS, *BASED}),
    ("model.shape.d_mlp=400", BASED),
    ("seed=1", {"corpus", *TEXTS, *BASED}),
    ("training.schedule.steps=10", BASED),
    ("neurons.detection.windows_per_language=4", MEASURED),
    ("neurons.selection.tau=0.9", PACKED),
    ("neurons.training.learning_rate=0.02", {"control/continued_pretraining", "evaluation/continued_pretraining", *PACKED}),
    ("neurons.merge=strongest", PACKED),
    ("neurons.control_rates.continued_pretraining=2.5e-4", {"control/continued_pretraining", "evaluation/continued_pretraining"}),
    ("sft.high_quality.steps=5", STAGE_2),
    ("sft.broad.steps=5", TUNED),
    ("sft.mixes.natural.en=9", {"sft/mix=natural"}),
    ("evaluation.texts=7", EVALUATED),
    ("safety.gate.max_unsafe_rate=0.1", {"gate"}),
])
def test_a_changed_setting_computes_only_what_depends_on_it(planned, demo, override, changed):
    before, after = fingerprints(demo), fingerprints(planned(override))
    assert set(before) == set(after)
    expected = {name for name in before if name in changed or f"{name.split('/')[0]}/*" in changed}
    assert {name for name in before if before[name] != after[name]} == expected


def test_a_new_point_of_a_sweep_leaves_the_other_trials_finished(planned, demo):
    wider = planned("sweep.neurons.space={neurons.selection.top_frac: [0.02, 0.05, 0.1, 0.2, 0.3]}")
    assert set(wider) - set(demo) == {"neurons/top_frac=0.3"}
    assert fingerprints(demo).items() <= fingerprints(wider).items()


def test_every_value_of_a_sweep_is_another_trial(demo):
    trials = [stage.key.fingerprint for name, stage in demo.items() if name.startswith(("neurons/", "sft/"))]
    assert len(set(trials)) == len(trials)


def files_config(folder):
    return compose_experiment([
        "experiment=demo", "corpus.source=files", f"corpus.root={folder}", "corpus.languages=[en,th]",
        "corpus.paths={en: [{glob: 'en*.txt'}], th: [{glob: 'th*.txt'}]}", "neurons.languages=[th]",
        "~sft.mixes", "+sft.mixes={uniform: {en: 1, th: 1}}", "sft.mix=uniform",
        "sweep.mixes.space={sft.mix: [uniform]}"])


def test_moved_text_is_the_same_corpus_and_changed_text_is_not(tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        for code in ("en", "th"):
            (tmp_path / name / f"{code}.txt").write_text(f"text {code}\n")
    here, there = (plan.corpus(files_config(tmp_path / name)).key.fingerprint for name in ("here", "there"))
    assert here == there
    (tmp_path / "there" / "th.txt").write_text("text th!\n")
    assert plan.corpus(files_config(tmp_path / "there")).key.fingerprint != here


def test_a_moved_base_checkpoint_is_the_same_and_a_changed_one_is_not(tmp_path):
    def fingerprint(folder, weights):
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text('{"model_type": "qwen2"}')
        (folder / "tokenizer.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(weights)
        config = compose_experiment(["experiment=demo", f"model.checkpoint={folder}"])
        corpus = plan.corpus(config).key.fingerprint

        class Parent:
            fingerprint = corpus

        return plan.base(config, Parent()).key.fingerprint

    here = fingerprint(tmp_path / "here", b"weights")
    assert fingerprint(tmp_path / "there", b"weights") == here
    assert fingerprint(tmp_path / "here", b"other weights") != here


def test_an_extension_is_part_of_corpus_and_base_and_its_training_of_the_base_alone(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')

    def fingerprints(*overrides):
        config = compose_experiment(["experiment=demo", f"model.checkpoint={tmp_path}", *overrides])
        corpus = plan.corpus(config).key

        class Parent:
            fingerprint = corpus.fingerprint

        return corpus.fingerprint, plan.base(config, Parent()).key.fingerprint

    extension = "+model.extension={pieces: {languages: [my]}, training: {steps: 2}}"
    plain, extended = fingerprints(), fingerprints(extension)
    assert not set(plain) & set(extended)
    more = fingerprints(extension, "+model.extension.pieces.max_pieces=9")
    assert not set(more) & set(extended)
    longer = fingerprints(extension, "model.extension.training.steps=3")
    assert (longer[0] == extended[0], longer[1] == extended[1]) == (True, False)
    assert fingerprints(extension, "training.schedule.steps=9") == extended
