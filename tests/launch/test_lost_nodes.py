"""A cluster of two real nodes of which one goes in the middle of a training, with and without a notice."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from local_cluster import LocalCluster
from toy import CONFIG, toy

from sea_ray.tracking import NullTracker
from sea_ray.training.engine import SoloWorker
from sea_ray.training.loop import train

pytestmark = pytest.mark.ray

HERE = Path(__file__).parent
STEPS, SECONDS = 90, 0.2
NOTICE_S = 25
elastic = pytest.mark.parametrize("training", [1], indirect=True, ids=["from one worker up"])


@pytest.fixture
def cluster(tmp_path):
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    # Ray counts a node that is gone among what it has for a while, waits so long for its workers, and looks again.
    with LocalCluster(num_cpus=1, PYTHONPATH=path, HOME=str(tmp_path / "head"),
                      RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S="30") as cluster:
        yield cluster


@pytest.fixture
def diary(tmp_path):
    return tmp_path / "diary.jsonl"


def steps_of(diary):
    return [json.loads(line) for line in diary.read_text().splitlines()] if diary.exists() else []


def wait_for(what, seconds=300):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"waited {seconds} s for nothing"
        time.sleep(0.2)
    return found


def nodes(cluster):
    listed = cluster.ray("list", "nodes", "--address", cluster.dashboard, "--format", "json").stdout
    return [node for node in json.loads(listed or "[]") if node["state"] == "ALIVE"] if listed.startswith("[") else []


@pytest.fixture
def start(cluster, tmp_path, diary):
    """Return a function that starts the training's driver."""
    drivers = []

    def started(min_workers):
        drivers.append(subprocess.Popen(
            [sys.executable, str(HERE / "learn_driver.py"), f"local://{tmp_path}/shared", str(diary), str(STEPS), str(SECONDS),
             str(min_workers)],
            env=cluster.environment | {"RAY_ADDRESS": cluster.address}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True))
        return drivers[-1]

    yield started
    for driver in drivers:
        driver.kill()


@pytest.fixture
def training(request, cluster, start, tmp_path, diary):
    """Return a training that runs on both nodes, and the node that is not the head: they share a store and nothing else."""
    node = cluster.add_node(num_cpus=1, HOME=str(tmp_path / "node"))
    wait_for(lambda: len(nodes(cluster)) == 2)
    driver = start(request.param)

    def reached():
        assert driver.poll() is None, driver.stderr.read()
        return len(steps_of(diary)) > 15

    wait_for(reached)
    assert {entry["workers"] for entry in steps_of(diary)} == {2}
    return driver, node


@pytest.fixture(scope="module")
def alone():
    """The losses and samples of the same training in one process that nothing happens to."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    config = dataclasses.replace(CONFIG, steps=STEPS)
    model, sources, mixture = toy(config=config)
    report = train(model, sources, mixture, config, SoloWorker("cpu"), NullTracker())
    torch.set_num_threads(before)
    return report.losses, {step: [list(sample) for sample in samples] for step, samples in mixture.drawn.items()}


def ended(driver, diary, alone):
    """Return what the training said and the steps that it made, checked against the one that nothing happened to."""
    out, errors = driver.communicate(timeout=400)
    assert driver.returncode == 0, errors
    *notes, facts = out.splitlines()
    losses, samples = alone
    assert json.loads(facts)["losses"] == pytest.approx(losses, rel=1e-4)
    steps = steps_of(diary)
    assert all(entry["samples"] == samples[entry["step"]] for entry in steps)
    assert {entry["step"] for entry in steps} == set(range(STEPS))
    return "\n".join(notes), [entry["step"] for entry in steps], {entry["workers"] for entry in steps}


@elastic
def test_a_node_that_is_killed_costs_one_interval_at_most_and_the_other_goes_on_alone(cluster, training, diary, alone):
    driver, node = training
    cluster.kill(node)
    notes, steps, workers = ended(driver, diary, alone)
    assert len(steps) - STEPS <= 10
    assert workers == {1, 2}
    assert "a new group of 1 workers goes on from the newest saved state" in notes
    assert "goes on from step" in notes


@elastic
def test_a_node_that_gives_notice_costs_no_step(cluster, training, diary, alone):
    driver, node = training
    (other,) = [node["node_id"] for node in nodes(cluster) if not node["is_head_node"]]
    drained = cluster.ray("drain-node", "--address", cluster.address, "--node-id", other, "--reason-message", "spot",
                          "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--deadline-remaining-seconds", str(NOTICE_S))
    assert drained.returncode == 0, drained.stderr
    time.sleep(NOTICE_S)
    cluster.kill(node)
    notes, steps, workers = ended(driver, diary, alone)
    assert steps == list(range(STEPS))
    assert workers == {1, 2}
    assert "a node goes away: the state after step" in notes


@pytest.mark.parametrize("training", [0], indirect=True)
def test_after_a_killed_driver_the_same_command_goes_on_in_the_middle_of_the_training(training, start, diary, alone):
    driver, _ = training
    driver.kill()
    driver.communicate()
    before = [entry["step"] for entry in steps_of(diary)]
    notes, steps, _ = ended(start(0), diary, alone)
    assert steps[len(before)] >= before[-1] // 10 * 10 - 10
    assert len(steps) - STEPS <= 20  # the state of the last interval may have been under way
    assert "goes on from step" in notes
