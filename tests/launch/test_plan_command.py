"""`sea-ray plan`: every training with its memory, work and state; what does not fit is refused before it starts."""

import dataclasses
import json

import pytest
from dry_platform import DryPlatform
from rich.console import Console

from sea_ray import plan
from sea_ray.artifacts import Store
from sea_ray.config import BaseModelConfig
from sea_ray.errors import ConfigError, MachineError
from sea_ray.languages import LANGUAGES
from sea_ray.launch import cli
from sea_ray.launch.accelerators import TextRates, load_accelerators
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.foresight import foresee, model_shape, planned_trainings
from sea_ray.launch.outlook import text_bytes
from sea_ray.launch.plan import describe_text
from sea_ray.launch.plan import plan as plan_command
from sea_ray.launch.prices import Machine
from sea_ray.launch.room import Room, check_plan, excess, forecasts, room_of
from sea_ray.neurons.config import SelectionConfig
from sea_ray.pipeline import run_experiment
from sea_ray.training.config import ExecutionConfig, WholeExecution
from sea_ray.training.estimate import estimate_memory
from sea_ray.training.shape import selected_neurons

GPU = Room(device="cuda", device_bytes=72e9, host_bytes=None, words="a GPU")


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))


def planned(store, *overrides):
    config = compose_experiment(["experiment=demo", *overrides])
    return {each.name: each for each in planned_trainings(foresee(config, store), model_shape(config.model)[0])}


def test_every_training_of_the_demo_is_planned_and_nothing_is_written(store):
    found = planned(store, "neurons.controls=[random_matched,continued_pretraining,lora]")
    kinds = {name.split("=")[0]: each.training.policy.kind for name, each in found.items()}
    assert kinds == {"base": "all", "base/annealing": "all", "neurons/top_frac": "neurons", "control/random_matched": "neurons",
                     "control/continued_pretraining": "all", "control/lora": "lora", "sft/mix": "all", "sft/high_quality": "all",
                     "control/without_safety": "all"}
    assert found["neurons/top_frac=0.05"].times == 10
    assert found["control/lora"].training.config.steps == 100
    assert not list(store.root.iterdir())


def test_a_terabyte_of_text_has_hours_machines_and_a_price(tmp_path):
    machine = Machine(cpus=16, on_demand=(0.8, 0.8), spot=(0.32, 0.48), region="", source="", dated="")
    assert describe_text(10**12, TextRates(mb_per_s_per_cpu=1.0), 2, "c7i.4xlarge", machine) == (
        "1,000.00 GB, 277.8 processor-hours at 1 MB/s each: 138.9 h on 2 processors, 2.2 h on 8 x c7i.4xlarge of 16; "
        "5.56 to 8.33 USD as spot or 13.89 USD on demand")
    (tmp_path / "th.txt").write_text("x" * 2000)
    files = compose_experiment(["experiment=demo", "corpus.source=files", f"corpus.root={tmp_path}",
                                "+corpus.paths={" + ", ".join(f"{code}: [{{glob: th.txt}}]" for code in LANGUAGES) + "}"])
    assert text_bytes(files.corpus) == 2000
    assert text_bytes(compose_experiment(["experiment=seallms3_7b"]).corpus) == 12 * 40_000_000
    assert text_bytes(compose_experiment(["experiment=demo"]).corpus) == 0
    assert 0.1 < load_accelerators().text.mb_per_s_per_cpu < 10


def test_what_is_finished_is_reused_and_what_a_sweep_decides_is_open(store):
    config = compose_experiment(["experiment=demo"])
    assert planned(store)["base"].state == "to do"
    assert planned(store)["sft/high_quality"].state == "open"
    corpus = commit(store, plan.corpus(config))
    commit(store, plan.base(config, corpus))
    assert planned(store)["base"].state == "finished"
    assert planned(store, "training.schedule.steps=3")["base"].state == "to do"


def test_with_both_sweeps_finished_every_state_is_known(store, planned_demo):
    assert "open" not in {each.state for each in planned_demo.values()}
    assert planned_demo["neurons/top_frac=0.05"].state == planned_demo["sft/high_quality"].state == "finished"


@pytest.fixture
def planned_demo(store):
    run_experiment(compose_experiment(["experiment=demo"]), DryPlatform(store))
    return planned(store)


def commit(store, stage):
    with store.building(stage.key) as folder:
        return store.commit(stage.key, folder, {}, {}, 0.0)


def test_the_shape_is_that_of_the_checkpoint_where_it_is_at_hand(tmp_path):
    stated = {"model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
              "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 500, "tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(stated))
    shape, origin = model_shape(BaseModelConfig(checkpoint=str(tmp_path)))
    assert (shape.d_model, shape.d_head, shape.vocab_size) == (64, 16, 500)
    assert origin == str(tmp_path / "config.json")
    (tmp_path / "config.json").write_text(json.dumps(stated | {"model_type": "gpt2"}))
    with pytest.raises(ConfigError, match="'gpt2' cannot be planned"):
        model_shape(BaseModelConfig(checkpoint=str(tmp_path)))


@pytest.mark.parametrize(("name", "values"), [("0_5b", 494_032_768), ("1_5b", 1_543_714_304), ("7b", 7_615_616_512)])
def test_each_recipe_trains_a_thousandth_of_the_published_number_of_values_and_fits_its_machine(store, name, values):
    config = compose_experiment([f"experiment=seallms3_{name}"])
    shape, _ = model_shape(config.model)
    assert shape.num_values == values
    grid = config.sweep.neurons.space["neurons.selection.top_frac"]
    assert config.neurons.selection.top_frac in grid
    room = dataclasses.replace(room_of(config.cluster), host_bytes=None)  # this machine is not the one
    for forecast in forecasts(config, foresee(config, store), shape):
        assert not excess(forecast, room), forecast.planned.name
        if forecast.planned.name == f"neurons/top_frac={config.neurons.selection.top_frac}":
            assert forecast.planned.training.trained_values / values == pytest.approx(0.001, rel=0.05)


def test_the_recipes_differ_in_model_machine_and_sizes_only():
    def rest(name):
        config = compose_experiment([f"experiment=seallms3_{name}"])
        training = dataclasses.replace(config.neurons.training, micro_batch=0)
        tuning = {part: dataclasses.replace(getattr(config.sft, part), micro_batch=0) for part in ("broad", "high_quality")}
        selection = dataclasses.replace(config.neurons.selection, top_frac=0.01)
        neurons = dataclasses.replace(config.neurons, training=training, selection=selection)
        neuron_sweep = dataclasses.replace(config.sweep.neurons, space={"neurons.selection.top_frac": (0.01,)})
        sweep = dataclasses.replace(config.sweep, neurons=neuron_sweep)
        return dataclasses.replace(config, name="", experiment=None, model=BaseModelConfig(), cluster=type(config.cluster)(),
                                   neurons=neurons, sweep=sweep, sft=dataclasses.replace(config.sft, **tuning))

    assert rest("0_5b") == rest("1_5b") == rest("7b")


def test_neurons_keep_the_cluster_s_stage_and_all_values_take_that_of_whole():
    execution = ExecutionConfig(num_workers=8, engine="deepspeed", zero_stage=1, whole=WholeExecution(zero_stage=3))
    assert execution.for_policy("neurons") == execution
    assert (execution.for_policy("all").zero_stage, execution.for_policy("all").activation_checkpointing) == (3, True)
    with pytest.raises(ConfigError, match="cannot offload"):
        ExecutionConfig(engine="deepspeed", whole=WholeExecution(zero_stage=2, offload="all"))


def test_a_budget_gives_the_number_of_neurons():
    shape, _ = model_shape(compose_experiment(["experiment=seallms3_7b"]).model)
    assert selected_neurons(shape, SelectionConfig(sites=("ffn",), top_frac=0.00125)) == {"ffn": 663}
    assert selected_neurons(shape, SelectionConfig(sites=("v",), top_k=7, budget_per="layer")) == {"v": 196}


def seven_billion(store, *overrides):
    config = compose_experiment(["experiment=seallms3_7b", *overrides])
    planned = forecasts(config, foresee(config, store), model_shape(config.model)[0])
    return next(each for each in planned if each.planned.name == "sft/high_quality")


def test_all_values_of_seven_billion_are_refused_on_one_gpu_with_what_would_fit(store):
    forecast = seven_billion(store, "cluster.training.whole={zero_stage: 1, activation_checkpointing: false}")
    (reason,) = excess(forecast, GPU)
    assert "weights" in reason
    assert "optimiser" in reason
    assert "cluster.training.whole." in reason
    assert "would fit" in reason
    alone = seven_billion(store, "cluster=gpu1_80gb")
    assert "cluster.training.whole.zero_stage=2, cluster.training.whole.offload=optimizer would fit" in excess(alone, GPU)[0]


def test_what_is_shared_out_or_offloaded_or_computed_again_takes_less(store):
    training = seven_billion(store).planned.training

    def peak(**changed):
        values = {"num_workers": 8, "engine": "deepspeed", "zero_stage": 1} | changed
        return estimate_memory(training, ExecutionConfig(**values), "cuda")

    assert peak(zero_stage=3).peak < peak(zero_stage=2).peak < peak(zero_stage=1).peak < peak(zero_stage=0).peak
    assert peak(activation_checkpointing=True).peak < peak().peak
    assert peak(zero_stage=2, offload="optimizer").optimizer == 0
    assert peak(zero_stage=2, offload="optimizer").host > peak(zero_stage=2).optimizer
    assert peak(zero_stage=3, offload="all").weights < peak(zero_stage=3).weights


def test_a_run_that_does_not_fit_is_refused_before_anything_starts(tmp_path, capsys):
    huge = ["experiment=demo", f"store.url={tmp_path}", "model.shape.d_model=16384", "model.shape.num_layers=80"]
    assert cli.main(["run", *huge]) == MachineError.exit_code
    said = capsys.readouterr().err
    assert "base does not fit: a worker needs" in said
    assert "of the memory that is available here" in said
    assert not (tmp_path / "artifacts").exists()


def test_a_finished_training_is_not_refused(store):
    huge = ["experiment=demo", "model.shape.d_model=16384", "model.shape.num_layers=80"]
    config = compose_experiment(huge)
    with pytest.raises(MachineError, match="base does not fit"):
        check_plan(config, store)
    commit(store, plan.base(config, commit(store, plan.corpus(config))))
    with pytest.raises(MachineError, match="neurons/top_frac"):
        check_plan(config, store)


def test_the_command_prints_each_training_and_the_sum(tmp_path):
    console = Console(record=True, width=400)
    assert plan_command(["experiment=seallms3_7b", f"store.url={tmp_path}", "cluster.address=auto"], console) == 0
    text = console.export_text()
    for said in ("7,615,616,512 values", "ZeRO 1: peak", "ZeRO 3: peak", "FLOPs", "a100_80gb", "35%",
                 "with activation checkpointing", "10 times", "fits"):
        assert said in text


def test_the_table_is_dated_and_every_cluster_names_one_of_it():
    table = load_accelerators()
    assert len(table.dated) == 10
    assert all(each.source for each in table.accelerators.values())
    with pytest.raises(ConfigError, match="did you mean a100_80gb"):
        room_of(compose_experiment(["experiment=seallms3_7b", "cluster.accelerator=a100_80"]).cluster)
