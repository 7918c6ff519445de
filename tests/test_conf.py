"""Every file of conf/ is a valid experiment, and a wrong setting is refused at once, by name, before anything starts."""

import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from sea_ray.config import ExperimentConfig
from sea_ray.decoding import decode
from sea_ray.errors import ConfigError
from sea_ray.launch.compose import compose_experiment, compose_values, config_folder, groups

REPO = Path(__file__).resolve().parents[1]
NEEDED = {"local_text": ["corpus.root=/data"], "own_text": ["corpus.root=/data"]}
"""Experiment -> what its user must say."""


def refusal(*overrides):
    with pytest.raises(ConfigError) as caught:
        compose_experiment(overrides)
    return caught.value


@pytest.mark.parametrize("name", sorted(file.stem for file in (REPO / "conf" / "experiment").glob("*.yaml")))
def test_every_experiment_composes_and_decodes(name):
    config = compose_experiment([f"experiment={name}", *NEEDED.get(name, [])])
    assert config.name == config.experiment == name
    for search in (config.sweep.neurons, config.sweep.mixes):
        assert search.num_points >= 2


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, names in groups(REPO / "conf").items()
                                             if not group.startswith("experiment") for name in names])
def test_every_file_of_a_group_is_well_formed(group, name):
    needed = {"corpus": ["corpus.root=/data"]}.get(group, [])
    values = compose_values(["experiment=demo", f"{group}={name}", *needed])
    kind: Any = ExperimentConfig
    for part in group.split("/"):
        kind, values = get_type_hints(kind)[part], values[part]
    decode(kind, values, group)


@pytest.mark.parametrize(("part", "name"), [(part, name) for part in ("neurons", "mixes")
                                            for name in groups(REPO / "conf")[f"sweep/{part}"]])
def test_every_sweep_can_be_run_on_the_demo(part, name):
    search = getattr(compose_experiment(["experiment=demo", f"sweep/{part}={name}"]).sweep, part)
    assert search.num_trials >= 4


def test_the_demo_has_what_the_issue_promises():
    config = compose_experiment(["experiment=demo"])
    assert len(config.corpus.languages) == 12
    assert len(config.neurons.languages) == 10
    assert config.sweep.neurons.at_most["english_ratio"] <= 1.01
    assert all(search.num_points >= 4 for search in (config.sweep.neurons, config.sweep.mixes))
    assert config.cluster.training.num_workers == 2
    assert config.cluster.training.engine == "deepspeed"
    assert config.model.shape.max_position == 4096
    assert config.serving.host == "127.0.0.1"


@pytest.mark.parametrize("size", ["0_5b", "1_5b", "7b"])
def test_the_recipe_teaches_every_language_from_sources_that_say_their_licence(size):
    config = compose_experiment([f"experiment=seallms3_{size}"])
    assert config.model.revision
    assert len(config.corpus.languages) == 12
    assert len(config.neurons.languages) == 10
    assert config.sft.policy.kind == "all"
    for code in config.corpus.languages:
        said = [row for row in config.sft.data.provenance(code) if row.stage == "broad"]
        assert {row.name for row in said} - {"demo world"}, code
        assert all(row.licence for row in [*said, *config.corpus.provenance(code)]), code


def test_what_stands_on_the_command_line_comes_last():
    config = compose_experiment(["experiment=demo", "seed=7", "name=mine", "corpus.demo.train_documents=11",
                                 "sft.mixes.natural.en=9", "sft.mixes.th_only={th: 1}", "neurons.languages=[th]"])
    assert (config.seed, config.name, config.corpus.demo.train_documents) == (7, "mine", 11)
    assert config.sft.mixes["natural"]["en"] == 9.0
    assert config.sft.mixes["th_only"] == {"th": 1.0}
    assert config.neurons.languages == ("th",)


@pytest.mark.parametrize(("override", "path", "says"), [
    ("corpus.langages=[vi]", "corpus.langages", "did you mean languages"),
    ("corpse.languages=[vi]", "corpse", "did you mean corpus"),
    ("corpus.languages=[en,vt]", "corpus.languages", "unknown language 'vt'"),
    ("corpus.languages=[en,thai]", "corpus.languages", "did you mean th?"),
    ("corpus.languages=vi", "corpus.languages", "a list is needed"),
    ("neurons.languages=[fr]", "neurons.languages", "unknown language 'fr'"),
    ("neurons.selection.top_frac=many", "neurons.selection.top_frac", "'many' is str, float is needed"),
    ("neurons.selection.top_frac=1.5", "neurons.selection.top_frac", "outside [0, 1]"),
    ("neurons.selection.sites=[ffn,q]", "neurons.selection.sites", "'q' is not measured; add it to detection.sites"),
    ("neurons.selection.hit_frac=0.02", "neurons.selection.hit_frac", "0.02 is not counted; add it to detection.top_fracs"),
    ("sft.policy.kind=neurons", "sft.policy.kind", "choose all, lora"),
    ("neurons.selection.method=plend", "neurons.selection.method", "did you mean plnd"),
    ("neurons.detection.window_tokens=9999", "neurons.detection.window_tokens", "exceed the model's context of 4096"),
    ("training.schedule.steps=1.5", "training.schedule.steps", "int is needed"),
    ("training.schedule.steps=0", "training.schedule.steps", "below 1"),
    ("sft.mix=by_lenght", "sft.mix", "did you mean by_length?"),
    ("sft.mix_rules.proportional.kind=naturel", "sft.mix_rules.proportional.kind", "did you mean natural"),
    ("+sft.mix_rules.natural={kind: natural}", "sft.mix_rules.natural", "mixes has one of this name"),
    ("sft.mix_rules.temperature.temperature=0", "sft.mix_rules.temperature.temperature", "not above 0"),
    ("sft.mixes.natural.fr=1", "sft.mixes.natural", "unknown language 'fr'"),
    ("sft.mixes.natural.th=-1", "sft.mixes.natural.th", "negative"),
    ("cluster.training.num_workers=two", "cluster.training.num_workers", "int is needed"),
    ("cluster=locl", "cluster", "did you mean local?"),
    ("tracking.wandb=ofline", "tracking.wandb", "did you mean offline"),
    ("serving.port=99999", "serving.port", "not a port"),
    ("evaluation.tasks=[exams]", "evaluation.tasks", "unknown task 'exams'"),
    ("sweep.neurons.space={neurons.selection.top_frac: []}", "sweep.neurons.space.neurons.selection.top_frac", "no values"),
    ("sweep.neurons.objectives={gian_sea: max}", "sweep.neurons.objectives.gian_sea", "did you mean gain_sea?"),
    ("sweep.neurons.objectives={gain_sea: most}", "sweep.neurons.objectives.gain_sea", "not one of the choices"),
    ("sweep.mixes.at_most={english_ratio: 1.0}", "sweep.mixes.at_most.english_ratio", "no trial reports it"),
    ("sweep.mixes.rungs={first: 1}", "sweep.mixes.rungs", "sft.broad.eval_every_steps=0 takes none: set it"),
    ("sweep.mixes.search=tpe", "sweep.mixes.num_samples", "say how many points"),
    ("sweep.mixes.space={sft.text_share: {uniform: [0, 0.3]}}", "sweep.mixes.space.sft.text_share", "a grid needs a list"),
    ("sweep.mixes.space={sft.text_share: {unifrom: [0, 1]}}", "sweep.mixes.space.sft.text_share.unifrom", "did you mean uniform"),
    ("budget.max_hours=0", "budget.max_hours", "not above 0"),
    ("safety.gate.max_false_refusal=2", "safety.gate.max_false_refusal", "2"),
])
def test_a_wrong_setting_is_refused_with_its_dotted_path_and_a_remedy(override, path, says):
    error = refusal("experiment=demo", override)
    assert error.path == path
    assert says in str(error)
    assert error.exit_code == 2


@pytest.mark.parametrize(("override", "path", "says"), [
    ("sweep.neurons.space={neurons.selection.top_fraq: [0.1]}", "neurons.selection.top_fraq", "did you mean top_frac"),
    ("sweep.neurons.space={neurons.selection.top_frac: [0.1, x]}", "neurons.selection.top_frac", "float is needed"),
    ("sweep.mixes.space={sft.mix: [by_length, natral]}", "sft.mix", "did you mean natural?"),
])
def test_a_sweep_over_what_is_not_there_is_refused_before_anything_starts(override, path, says):
    error = refusal("experiment=demo", override)
    assert error.path == path
    assert says in str(error)


EXTENDED = ("experiment=demo", "model=qwen2_0_5b_extended")


@pytest.mark.parametrize(("overrides", "path", "says"), [
    (["experiment=demo", "+model.extension={pieces: {languages: [my]}, training: {steps: 2}}"], "model.extension",
     "a tokenizer that is trained from scratch learns pieces of every language; name a checkpoint"),
    ([*EXTENDED, "model.extension.pieces.languages=[my,vi]"], "model.extension.pieces.languages", "'vi' is written in LATIN"),
    ([*EXTENDED, "model.extension.pieces.languages=[mi]"], "model.extension.pieces.languages", "unknown language 'mi'"),
    ([*EXTENDED, "model.extension.rehearsal={en: 0.5, zh: 0.5}"], "model.extension.rehearsal", "leave nothing"),
    ([*EXTENDED, "+model.extension.rehearsal.my=0.1"], "model.extension.rehearsal.my", "has its share by that"),
    ([*EXTENDED, "model.extension.rehearsal.en=0"], "model.extension.rehearsal.en", "not above 0"),
    ([*EXTENDED, "+model.extension.rehearsal.eng=0.1"], "model.extension.rehearsal", "unknown language 'eng'"),
    ([*EXTENDED, "model.extension.training.batch_sequences=9"], "model.extension.training.batch_sequences", "2 workers"),
    ([*EXTENDED, "corpus.languages=[en,zh,my]", "neurons.languages=[my]", "~sft.mixes", "+sft.mixes={a: {en: 1}}", "sft.mix=a"],
     "model.extension", "'km' is not in corpus.languages"),
])
def test_an_extension_that_cannot_work_is_refused(overrides, path, says):
    error = refusal(*overrides)
    assert error.path == path
    assert says in str(error)


@pytest.mark.parametrize("path", ["training.schedule", "training.annealing", "neurons.training", "sft.broad",
                                  "sft.high_quality"])
def test_a_batch_that_the_workers_cannot_share_is_refused(path):
    error = refusal("experiment=demo", f"{path}.batch_sequences=9")
    assert error.path == f"{path}.batch_sequences"
    assert "9 can't be shared evenly by 2 workers; make it a multiple" in str(error)


def test_a_batch_must_fit_one_size_of_an_elastic_group_at_least():
    elastic = ("cluster.training.num_workers=4", "cluster.training.min_workers=2")
    assert compose_experiment(["experiment=demo", *elastic, "sft.broad.batch_sequences=9"]).sft.broad.batch_sequences == 9
    error = refusal("experiment=demo", *elastic, "sft.broad.batch_sequences=13")
    assert "13 can't be shared evenly by 2 to 4 workers" in str(error)
    assert "sft.broad" in refusal("experiment=demo", *elastic, "sft.broad.batch_sequences=3").path


@pytest.mark.parametrize(("values", "path", "says"), [
    (["min_workers=3"], "min_workers", "3 is not in 0..num_workers=2"),
    (["min_workers=1", "zero_stage=3"], "min_workers", "cannot go on with 1"),
    (["offload=all"], "offload", "zero_stage=0 cannot offload 'all'"),
    (["offload=optimizer", "zero_stage=0"], "offload", "choose stage 1, 2 or 3"),
    (["keep_checkpoints=0"], "keep_checkpoints", "0 is below 1"),
    (["checkpoint_every_steps=-1"], "checkpoint_every_steps", "-1 is below 0"),
])
def test_what_no_training_can_do_is_refused(values, path, says):
    error = refusal("experiment=demo", *(f"cluster.training.{value}" for value in values))
    assert error.path == f"cluster.training.{path}"
    assert says in str(error)


def test_a_store_with_a_key_in_its_address_is_refused():
    error = refusal("experiment=demo", "store.url=s3://name:key@bucket/runs")
    assert error.path == "store.url"
    assert "key@bucket" not in str(error)
    assert compose_experiment(["experiment=demo", "store.url=s3://bucket/a@b"]).store.url == "s3://bucket/a@b"


def test_the_best_values_need_looks_at_held_out_text():
    assert refusal("experiment=demo", "sft.broad.keep=best").path == "sft.broad.keep"


def test_text_of_ones_own_needs_its_folder():
    assert "corpus.root" in str(refusal("experiment=local_text"))


def test_an_unknown_experiment_names_those_that_there_are():
    assert str(refusal("experiment=demmo")).startswith("experiment: unknown experiment 'demmo'; did you mean demo?")
    known = refusal("seed=1")
    assert known.path == "experiment"
    assert "demo" in str(known)


@pytest.mark.parametrize("text", ["seed", "seed==", "corpus.languages=[vi", ""])
def test_an_override_that_cannot_be_read_is_quoted(text):
    error = refusal("experiment=demo", text)
    assert repr(text) in str(error)
    assert "key=value" in str(error)


def test_a_configuration_folder_that_is_not_there_names_where_it_looked(monkeypatch, tmp_path):
    monkeypatch.setenv("SEA_RAY_CONF", str(tmp_path))
    with pytest.raises(ConfigError, match=rf"{tmp_path}.*SEA_RAY_CONF"):
        config_folder()


def test_ones_own_configuration_folder_is_taken(monkeypatch, tmp_path):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "config.yaml").write_text("seed: 1\n")
    monkeypatch.chdir(tmp_path)
    assert config_folder() == tmp_path / "conf"


@pytest.mark.parametrize(("override", "says"), [
    ("corpus.langages=[vi]", "error: corpus.langages: unknown key; did you mean languages"),
    ("experiment=dmeo", "error: experiment: unknown experiment 'dmeo'; did you mean demo?"),
])
def test_the_command_refuses_a_typo_before_ray_and_torch_are_imported(tmp_path, override, says):
    code = ("import sys; from sea_ray.launch.cli import main; code = main(sys.argv[1:])\n"
            "print('imported', [name for name in ('ray', 'torch', 'transformers') if name in sys.modules]); sys.exit(code)")
    done = subprocess.run([sys.executable, "-c", code, "run", "experiment=demo", f"store.url={tmp_path / 'runs'}", override],
                          cwd=REPO, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(says)
    assert "Traceback" not in done.stderr
    assert "imported []" in done.stdout
    assert not (tmp_path / "runs").exists()
