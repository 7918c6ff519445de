"""A head without processors of its own: nodes come with a sweep's work, go after it, and one that is lost is replaced."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import fake_stages
import pytest
from autoscale_driver import GROUPS, trials
from autoscaling_cluster import AutoscalingCluster

from sea_ray.artifacts import Store

pytestmark = [pytest.mark.ray, pytest.mark.soak]

HERE = Path(__file__).parent
TRIALS, SECONDS = 6, 8.0


@pytest.fixture(scope="module")
def cluster():
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    # A worker takes 0.9 of a node's processor and a trial's client 0.01, so three groups take three nodes.
    with AutoscalingCluster({"small": {"resources": {"CPU": 1}, "max_workers": 4}}, max_workers=4, PYTHONPATH=path) as cluster:
        wait_for(lambda: "autoscaler" in cluster.ray("status", "--address", cluster.address).stdout.lower(), 120)
        yield cluster


@pytest.fixture
def url(tmp_path):
    return f"local://{tmp_path}/shared"


@pytest.fixture
def start(cluster, url, tmp_path):
    """Return a function that starts a sweep."""
    drivers = []

    def started(cpus_per_worker=0.9):
        drivers.append(subprocess.Popen(
            [sys.executable, str(HERE / "autoscale_driver.py"), url, str(TRIALS), str(SECONDS), str(cpus_per_worker)],
            env=cluster.environment | {"RAY_ADDRESS": cluster.address}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True))
        return drivers[-1]

    yield started
    for driver in drivers:
        driver.kill()


def wait_for(what, seconds=300.0):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"waited {seconds} s for nothing"
        time.sleep(0.5)
    return found


def ended(driver, cluster):
    """Wait for a sweep and return the largest number of nodes at one time, all that there were, and the trials' outcomes."""
    most, there = 0, set()
    deadline = time.monotonic() + 400
    while driver.poll() is None:
        assert time.monotonic() < deadline
        now = cluster.nodes()
        most, there = max(most, len(now)), there | set(now)
        time.sleep(0.5)
    out, errors = driver.communicate()
    assert driver.returncode == 0, out + errors[-3000:]
    return most, there, json.loads(out.splitlines()[-1])


def starts(store):
    return [entry["number"] for entry in fake_stages.diary(store) if entry["what"] == "start"]


def test_what_no_node_type_can_hold_is_refused_within_seconds_and_starts_no_node(cluster, start):
    began = time.monotonic()
    driver = start(cpus_per_worker=2)
    out, errors = driver.communicate(timeout=200)
    assert driver.returncode == 4, errors
    assert "it asks for 2 CPU on one node" in out
    assert "its autoscaler says that no nodes which it may start would hold that" in out
    assert "cluster.cpus_per_worker" in out
    assert not cluster.nodes()
    assert time.monotonic() - began < 150


def test_a_sweep_of_three_groups_scales_from_no_node_to_three_and_back(cluster, start, url):
    assert not cluster.nodes()
    most, _, done = ended(start(), cluster)
    assert all(finished for finished, _ in done)
    assert most == GROUPS
    assert sorted(starts(Store(url))) == list(range(1, TRIALS + 1)), "each trial ran once"
    wait_for(lambda: not cluster.nodes(), 120)


def test_a_node_that_is_killed_in_the_middle_is_replaced_and_the_sweep_completes(cluster, start, url):
    driver, store = start(), Store(url)

    def under_way():
        assert driver.poll() is None, driver.stderr.read()
        return len(starts(store)) >= GROUPS

    wait_for(under_way)
    before = cluster.nodes()
    cluster.kill_node(before[0])
    _, there, done = ended(driver, cluster)
    assert there - set(before)
    assert all(finished for finished, _ in done)
    again = [number for number in range(1, TRIALS + 1) if starts(store).count(number) > 1]
    assert len(again) <= 1, "the lost node's trial at most"
    assert all(store.find(stage.key) for _, stage in trials(store, TRIALS, SECONDS))
    wait_for(lambda: not cluster.nodes(), 120)
