"""A training that is lost goes on as if nothing had happened: the same samples, the same bytes."""

import copy
import dataclasses
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from test_loop import CONFIG, Recorder, mixture

from sea_ray.artifacts import RECORD, StageKey, Store, read_json
from sea_ray.errors import ConfigError, MachineError
from sea_ray.neurons.sets import NeuronSet
from sea_ray.tracking import NullTracker
from sea_ray.training.config import ExecutionConfig, TrainPolicy
from sea_ray.training.engine import PreemptedError, SoloWorker
from sea_ray.training.loop import train
from sea_ray.training.policy import trainable
from sea_ray.training.state import TrainingStates

EVERY_3 = ExecutionConfig(checkpoint_every_steps=3)


class LostError(Exception):
    pass


class Dying(SoloWorker):
    """Is lost in the middle of a step."""

    def __init__(self, at, execution=EVERY_3):
        super().__init__("cpu", execution)
        self.at, self.step = at, -1

    def sum(self, tensor):
        self.step += 1
        if self.step == self.at:
            raise LostError
        return tensor


class Warned(SoloWorker):
    """Hears in a step that its machine goes away."""

    def __init__(self, at):
        super().__init__("cpu", ExecutionConfig(checkpoint_every_steps=0))
        self.at, self.asked = at, -1

    @property
    def preempted(self):
        self.asked += 1
        return self.asked == self.at

    @preempted.setter
    def preempted(self, value):
        pass


@pytest.fixture
def unfinished(tmp_path):
    return Store(str(tmp_path / "store")).unfinished(StageKey(kind="base", name="base", config={}))


def run(model, sources, unfinished, worker=None, config=CONFIG, tracker=None, **options):
    worker, tracker = worker or SoloWorker("cpu", EVERY_3), tracker or NullTracker()
    with closing(TrainingStates(unfinished, worker, tracker)) as states:
        return train(model, sources, mixture(sources, config), config, worker, tracker, states=states, **options)


def same(model, twin):
    return all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize("at", [1, 3, 7, 11])
def test_a_lost_training_ends_bit_equal_to_one_that_was_not(model, sources, unfinished, at):
    whole, lost = copy.deepcopy(model), copy.deepcopy(model)
    expected = train(whole, sources, mixture(sources), CONFIG, SoloWorker("cpu"), NullTracker())
    with pytest.raises(LostError):
        run(lost, sources, unfinished, Dying(at))
    assert unfinished.names() == [f"step-{step:09}" for step in range(3, at + 1, 3)][-2:]
    report = run(model, sources, unfinished)
    assert same(model, whole)
    assert report.resumed_step == at // 3 * 3  # at most one interval is done again
    assert report.losses == expected.losses
    assert report.tokens == expected.tokens
    assert report.gradient_and_state_bytes == expected.gradient_and_state_bytes
    assert len(unfinished.names()) == 2


def test_neurons_go_on_too(model, sources, unfinished):
    neurons = NeuronSet(language="th", indices={("ffn", 0): np.array([1, 5]), ("v", 1): np.array([3])})

    def deltas(model, worker):
        with trainable(model, TrainPolicy(kind="neurons"), neurons) as trained:
            run(model, sources, unfinished, worker)
        return trained.compact.deltas()

    before = copy.deepcopy(model)
    with pytest.raises(LostError):
        deltas(model, Dying(8))
    resumed = deltas(model, SoloWorker("cpu", EVERY_3))
    assert same(model, before)
    unfinished.clear()
    for name, delta in deltas(model, SoloWorker("cpu", EVERY_3)).items():
        assert np.array_equal(resumed[name].values, delta.values), name
        assert abs(delta.values).max() > 0


def test_a_finished_training_is_read_and_not_done_again(model, sources, unfinished):
    twin, tracker = copy.deepcopy(model), Recorder()
    first = run(model, sources, unfinished)
    again = run(twin, sources, unfinished, Dying(0), tracker=tracker)
    assert same(model, twin)
    assert again == dataclasses.replace(first, setup_seconds=0.0, resumed_step=12)
    assert tracker.rows == []


def test_skipped_steps_and_the_updates_count_are_part_of_the_state(model, sources, unfinished):
    class Spiking(Dying):
        def sum(self, tensor):
            return super().sum(tensor) * torch.tensor([float("inf") if self.step == 1 else 1.0, 1.0])

    whole, lost = copy.deepcopy(model), copy.deepcopy(model)
    train(whole, sources, mixture(sources), CONFIG, Spiking(99), NullTracker())
    with pytest.raises(LostError):
        run(lost, sources, unfinished, Spiking(5))
    report = run(model, sources, unfinished)
    assert report.skipped == (1,)
    assert same(model, whole)


def test_a_notice_saves_at_once_and_nothing_is_lost(model, sources, unfinished):
    whole = copy.deepcopy(model)
    train(whole, sources, mixture(sources), CONFIG, SoloWorker("cpu"), NullTracker())
    with pytest.raises(PreemptedError, match="after step 4"):
        run(copy.deepcopy(model), sources, unfinished, Warned(4))
    assert run(model, sources, unfinished).resumed_step == 5
    assert same(model, whole)


def test_a_damaged_state_is_named_and_the_one_before_it_is_taken(model, sources, unfinished):
    whole, tracker = copy.deepcopy(model), Recorder()
    train(whole, sources, mixture(sources), CONFIG, SoloWorker("cpu"), NullTracker())
    with pytest.raises(LostError):
        run(copy.deepcopy(model), sources, unfinished, Dying(7))
    file = unfinished.get("step-000000006") / "state-00001.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    report = run(model, sources, unfinished, tracker=tracker)
    assert report.resumed_step == 3
    assert "step-000000006 is damaged" in tracker.notes[0]
    assert "SHA-256" in tracker.notes[0]
    assert same(model, whole)


def test_a_half_written_state_is_never_read(model, sources, unfinished):
    with pytest.raises(LostError):
        run(copy.deepcopy(model), sources, unfinished, Dying(4))
    half = unfinished.get("step-000000003").with_name("step-000000006")
    half.mkdir()
    (half / "state-00001.safetensors").write_bytes(b"half")
    assert unfinished.names() == ["step-000000003"]
    assert run(model, sources, unfinished).resumed_step == 3


def test_a_state_of_another_model_or_training_is_refused_with_the_difference(model, sources, unfinished, shape):
    from sea_ray.training.model import new_model

    run(copy.deepcopy(model), sources, unfinished)
    other = new_model(dataclasses.replace(shape, d_mlp=64), 61, seed=3, eos_id=0)
    with pytest.raises(ConfigError, match=r"another model: it holds .*mlp.* as \[.*48.*\], here it is \[.*64"):
        run(other, sources, unfinished)
    with pytest.raises(ConfigError, match=r"learning_rate is 0\.003 there, 0\.1 here"):
        run(model, sources, unfinished, config=dataclasses.replace(CONFIG, learning_rate=0.1))
    with pytest.raises(ConfigError, match="other samples"):
        run(model, {name: part.select(range(5)) for name, part in sources.items()}, unfinished)


def test_the_best_values_of_the_whole_history_are_kept_however_often_it_was_lost(model, sources, unfinished):
    # A rate that is far too high: the best look is an early one, before the resumed process began.
    config = dataclasses.replace(CONFIG, steps=24, learning_rate=0.3, warmup_frac=0.9, clip_norm=0, eval_every_steps=2,
                                 keep="best", max_loss_rise=0)
    whole, lost = copy.deepcopy(model), copy.deepcopy(model)
    with_place = {"config": config, "held_out": sources}
    expected = run(whole, sources, unfinished, **with_place)
    assert 0 < expected.kept_step < 20
    unfinished.clear()
    with pytest.raises(LostError):
        run(lost, sources, unfinished, Dying(31), **with_place)  # a look asks for a sum of its own
    assert f"step-{expected.kept_step:09}" in unfinished.names()
    report = run(model, sources, unfinished, **with_place)
    assert report.resumed_step > 0
    assert report.kept_step == expected.kept_step
    assert report.held_out == expected.held_out
    assert same(model, whole)
    with pytest.raises(ConfigError, match="keep"):
        train(model, sources, mixture(sources, config), config, SoloWorker("cpu"), NullTracker(), held_out=sources)


def test_states_live_in_a_remote_store_and_another_machine_goes_on(model, sources, tmp_path):
    key = StageKey(kind="base", name="base", config={})
    url = f"memory://states-{tmp_path.name}"
    here, there = (Store(url, cache=tmp_path / name).unfinished(key).part("whole") for name in ("here", "there"))
    whole = copy.deepcopy(model)
    train(whole, sources, mixture(sources), CONFIG, SoloWorker("cpu"), NullTracker())
    with pytest.raises(LostError):
        run(copy.deepcopy(model), sources, here, Dying(10))
    assert there.names() == here.names() == ["step-000000006", "step-000000009"]
    assert run(model, sources, there).resumed_step == 9
    assert same(model, whole)
    Store(url, cache=tmp_path / "there").unfinished(key).clear()
    assert Store(url, cache=tmp_path / "new").unfinished(key).part("whole").names() == []


def test_one_failed_save_is_noted_and_three_in_a_row_end_the_training(model, sources, unfinished, monkeypatch):
    put, failures = unfinished.put, []

    def failing(folder, name, record):
        if len(failures) < failing.limit:
            failures.append(name)
            raise OSError("the network is gone")
        put(folder, name, record)

    monkeypatch.setattr(unfinished, "put", failing)
    failing.limit, tracker = 2, Recorder()
    run(copy.deepcopy(model), sources, unfinished, tracker=tracker)
    assert sum("the network is gone" in note for note in tracker.notes) == 2
    assert unfinished.names() == ["step-000000009", "step-000000012"]
    unfinished.clear()
    failing.limit = 99
    with pytest.raises(MachineError, match=r"3 states in a row could not be saved.*the network is gone"):
        run(model, sources, unfinished)
    assert not list(unfinished.temporary().parent.glob("unfinished-*/state-*"))


def test_shards_hold_every_tensor_once(model, sources, unfinished, monkeypatch):
    monkeypatch.setattr("sea_ray.training.state.SHARD_BYTES", 5000)
    with pytest.raises(LostError):
        run(copy.deepcopy(model), sources, unfinished, Dying(4))
    folder = unfinished.get("step-000000003")
    names = read_json(folder / RECORD)["tensors"]
    assert len(names) == 3 * len(list(model.named_parameters()))
    assert len(set(names.values())) > 3
    whole = copy.deepcopy(model)
    train(whole, sources, mixture(sources), CONFIG, SoloWorker("cpu"), NullTracker())
    run(model, sources, unfinished)
    assert same(model, whole)


KILLED = """
import sys, torch
sys.path[:0] = sys.argv[2:]
from conftest import EOS, VOCAB, documents, tokens_of
from test_loop import CONFIG
from test_state import EVERY_3, run
import dataclasses
from sea_ray.artifacts import StageKey, Store
from sea_ray.tracking import NullTracker
from sea_ray.training.engine import SoloWorker
from sea_ray.training.model import ModelConfig, new_model
from sea_ray.training.sequences import pack_corpus
torch.set_num_threads(1)
class Telling(SoloWorker):
    def sum(self, tensor):
        print("step", flush=True)
        return tensor
sources = {name: pack_corpus(tokens_of(documents(seed)), EOS, 16) for seed, name in enumerate(("th", "vi"))}
shape = ModelConfig(d_model=32, num_layers=2, num_heads=4, num_kv_heads=2, d_mlp=48, max_position=64)
model = new_model(shape, VOCAB, seed=3, eos_id=EOS)
unfinished = Store(sys.argv[1]).unfinished(StageKey(kind="base", name="base", config={}))
config = dataclasses.replace(CONFIG, steps=400)
report = run(model, sources, unfinished, Telling("cpu", EVERY_3), config)
torch.save([p.detach() for p in model.parameters()], sys.argv[1] + "/end.pt")
print("resumed", report.resumed_step)
"""


@pytest.mark.slow
def test_a_process_killed_at_any_moment_goes_on_bit_equal(tmp_path):
    here = Path(__file__).parent

    def start(name):
        (tmp_path / name).mkdir(exist_ok=True)
        return subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / name), str(here)], stdout=subprocess.PIPE,
                                text=True, env=os.environ | {"PYTHONPATH": str(here.parents[1])})

    whole = start("whole")
    whole.communicate(timeout=120)
    for at in (37, 150):
        process = start("killed")
        for _, line in zip(range(at), process.stdout, strict=False):
            assert line == "step\n"
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    out, _ = start("killed").communicate(timeout=120)
    assert int(out.split()[-1]) > 100
    for p, q in zip(torch.load(tmp_path / "whole/end.pt"), torch.load(tmp_path / "killed/end.pt"), strict=True):
        assert torch.equal(p, q)
