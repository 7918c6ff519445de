"""A driver that is killed or interrupted in the middle of a sweep: nothing keeps running, nothing finished is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fake_stages
import psutil
import pytest
import sweep_driver

from sea_ray.artifacts import Store
from sea_ray.errors import MachineError
from sea_ray.launch.ray_platform import RayPlatform
from sea_ray.tracking import NullTracker

pytestmark = [pytest.mark.ray, pytest.mark.soak]

HERE = Path(__file__).parent
REPO = HERE.parents[1]


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))


@pytest.fixture
def scratch():
    """A short path: the sockets of a Ray below it may have 107 characters."""
    folder = tempfile.mkdtemp(prefix="s-", dir="/tmp")
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def environment(scratch):
    return {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | {
        "PYTHONPATH": os.pathsep.join([str(HERE), str(REPO)]), "TMPDIR": str(scratch)}


def start(store, environment, *arguments):
    return subprocess.Popen([sys.executable, str(HERE / "sweep_driver.py"), store.url, *arguments], cwd=REPO, env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(store):
    return [stage.config["number"] for _, stage in sweep_driver.trials(store) if store.find(stage.key)]


def wait_for_a_finished_trial(store, driver):
    deadline = time.monotonic() + 180
    while not finished(store):
        assert driver.poll() is None, driver.stderr.read()
        assert time.monotonic() < deadline, "no trial finished within 180 s"
        time.sleep(0.1)


def family(driver):
    """Return its processes but Ray's two agents, which idle for a minute or two before they notice that they are alone."""
    return [child for child in psutil.Process(driver.pid).children(recursive=True) if not child.name().endswith("Agent")]


def still_alive(processes, seconds):
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def runs_of(store):
    starts = [entry["number"] for entry in fake_stages.diary(store) if entry["what"] == "start" and entry["rank"] == 0]
    return {number: starts.count(number) for number in sweep_driver.NUMBERS}


def test_after_a_killed_driver_only_the_missing_trials_run_again(store, environment):
    driver = start(store, environment)
    wait_for_a_finished_trial(store, driver)
    processes = family(driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    assert not still_alive(processes, 30)
    before = finished(store)
    assert 1 <= len(before) < 4

    again = start(store, environment)
    out, errors = again.communicate(timeout=180)
    assert again.returncode == 0, errors
    ended, choice = out.splitlines()
    assert json.loads(ended) == [[number in before, True] for number in sweep_driver.NUMBERS]
    assert choice == "total 1.0000 is the lowest of 4 trials within the limits", "as if nothing had happened"
    assert finished(store) == list(sweep_driver.NUMBERS)
    assert all(runs_of(store)[number] == 1 for number in before)


def test_an_interrupted_driver_ends_with_its_processes_and_keeps_what_is_finished(store, environment, scratch):
    driver = start(store, environment)
    wait_for_a_finished_trial(store, driver)
    processes = family(driver)
    os.kill(driver.pid, signal.SIGINT)
    out, errors = driver.communicate(timeout=90)
    assert driver.returncode != 0, "the interrupt was swallowed and the run went on"
    assert out == ""
    assert "KeyboardInterrupt" in errors
    assert not still_alive(processes, 30)
    assert not list(scratch.glob("sea_ray-*"))
    assert 1 <= len(finished(store)) < 4


def test_two_submitters_of_one_sweep_at_once_run_every_trial_once(store, environment):
    drivers = [start(store, environment, "8") for _ in range(2)]
    for driver in drivers:
        out, errors = driver.communicate(timeout=400)
        assert driver.returncode == 0, errors
        assert [finished for _, finished in json.loads(out.splitlines()[0])] == [True] * 8
    starts = [entry["number"] for entry in fake_stages.diary(store) if entry["what"] == "start" and entry["rank"] == 0]
    assert sorted(starts) == list(range(1, 9))


def test_a_group_that_is_lost_too_often_ends_the_run_as_the_machines_fault(store, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    with RayPlatform.open(store, NullTracker(), sweep_driver.CLUSTER) as platform:
        with pytest.raises(MachineError):
            platform.run(fake_stages.stage("die", store))
        with pytest.raises(MachineError, match="worker group"):
            platform.run(fake_stages.stage("add", store, number=5))
