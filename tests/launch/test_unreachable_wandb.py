"""A sweep whose W&B is a proxy that takes every connection and answers none: it goes on, ends, and nothing is lost."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from fake_wandb import KEY, FakeWandb, dropping_proxy
from tracked_sweep_driver import POINTS, TRIALS

from sea_ray.launch.wandb_upload import recorded

pytestmark = [pytest.mark.ray, pytest.mark.soak]

HERE = Path(__file__).parent
REPO = HERE.parents[1]
SECONDS = 5
"""Of a trial: shorter ones than any real training has."""
LIMIT_S = 10
"""Longest that a W&B which answers nothing holds up a run's start, and its end; all else is the sweep's own time."""


@pytest.fixture
def scratch():
    """A short path: the sockets of a Ray below it may have 107 characters."""
    folder = tempfile.mkdtemp(prefix="s-", dir="/tmp")
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


def environment(scratch, **more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB") and name != "RAY_ADDRESS"}
    path = os.pathsep.join([str(HERE), str(REPO), *filter(None, [os.environ.get("PYTHONPATH")])])
    return kept | {"PYTHONPATH": path, "TMPDIR": str(scratch), "HOME": str(scratch)} | more


def start(store, environment, *overrides):
    command = [sys.executable, str(HERE / "tracked_sweep_driver.py"), str(store), str(SECONDS), *overrides]
    return subprocess.Popen(command, cwd=REPO, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def swept(store, environment, *overrides):
    """Return the seconds of a whole sweep, by its own clock, and its output."""
    out, _ = start(store, environment, *overrides).communicate(timeout=400)
    told = re.search(rf"{TRIALS} trials in ([\d.]+) s.*", out)
    assert told, out
    print(f"{store.name:14} {told[0]}")
    return float(told[1]), out


def mirrored(store):
    """Return trial -> the steps of its points in the mirror, and how it ended."""
    lines = [json.loads(line) for line in (store / "demo" / "events.jsonl").read_text().splitlines()]
    trials = {line["run"] for line in lines if line["run"].startswith("numbers/")}
    return {trial: ([line["step"] for line in lines if line["run"] == trial and "loss" in line],
                    [line["finished"] for line in lines if line["run"] == trial and "finished" in line]) for trial in trials}


def sent(store, environment):
    """Send what was recorded to a stand-in for W&B; return trial -> (the steps of its points there, its exit code)."""
    service = FakeWandb()
    with contextlib.closing(service):
        done = subprocess.run([sys.executable, "-m", "sea_ray.launch.cli", "sync", "demo", f"store.url={store}"], cwd=REPO,
                              env=environment | {"WANDB_BASE_URL": service.url, "WANDB_API_KEY": KEY}, capture_output=True,
                              text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
        return {told["displayName"]: ([step for step, _ in service.points(run, "loss")], service.ended.get(run))
                for run, told in service.runs.items()}


def test_a_sweep_of_eight_trials_ends_as_offline_and_keeps_every_point(tmp_path, scratch):
    clean = environment(scratch)
    offline, _ = swept(tmp_path / "offline", clean, "tracking.wandb=offline")
    with dropping_proxy() as (url, taken):
        lost = clean | {"HTTPS_PROXY": url, "https_proxy": url, "WANDB_API_KEY": KEY}
        unreachable, out = swept(tmp_path / "unreachable", lost, "tracking.wandb=online")
        assert len(taken) >= 2, "the run asks before it starts, and again while it goes on"
    print(f"8 trials of {SECONDS} s each: ratio of W&B unreachable to offline {unreachable / offline:.3f}")
    asked, ended = (float(re.search(rf"([\d.]+) s to {phase}", out)[1]) for phase in ("ask W&B", "end the tracker"))
    assert asked <= LIMIT_S
    assert ended <= LIMIT_S
    assert "not reached" in out
    assert f"{TRIALS} runs are recorded and not sent" in out
    steps = list(range(POINTS))
    assert mirrored(tmp_path / "unreachable") == {f"numbers/{number}": (steps, [True]) for number in range(TRIALS)}
    assert sent(tmp_path / "unreachable", clean) == {f"numbers/{number}": (steps, 0) for number in range(TRIALS)}


def halfway(store):
    """Return whether a trial has ended and another one goes on."""
    if not (store / "demo" / "events.jsonl").exists():
        return False
    trials = mirrored(store).values()
    return any(ended for _, ended in trials) and any(steps and not ended for steps, ended in trials)


def test_an_interrupt_in_the_middle_leaves_every_run_finished_or_marked(tmp_path, scratch):
    store = tmp_path / "store"
    with dropping_proxy() as (url, _):
        run = start(store, environment(scratch, HTTPS_PROXY=url, https_proxy=url, WANDB_API_KEY=KEY), "tracking.wandb=online")
        deadline = time.monotonic() + 200
        while not halfway(store):
            assert time.monotonic() < deadline
            assert run.poll() is None, run.communicate()[0]
            time.sleep(0.2)
        run.send_signal(signal.SIGINT)
        out, _ = run.communicate(timeout=120)
    assert run.returncode != 0
    assert "not sent: sea-ray sync demo" in out
    found = mirrored(store)
    assert {tuple(ended) for _, ended in found.values()} == {(True,), (False,)}, found
    assert len(recorded(store / "demo")) == len(found)
    there = sent(store, environment(scratch))
    assert there == {trial: (steps, int(not ended[0])) for trial, (steps, ended) in found.items()}
