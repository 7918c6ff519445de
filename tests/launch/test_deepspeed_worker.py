"""Two real gloo ranks under DeepSpeed train what one process of plain torch trains, run after run."""

import copy
import dataclasses
import math
import os
import pickle
import socket

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sea_ray.errors import MachineError
from sea_ray.launch.deepspeed_worker import DeepSpeedWorker
from sea_ray.neurons.pack import LanguagePack
from sea_ray.neurons.sets import NeuronSet
from sea_ray.neurons.sites import describe
from sea_ray.neurons.untouched import snapshot, tensor_digests
from sea_ray.tracking import NullTracker
from sea_ray.training.config import ExecutionConfig, ModelConfig, TrainConfig, TrainPolicy
from sea_ray.training.engine import SoloWorker
from sea_ray.training.estimate import Training, gradient_and_state_bytes
from sea_ray.training.loop import train
from sea_ray.training.mixture import Mixture
from sea_ray.training.model import new_model
from sea_ray.training.neuron_training import train_neurons
from sea_ray.training.policy import trainable
from sea_ray.training.sequences import pack_corpus
from sea_ray.training.shape import ModelShape

CONFIG = TrainConfig(steps=6, batch_sequences=8, sequence_tokens=16, learning_rate=3e-3, weight_decay=0.1,
                     micro_batch=2)
NEURON_CONFIG = TrainConfig(steps=6, batch_sequences=8, sequence_tokens=16, learning_rate=3e-3)
NEURONS = NeuronSet(language="th", indices={("ffn", 0): np.array([1, 5]), ("v", 1): np.array([3])})
POLICY_CONFIG = dataclasses.replace(CONFIG, steps=3, batch_sequences=4, micro_batch=1)
FIFTY_STEPS = TrainConfig(steps=50, batch_sequences=2, sequence_tokens=16, learning_rate=3e-3, weight_decay=0.1)
POLICIES = {"ffn_only": (TrainPolicy(kind="ffn_only"), 0), "embeddings": (TrainPolicy(kind="embeddings"), 0),
            "rows of embeddings": (TrainPolicy(kind="embeddings"), 30), "lora": (TrainPolicy(kind="lora", lora_rank=4), 0)}
"""Name -> policy, and the first row that trains."""
STAGES = (1, 0, 2, 3)
SHAPE = ModelConfig(d_model=32, num_layers=2, d_mlp=48, max_position=64)
VOCAB = 4000  # 128,000 embedding values: above the size that ZeRO-3 leaves whole


def toy():
    model = new_model(SHAPE, VOCAB, seed=3, eos_id=0)
    tokens = np.random.default_rng(0).integers(0, 60, 800)
    sources = {"th": pack_corpus(tokens[:400], 0, 16), "vi": pack_corpus(tokens[400:], 0, 16)}
    sizes = {name: part.num_sequences for name, part in sources.items()}
    return model, sources, Mixture(sizes, {"th": 0.3, "vi": 0.7}, 0, None, CONFIG.total_samples)


def zero(stage):
    return DeepSpeedWorker(ExecutionConfig(num_workers=2, engine="deepspeed", zero_stage=stage, device="cpu"))


def compare_runs(worker):
    """Train neurons, then everything, as `alone` does."""
    model, sources, mixture = toy()
    pack, neuron_report, proof = train_neurons(model, NEURONS, sources["th"], NEURON_CONFIG, worker, NullTracker())
    report = train(model, sources, mixture, CONFIG, worker, NullTracker())
    return {
        "stage": worker.execution.zero_stage, "losses": report.losses, "neuron_losses": neuron_report.losses,
        "holds": proof.holds, "setup": [neuron_report.setup_seconds, report.setup_seconds],
        "engine": dict(report.engine), "reports": (neuron_report, report),
        "weights": {name: p.detach().numpy().copy() for name, p in model.named_parameters()},
        "deltas": {name: delta.values for name, delta in pack.deltas.items()},
        "says": worker.broadcast(f"rank {worker.rank}")}


def fifty_steps(worker, dtype):
    """Return what neuron training left in the model: while it trained, when it ended, and with its pack."""
    model, sources, _ = toy()
    model.to(dtype)
    slices, base = NEURONS.slices(describe(model)), tensor_digests(model)
    before = snapshot(model, slices)
    mixture = Mixture({"th": sources["th"].num_sequences}, {"th": 1.0}, 0, None, FIFTY_STEPS.total_samples)
    with trainable(model, TrainPolicy(kind="neurons"), NEURONS) as trained:
        train(model, {"th": sources["th"]}, mixture, FIFTY_STEPS, worker, NullTracker())
        inside = snapshot(model, slices).outside
    after = tensor_digests(model)
    pack = LanguagePack(language="th", deltas=trained.compact.deltas(), base_digests=base)
    with pack.applied(model):
        proof = trained.prove_untouched(model)
    return {"inside": {name: inside[name] == digest for name, digest in before.outside.items()},
            "base": after == base, "holds": proof.holds, "unmoved": proof.unmoved_inside}


def policies(worker):
    """Train by each policy of whole tensors; return whether nothing else moved, and the weights."""
    found = {}
    for name, (policy, first_row) in POLICIES.items():
        model, sources, mixture = toy()
        with trainable(model, policy, first_row=first_row) as trained:
            report = train(model, sources, mixture, POLICY_CONFIG, worker, NullTracker())
        found[name] = (trained.prove_untouched(model).holds,
                       {name: p.detach().numpy().copy() for name, p in model.named_parameters()},
                       report.gradient_and_state_bytes)
    return found


def rank_main(rank, port, stages, folder):
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)  # a launcher sets it
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    results = [compare_runs(zero(stage)) for stage in stages]
    for found, stage in zip(results, stages, strict=True):
        found["fifty"] = {str(dtype): fifty_steps(zero(stage), dtype) for dtype in (torch.float32, torch.bfloat16)}
        found["policies"] = policies(zero(stage))
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(results))
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(rank_main, args=(port, STAGES, folder), nprocs=2)
    return {rank: pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(2)}


@pytest.fixture(scope="module")
def alone():
    torch.set_num_threads(1)
    model, sources, mixture = toy()
    pack, neuron_report, _ = train_neurons(copy.deepcopy(model), NEURONS, sources["th"], NEURON_CONFIG,
                                           SoloWorker("cpu"), NullTracker())
    report = train(model, sources, mixture, CONFIG, SoloWorker("cpu"), NullTracker())
    return {"losses": report.losses, "neuron_losses": neuron_report.losses, "deltas": pack.deltas,
            "policies": policies(SoloWorker("cpu")),
            "weights": {name: p.detach().numpy() for name, p in model.named_parameters()}}


each_stage = pytest.mark.parametrize("place", range(4), ids=[f"zero{stage}" for stage in STAGES])


@pytest.mark.slow
@each_stage
def test_every_zero_stage_equals_one_process_of_plain_torch(ranks, alone, place):
    for results in ranks.values():
        found = results[place]
        assert found["losses"] == pytest.approx(alone["losses"], rel=1e-5)
        assert found["neuron_losses"] == pytest.approx(alone["neuron_losses"], rel=1e-5)
        assert found["holds"]
        for name, values in alone["weights"].items():
            np.testing.assert_allclose(found["weights"][name], values, atol=2e-4, err_msg=name)
        for name, delta in alone["deltas"].items():
            np.testing.assert_allclose(found["deltas"][name], delta.values, atol=2e-4, err_msg=name)


@pytest.mark.slow
@each_stage
@pytest.mark.parametrize("dtype", ["torch.float32", "torch.bfloat16"])
def test_unselected_weights_are_byte_equal_after_fifty_steps(ranks, place, dtype):
    for results in ranks.values():
        found = results[place]["fifty"][dtype]
        assert all(found["inside"].values())
        assert len(found["inside"]) > 20
        assert found["base"]
        assert found["holds"]
        assert not found["unmoved"]


@pytest.mark.slow
@each_stage
@pytest.mark.parametrize("kind", POLICIES)
def test_every_policy_trains_under_every_zero_stage_what_it_trains_alone(ranks, alone, place, kind):
    _, expected, _ = alone["policies"][kind]
    for results in ranks.values():
        holds, weights, _ = results[place]["policies"][kind]
        assert holds
        assert weights.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(weights[name], values, atol=2e-4, err_msg=name)


@pytest.mark.slow
@each_stage
def test_the_bytes_are_those_of_the_stage(ranks, place):
    stage = STAGES[place]
    for (first, second), micro_batches in zip(zip(*(results[place]["reports"] for results in ranks.values()), strict=True),
                                              (1, 2), strict=True):
        values_bytes, padding = 4 * first.trained_values, 400
        assert first.gradient_and_state_bytes == second.gradient_and_state_bytes
        copies = 4 if stage else 3  # gradient, two moments, and with ZeRO the optimiser's own values
        # A tensor that two partitions share has its whole gradient on both ranks; here that is nearly every one.
        spare = values_bytes if stage in (1, 2) else 0
        assert 0 <= first.gradient_and_state_bytes - copies * values_bytes <= spare + padding
        reductions = micro_batches if stage >= 2 else 1
        assert 0 <= first.allreduce_bytes_per_step - reductions * values_bytes <= padding


@pytest.mark.slow
@each_stage
def test_a_plan_says_beforehand_what_gradients_and_states_take(ranks, place):
    execution = ExecutionConfig(num_workers=2, engine="deepspeed", zero_stage=STAGES[place])
    shape = ModelShape.from_config(SHAPE, VOCAB)
    for results in ranks.values():
        found = results[place]
        of_neurons, of_all = (report.gradient_and_state_bytes for report in found["reports"])
        measured = {"neurons": of_neurons, "all": of_all} | {kind: size for kind, (*_, size) in found["policies"].items()}
        whole = [policy for policy, first_row in POLICIES.values() if not first_row]
        for policy in (TrainPolicy(kind="all"), TrainPolicy(kind="neurons"), *whole):
            training = Training(shape=shape, policy=policy, config=CONFIG, neurons={"ffn": 2, "v": 1})
            # Where the plan spreads neurons otherwise over the layers, another of their tensors may lie in two partitions.
            spare = 4 * max(math.prod(size) for size in training.trained.values()) if policy.kind == "neurons" else 0
            assert abs(gradient_and_state_bytes(training, execution) - measured[policy.kind]) <= spare + 400, policy.kind


@pytest.mark.slow
def test_runs_follow_each_other_in_one_group_within_a_second_of_set_up(ranks):
    for results in ranks.values():
        after_the_first = [seconds for result in results for seconds in result["setup"]][1:]
        assert max(after_the_first[:5]) < 1  # ZeRO 0, 1 and 2


@pytest.mark.slow
def test_both_ranks_end_with_the_same_bytes_and_say_what_ran(ranks):
    for first, second in zip(ranks[0], ranks[1], strict=True):
        for name, values in first["weights"].items():
            assert np.array_equal(values, second["weights"][name]), name
        assert first["says"] == second["says"] == "rank 0"
        assert first["engine"]["engine"] == "deepspeed"
        assert first["engine"]["zero_stage"] == first["stage"]


def test_without_a_process_group_the_reason_is_named():
    with pytest.raises(MachineError, match=r"execution\.engine=torch|process group"):
        DeepSpeedWorker(ExecutionConfig(engine="deepspeed"))
