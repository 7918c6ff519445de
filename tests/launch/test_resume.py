"""A training that was lost under DeepSpeed goes on with another number of workers, another ZeRO stage, or none at all."""

import dataclasses
import os
import pickle
import socket
from contextlib import closing

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from toy import CONFIG, LostError, toy

from sea_ray.artifacts import StageKey, Store
from sea_ray.launch.deepspeed_worker import DeepSpeedWorker
from sea_ray.tracking import NullTracker
from sea_ray.training.config import ExecutionConfig
from sea_ray.training.engine import SoloWorker
from sea_ray.training.loop import train
from sea_ray.training.state import TrainingStates

LOST = 13
EVERY_5 = {"checkpoint_every_steps": 5, "device": "cpu"}
STAGES = (0, 1, 2, 3)
ARMS = {f"zero{stage}": {"zero_stage": stage} for stage in STAGES} | {
    "optimizer offloaded": {"zero_stage": 2, "offload": "optimizer"}, "all offloaded": {"zero_stage": 3, "offload": "all"},
    "activations computed again": {"zero_stage": 1, "activation_checkpointing": True}}


def run(worker, place, lost=None):
    model, sources, mixture = toy(lost)
    unfinished = Store(str(place)).unfinished(StageKey(kind="sft", name="sft", config={}))
    with closing(TrainingStates(unfinished, worker, NullTracker())) as states:
        try:
            report = train(model, sources, mixture, CONFIG, worker, NullTracker(), states=states)
        except LostError:
            return None
    return {"losses": report.losses, "resumed": report.resumed_step, "drawn": mixture.drawn,
            "weights": {name: p.detach().numpy().copy() for name, p in model.named_parameters()}}


def exploding(worker):
    """Return what a batch without a finite loss and one that explodes leave, under this worker's engine."""
    model, sources, mixture = toy()
    total, calls = worker.sum, []

    def spiking(tensor):
        if tensor.shape != (2,):  # a batch's loss and the notices; not the bytes of the state
            return total(tensor)
        calls.append(None)
        factor = {3: float("nan"), 5: 1e3}.get(len(calls), 1.0)
        return total(tensor) * torch.tensor([factor, 1.0])

    worker.sum = spiking
    config = dataclasses.replace(CONFIG, steps=8)
    try:
        report = train(model, sources, mixture, config, worker, NullTracker())
    finally:
        worker.sum = total
    finite = all(bool(p.isfinite().all()) for p in model.parameters())
    return {"skipped": report.skipped, "finite": finite, "losses": report.losses}


def two_ranks(rank, port, folder):
    def worker(**options):
        return DeepSpeedWorker(ExecutionConfig(num_workers=2, engine="deepspeed", **EVERY_5, **options))

    def ranks():
        found = {}
        for name, options in ARMS.items():
            found[name] = {"whole": run(worker(**options), folder / f"whole {name}")}
            run(worker(**options), folder / name, LOST)
            if rank == 0:
                for number in (1, 3):  # for the groups of another size
                    os.system(f"cp -r '{folder / name}' '{folder / name}-{number}'")
                os.system(f"cp -r '{folder / name}' '{folder / name}-zero1'")
            dist.barrier()
            found[name]["resumed"] = run(worker(**options), folder / name)
        for stage in STAGES:
            found[f"zero{stage}"]["other stage"] = run(worker(zero_stage=1), folder / f"zero{stage}-zero1")
            if stage != 3:
                found[f"zero{stage}"]["exploding"] = exploding(worker(zero_stage=stage))
        return found

    in_group(rank, 2, port, folder, ranks)


def three_ranks(rank, port, folder):
    worker = DeepSpeedWorker
    in_group(rank, 3, port, folder, lambda: {
        name: run(worker(ExecutionConfig(num_workers=3, engine="deepspeed", zero_stage=2, **EVERY_5)), folder / f"{name}-3")
        for name in ARMS})


def in_group(rank, size, port, folder, call):
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)  # a launcher sets it
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    (folder / f"{size}-{rank}.pickle").write_bytes(pickle.dumps(call()))
    dist.barrier()
    dist.destroy_process_group()


def spawn(target, size, folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(target, args=(port, folder), nprocs=size)
    return [pickle.loads((folder / f"{size}-{rank}.pickle").read_bytes()) for rank in range(size)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    torch.set_num_threads(1)
    return run(SoloWorker("cpu"), tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("states")


@pytest.fixture(scope="module")
def two(folder):
    return spawn(two_ranks, 2, folder)


@pytest.fixture(scope="module")
def three(two, folder):
    return spawn(three_ranks, 3, folder)


each_arm = pytest.mark.parametrize("arm", ARMS)


def agree(found, expected, first=0):
    """Check losses, and that each step from the first on took the same samples, once."""
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-4)
    assert found["drawn"] == {step: samples for step, samples in expected["drawn"].items() if step >= first}


@pytest.mark.slow
@each_arm
def test_twenty_steps_of_every_stage_agree_with_one_process_of_plain_torch(two, alone, arm):
    for rank in two:
        agree(rank[arm]["whole"], alone)


@pytest.mark.slow
@each_arm
def test_lost_at_two_workers_and_resumed_at_two_it_ends_bit_equal(two, arm):
    for rank in two:
        whole, resumed = rank[arm]["whole"], rank[arm]["resumed"]
        assert resumed["resumed"] == 10
        assert resumed["losses"] == whole["losses"]
        agree(resumed, whole, 10)
        for name, values in whole["weights"].items():
            assert np.array_equal(resumed["weights"][name], values), name


@pytest.mark.slow
@each_arm
def test_lost_at_two_workers_it_goes_on_alone_and_at_three_on_the_same_samples(two, three, alone, folder, arm):
    torch.set_num_threads(1)
    one = run(SoloWorker("cpu"), folder / f"{arm}-1")
    for found in (one, *(rank[arm] for rank in three)):
        assert found["resumed"] == 10
        agree(found, alone, 10)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_state_of_one_zero_stage_goes_on_under_another(two, alone, stage):
    for rank in two:
        assert rank[f"zero{stage}"]["other stage"]["resumed"] == 10
        agree(rank[f"zero{stage}"]["other stage"], alone, 10)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_loss_without_end_moves_nothing_under_any_engine(two, stage):
    torch.set_num_threads(1)
    expected = exploding(SoloWorker("cpu"))
    assert expected["skipped"] == (2, 4)
    for rank in two:
        found = rank[f"zero{stage}"]["exploding"]
        assert found["skipped"] == (2, 4)
        assert found["finite"]
        kept = [step for step in range(8) if step not in (2, 4)]
        assert [found["losses"][step] for step in kept] == pytest.approx([expected["losses"][step] for step in kept], rel=1e-4)
