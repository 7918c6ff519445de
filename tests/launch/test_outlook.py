"""What a plan foretells: all stages, their time, memory, storage and price; and who is asked before a run that is paid for."""

import dataclasses
import re

import pytest
from dry_platform import DryPlatform

from sea_ray.artifacts import Store
from sea_ray.errors import ConfigError
from sea_ray.launch import cli, plan, timing
from sea_ray.launch import outlook as outlook_module
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.durations import Pace, training_key
from sea_ray.launch.foresight import model_shape
from sea_ray.launch.outlook import foretell, prices, summary
from sea_ray.launch.timing import PROBE, StepTime, Timed, time_steps
from sea_ray.pipeline import run_experiment
from sea_ray.training.config import ExecutionConfig, ModelConfig, TrainConfig, TrainPolicy
from sea_ray.training.estimate import Training, step_work
from sea_ray.training.shape import ModelShape


@pytest.fixture(autouse=True)
def no_address(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))


def foretold(store, *overrides, experiment="demo"):
    return foretell(compose_experiment([f"experiment={experiment}", *overrides]), store, measure=False)


def said(outlook):
    return "\n".join(summary(outlook))


def test_every_stage_is_counted_and_every_sweep_has_its_trials(store):
    outlook = foretold(store)
    assert len(outlook.stages) == 26
    text = said(outlook)
    assert "stages      26: 7 to do, 19 that a sweep decides" in text
    assert "sweep neurons: 4 trials, 0 finished" in text
    assert "sweep sft: 4 trials, an earlier sweep decides which are finished" in text
    assert {"corpus", "base", "detection", "neurons", "merged", "conversations", "sft", "evaluation",
            "continued_pretraining", "gate"} == outlook.seconds_by_kind().keys()


def test_a_finished_experiment_has_nothing_to_do_and_costs_nothing(store):
    run_experiment(compose_experiment(["experiment=demo"]), DryPlatform(store))
    outlook = foretold(store)
    assert not outlook.to_do
    assert outlook.seconds == 0
    assert outlook.start_s == 0
    text = said(outlook)
    assert "stages      26: 26 to reuse" in text
    assert "sweep neurons: 4 trials, 4 finished" in text
    assert "nothing is to do" in text


def test_long_answers_of_dialogues_take_their_time(store, tmp_path):
    (tmp_path / "rows.jsonl").touch()

    def seconds(benchmark, tokens):
        return foretold(store, f"benchmarks.root={tmp_path}", f"+benchmarks.files={{{benchmark}: rows.jsonl}}",
                        f"evaluation.dialogue_tokens={tokens}").seconds_by_kind()["evaluation"]

    assert seconds("seabench", 2048) > seconds("seabench", 64)
    assert seconds("xstest", 2048) == seconds("xstest", 64)


def test_what_is_finished_takes_no_time(store):
    config = compose_experiment(["experiment=demo"])
    whole = foretold(store)
    corpus, base = whole.foresight.stages[0][0], whole.foresight.stages[1][0]
    for stage in (corpus, base):
        with store.building(stage.key) as folder:
            store.commit(stage.key, folder, {}, {}, 1.0)
    rest = foretell(config, store, measure=False)
    parts = whole.seconds_by_kind()
    assert "base" not in rest.seconds_by_kind()
    assert rest.seconds < whole.seconds - parts["base"]


def test_more_work_takes_longer_and_more_groups_shorten_a_sweep(store):
    seconds = foretold(store).seconds
    assert foretold(store, "training.schedule.steps=800").seconds > seconds + 10
    assert foretold(store, "evaluation.items=80").seconds > seconds
    assert foretold(store, "neurons.detection.windows_per_language=480").seconds > seconds
    assert foretold(store, "corpus.demo.train_documents=5000").seconds > seconds
    alone, beside = foretold(store), foretold(store, "cluster.worker_groups=2")
    assert beside.seconds_by_kind()["neurons"] < alone.seconds_by_kind()["neurons"]
    assert beside.seconds_by_kind()["continued_pretraining"] == alone.seconds_by_kind()["continued_pretraining"]


def test_timed_steps_go_before_the_table_and_are_stretched_by_the_work():
    shape = ModelShape.from_config(ModelConfig(), 8192)
    training = Training(shape=shape, policy=TrainPolicy(kind="neurons"), config=TrainConfig(steps=10), neurons={"ffn": 30})
    more = dataclasses.replace(training, neurons={"ffn": 300})
    flops = step_work(training).total
    pace = Pace(flops_per_s=1e9, reading_flops_per_s=1e9, words="", steps={training_key(training): (flops, 0.5)})
    execution = ExecutionConfig(num_workers=2, engine="deepspeed")
    assert pace.step_s(training, execution) == 0.5
    assert pace.step_s(more, execution) == pytest.approx(0.5 * step_work(more).total / flops)
    assert pace.step_s(PROBE, execution) == step_work(PROBE).total / 2e9
    assert dataclasses.replace(pace, flops_per_s=None, steps={}).step_s(PROBE, execution) is None


def test_an_accelerator_without_a_name_has_no_time_and_says_so(store):
    outlook = foretold(store, "cluster.training.device=cuda")
    assert outlook.seconds is None
    assert "time        not known: name cluster.accelerator" in said(outlook)


def test_every_provider_that_has_the_accelerator_is_priced(store):
    outlook = foretold(store, experiment="seallms3_7b")
    hours = outlook.seconds / 3600
    found = {offer.provider: (spot, on_demand) for offer, spot, on_demand in prices(outlook)}
    assert {"aws", "gcp", "lambda"} <= found.keys()
    assert found["lambda"][0] is None
    assert found["aws"][1][0] == pytest.approx(27.44705 * hours)
    text = said(outlook)
    assert f"GPU-hours   {8 * hours:,.1f}, of 8 GPUs" in text
    assert re.search(r"price       aws, 1 x p4de\.24xlarge: [\d,.]+ to [\d,.]+ USD as spot \(assumed\) or [\d,.]+ USD on demand "
                     r"\(us-east-1, 2026-02-09\)", text)


def test_processors_alone_have_hours_and_no_price_unless_they_are_somebody_s(store):
    assert not prices(foretold(store))
    assert [offer.machine for offer, *_ in prices(foretold(store, "cluster.provider=aws"))] == ["c7i.4xlarge"]


def test_results_take_what_their_values_take(store):
    outlook = foretold(store)
    shape, _ = model_shape(outlook.config.model)
    sizes = {each.stage.name: each.num_bytes for each in outlook.stages}
    assert sizes["base"] == pytest.approx(4 * shape.num_values, rel=0.2)
    assert sizes["neurons/top_frac=0.02"] < sizes["neurons/top_frac=0.2"]
    assert 50e6 < sum(outlook.bytes_by_kind().values()) < 200e6
    assert "of states on the way" in said(outlook)


PRICED = ["experiment=seallms3_0_5b", "cluster.provider=aws", "cluster.address=auto", "cluster.min_free_disk_gib=0",
          "cluster.min_free_memory_gib=0"]


def test_a_run_that_is_paid_for_is_refused_where_nobody_can_be_asked(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plan, "is_terminal", lambda: False)
    assert cli.main(["run", *PRICED, f"store.url={tmp_path}"]) == ConfigError.exit_code
    seen = capsys.readouterr()
    assert "price       aws, 1 x g5.xlarge" in seen.out
    assert "say --yes" in seen.err
    assert not (tmp_path / "artifacts").exists()


def test_a_person_may_say_no(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plan, "is_terminal", lambda: True)
    monkeypatch.setattr("builtins.input", lambda *_: "n")
    assert cli.main(["run", *PRICED, f"store.url={tmp_path}"]) == 0
    assert "nothing was started" in capsys.readouterr().out
    assert not (tmp_path / "artifacts").exists()


def test_nobody_is_asked_on_this_machine_nor_twice_nor_for_nothing(store, monkeypatch):
    def refuse(*_):
        raise AssertionError("asked")

    monkeypatch.setattr("builtins.input", refuse)
    monkeypatch.setattr(plan, "is_terminal", lambda: True)
    console = plan.Console(file=None, quiet=True)
    local = compose_experiment(["experiment=demo"])
    assert plan.agree_to_price(local, store, console, yes=False)
    priced = compose_experiment(["experiment=demo", "cluster.provider=aws"])
    assert plan.agree_to_price(priced, store, console, yes=True)
    run_experiment(priced, DryPlatform(store))
    assert plan.agree_to_price(priced, store, console, yes=False)


@pytest.mark.parametrize(("provider", "said"), [("awss", "did you mean aws"), ("gcp", "no machine of 'gcp' with 1 of a10g")])
def test_a_provider_that_does_not_suit_is_refused_before_anything_starts(tmp_path, capsys, provider, said):
    assert cli.main(["run", "--yes", *PRICED, f"cluster.provider={provider}", f"store.url={tmp_path}"]) == ConfigError.exit_code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.slow
def test_real_steps_are_timed_in_as_many_processes_as_will_train(monkeypatch):
    monkeypatch.setattr(timing, "BUDGET_S", 0.2)
    shape = ModelShape.from_config(ModelConfig(d_model=32, num_layers=2, d_mlp=48, max_position=64), 400)
    config = TrainConfig(steps=100, batch_sequences=4, sequence_tokens=16)
    whole = Training(shape=shape, policy=TrainPolicy(kind="all"), config=config)
    neurons = Training(shape=shape, policy=TrainPolicy(kind="neurons"), config=config, neurons={"ffn": 9, "v": 4})
    times = time_steps([Timed(training=whole, target_frac=0.3), Timed(training=neurons)],
                       ExecutionConfig(num_workers=2, engine="deepspeed", zero_stage=0, device="cpu"))
    assert len(times) == 2
    assert all(0 < each.seconds < 60 for each in times)
    assert all(0 < each.share <= 1 for each in times)


def test_a_machine_that_others_use_is_told(store, monkeypatch):
    monkeypatch.setattr(outlook_module, "time_steps", lambda timed, _: [StepTime(seconds=0.2, share=0.5)] * len(timed))
    outlook = foretell(compose_experiment(["experiment=demo"]), store, measure=True)
    assert outlook.pace.share == 0.5
    assert len(outlook.pace.steps) == 3  # of the base, of neurons, of fine-tuning
    assert "the workers have 50% of the processors" in said(outlook)
    monkeypatch.setattr(outlook_module, "time_steps", lambda timed, _: [StepTime(seconds=0.2, share=0.9)] * len(timed))
    assert "others use" not in said(foretell(compose_experiment(["experiment=demo"]), store, measure=True))
