"""The loop learns, and the split of its work changes nothing."""

import copy
import dataclasses
import threading

import pytest
import torch

from sea_ray.errors import ConfigError, DataError
from sea_ray.tracking import NullTracker
from sea_ray.training.config import ExecutionConfig
from sea_ray.training.engine import SoloWorker, TorchEngine, parameter_groups
from sea_ray.training.loop import TrainReport, train
from sea_ray.training.mixture import Mixture
from sea_ray.training.schedule import TrainConfig

CONFIG = TrainConfig(steps=12, batch_sequences=8, sequence_tokens=16, learning_rate=3e-3, weight_decay=0.1)


def mixture(sources, config=CONFIG):
    sizes = {name: source.num_sequences for name, source in sources.items()}
    return Mixture(sizes, dict.fromkeys(sizes, 0.5), config.seed, None, config.total_samples)


class Recorder(NullTracker):
    def __init__(self):
        self.rows, self.notes = [], []

    def log(self, step=None, **figures):
        self.rows.append({"step": step, **figures})

    def note(self, text):
        self.notes.append(text)


class ThreadWorker(SoloWorker):
    """A rank that is a thread: gradients and sums meet at a barrier."""

    def __init__(self, rank, world_size, shared):
        super().__init__("cpu")
        self.rank, self.world_size, self._shared = rank, world_size, shared

    def sum(self, tensor):
        self._shared.parts[self.rank] = tensor.clone()
        self._shared.barrier.wait()
        total = sum(self._shared.parts[rank] for rank in range(self.world_size))
        self._shared.barrier.wait()
        return total

    def engine(self, model, parameters, config):
        worker, plain = self, TorchEngine(model, parameters, config, self.device)

        class Summing(TorchEngine):
            def __init__(self):
                self.__dict__.update(plain.__dict__)

            def backward(self, loss, last):
                super().backward(loss, last)
                if last:
                    for p in parameters.values():
                        p.grad = worker.sum(p.grad)

        return Summing()


class Shared:
    def __init__(self, world_size):
        self.barrier, self.parts = threading.Barrier(world_size, timeout=20), {}


def test_the_loss_falls_and_the_report_counts(model, sources):
    tracker = Recorder()
    config = dataclasses.replace(CONFIG, steps=60, learning_rate=1e-2)
    report = train(model, sources, mixture(sources, config), config, SoloWorker("cpu", ExecutionConfig(log_every_steps=25)),
                   tracker)
    assert sum(report.losses[-5:]) / 5 < 0.5 * report.losses[0]
    assert len(report.losses) == 60
    assert [row["step"] for row in tracker.rows] == [24, 49, 59]
    assert tracker.rows[-1]["eta_s"] == 0
    assert report.trained_values == report.total_values == sum(p.numel() for p in model.parameters())
    assert report.tokens == sum(
        int(sources[name].loss_mask_ST[number].sum()) for step in range(60)
        for name, number in mixture(sources, config).batch(step, 8))
    assert report.realised_shares == {"th": 0.5, "vi": 0.5}
    assert tracker.notes == [report.statement()]


def test_the_bytes_are_those_of_gradients_moments_and_step_counters(model, sources):
    report = train(model, sources, mixture(sources), CONFIG, SoloWorker("cpu"), NullTracker())
    tensors = list(model.parameters())
    assert report.gradient_and_state_bytes == 12 * sum(p.numel() for p in tensors) + 4 * len(tensors)
    assert report.allreduce_bytes_per_step == 0


def test_the_statement_names_share_and_bytes():
    report = TrainReport(
        steps=1, tokens=1, seconds=1.0, setup_seconds=1.0, losses=(1.0,), trained_values=44_032,
        total_values=1_790_000, gradient_and_state_bytes=528_400, allreduce_bytes_per_step=176_128, engine={},
        realised_shares={})
    assert report.statement() == ("trains 44,032 of 1,790,000 values (2.46%), 0.53 MB of gradients and optimiser state, "
                                  "0.18 MB all-reduced per step")
    alone = dataclasses.replace(report, allreduce_bytes_per_step=0)
    assert alone.statement().endswith("nothing all-reduced per step")


def test_the_same_seed_gives_the_same_bytes_twice(model, sources):
    twin = copy.deepcopy(model)
    for each in (model, twin):
        train(each, sources, mixture(sources), CONFIG, SoloWorker("cpu"), NullTracker())
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q), name


def test_micro_batches_change_nothing(model, sources):
    twin = copy.deepcopy(model)
    whole = train(model, sources, mixture(sources), CONFIG, SoloWorker("cpu"), NullTracker())
    parts = train(twin, sources, mixture(sources), dataclasses.replace(CONFIG, micro_batch=3), SoloWorker("cpu"),
                  NullTracker())
    assert parts.losses == pytest.approx(whole.losses, rel=1e-5)


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_the_number_of_workers_changes_nothing(model, sources, world_size):
    alone = train(copy.deepcopy(model), sources, mixture(sources), CONFIG, SoloWorker("cpu"), NullTracker())
    shared, reports = Shared(world_size), {}
    models = [copy.deepcopy(model) for _ in range(world_size)]

    def run(rank):
        reports[rank] = train(models[rank], sources, mixture(sources), dataclasses.replace(CONFIG, micro_batch=2),
                              ThreadWorker(rank, world_size, shared), NullTracker())

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(reports) == list(range(world_size))
    for report in reports.values():
        assert report.losses == pytest.approx(alone.losses, rel=1e-5)
        assert report.tokens == alone.tokens


def test_what_does_not_require_a_gradient_does_not_move(model, sources):
    before = {name: p.clone() for name, p in model.named_parameters()}
    for name, p in model.named_parameters():
        p.requires_grad_("mlp" in name)
    report = train(model, sources, mixture(sources), CONFIG, SoloWorker("cpu"), NullTracker())
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if "mlp" in name}
    assert report.trained_values == sum(before[name].numel() for name in moved)


def test_weight_decay_spares_norms_biases_and_embeddings(model):
    parameters = dict(model.named_parameters())
    decayed, rest = parameter_groups(model, parameters, 0.1)
    names = {id(p): name for name, p in parameters.items()}
    assert {names[id(p)].split(".")[-2] for p in decayed["params"]} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert rest["weight_decay"] == 0
    assert len(decayed["params"]) + len(rest["params"]) == len(parameters)


def test_losses_that_are_not_finite_are_skipped_and_counted_and_end_the_training_with_step_and_samples(model, sources):
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight[0, 0] = float("nan")
    before = model.model.embed_tokens.weight.clone()
    tracker, config = Recorder(), dataclasses.replace(CONFIG, max_skipped_steps=2)
    with pytest.raises(DataError, match=r"step 2 .*3 steps were skipped \(0, 1, 2\), more than max_skipped_steps=2") as caught:
        train(model, sources, mixture(sources), config, SoloWorker("cpu"), tracker)
    assert all(f"{name} {number}" in str(caught.value) for name, number in mixture(sources).batch(2, 8))
    assert [note.split(" moved")[0] for note in tracker.notes] == ["step 0", "step 1"]
    assert torch.equal(model.model.embed_tokens.weight, before)


class Spiking(SoloWorker):
    """At some steps the batch's loss is beyond all measure."""

    def __init__(self, steps, factor):
        super().__init__("cpu")
        self.steps, self.factor, self.step = steps, factor, -1

    def sum(self, tensor):
        self.step += 1
        return tensor * torch.tensor([self.factor if self.step in self.steps else 1.0, 1.0])


@pytest.mark.parametrize("factor", [50.0, float("inf")])
def test_an_exploding_loss_moves_nothing_and_the_training_goes_on(model, sources, factor):
    before, tracker = copy.deepcopy(model), Recorder()
    report = train(model, sources, mixture(sources), CONFIG, Spiking({5, 7}, factor), tracker)
    assert report.skipped == (5, 7)
    assert report.tokens == sum(
        int(sources[name].loss_mask_ST[number].sum()) for step in range(12) if step not in (5, 7)
        for name, number in mixture(sources).batch(step, 8))
    assert "2 steps skipped, the first 5" in report.statement()
    assert not torch.equal(model.model.embed_tokens.weight, before.model.embed_tokens.weight)
    if factor == 50.0:  # with the limit off a large loss is as good as any
        accepted = train(before, sources, mixture(sources), dataclasses.replace(CONFIG, max_loss_rise=0),
                         Spiking({5, 7}, factor), tracker)
        assert accepted.skipped == ()


def test_held_out_losses_are_looked_at_and_fall(model, sources):
    config = dataclasses.replace(CONFIG, steps=40, eval_every_steps=15, learning_rate=1e-2)
    tracker = Recorder()
    report = train(model, sources, mixture(sources, config), config, SoloWorker("cpu"), tracker, held_out=sources)
    assert [step for step, _ in report.held_out] == [15, 30, 40]
    assert report.held_out[-1][1]["th"] < report.held_out[0][1]["th"]
    rows = [row for row in tracker.rows if "held_out_mean" in row]
    assert [row["step"] for row in rows] == [14, 29, 39]
    assert rows[0]["held_out/vi"] == report.held_out[0][1]["vi"]
    alone = train(copy.deepcopy(model), sources, mixture(sources), dataclasses.replace(CONFIG, steps=1, eval_every_steps=1),
                  SoloWorker("cpu"), tracker, held_out={"th": sources["th"].select(range(3))})
    assert set(alone.held_out[0][1]) == {"th"}
    with pytest.raises(ConfigError, match="eval_every_steps"):
        train(model, sources, mixture(sources), config, SoloWorker("cpu"), tracker)


def test_what_does_not_fit_is_refused_before_the_first_step(model, sources):
    with pytest.raises(ConfigError, match="packed in 16 tokens, not 32"):
        train(model, sources, mixture(sources), dataclasses.replace(CONFIG, sequence_tokens=32), SoloWorker("cpu"),
              NullTracker())
    with pytest.raises(ConfigError, match="'vi', which is not among"):
        train(model, {"th": sources["th"]}, mixture(sources), CONFIG, SoloWorker("cpu"), NullTracker())
    worker = SoloWorker("cpu")
    worker.world_size = 9
    with pytest.raises(ConfigError, match="8 sequences are too few for 9 workers"):
        train(model, sources, mixture(sources), CONFIG, worker, NullTracker())
    for p in model.parameters():
        p.requires_grad_(False)
    with pytest.raises(ConfigError, match="policy"):
        train(model, sources, mixture(sources), CONFIG, SoloWorker("cpu"), NullTracker())


def test_bfloat16_learns_too_and_keeps_float32_weights(model, sources):
    config = dataclasses.replace(CONFIG, dtype="bfloat16", steps=20)
    report = train(model, sources, mixture(sources, config), config, SoloWorker("cpu"), NullTracker())
    assert report.losses[-1] < report.losses[0]
    assert all(p.dtype == torch.float32 for p in model.parameters())
