"""`ray job submit` of jobs/run.py on a cluster with token authentication, as a person types it."""

import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from local_cluster import RAY, LocalCluster

from sea_ray.artifacts import read_json

pytestmark = [pytest.mark.ray, pytest.mark.soak]

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def cluster():
    """Yield the dashboard's address and the environment of a client of a cluster of its own."""
    with LocalCluster(num_cpus=2) as cluster:
        yield cluster.dashboard, cluster.environment


def submit(address: str, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess:
    return subprocess.run([RAY, "job", "submit", "--address", address, "--working-dir", ".", "--", *command], cwd=REPO,
                          env=environment, capture_output=True, text=True, timeout=500)


def test_a_submitted_job_runs_the_experiment_and_a_stranger_is_refused(cluster, miniature, tmp_path):
    address, environment = cluster
    for _ in range(20):  # the dashboard takes a few seconds, each attempt too
        listed = subprocess.run([RAY, "job", "list", "--address", address], env=environment, capture_output=True, text=True)
        if listed.returncode == 0:
            break
    assert listed.returncode == 0, listed.stderr
    stranger = submit(address, environment | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}, "python", "jobs/run.py")
    assert stranger.returncode != 0

    store = tmp_path / "runs"
    done = submit(address, environment, sys.executable, "jobs/run.py", *miniature, f"store.url={store}",
                  "cluster.min_free_memory_gib=0.5", "tracking.wandb=offline")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "succeeded" in done.stdout
    record = read_json(store / "miniature" / "run.json")
    assert not any(stage["reused"] for stage in record["stages"])
    assert (store / "miniature" / "report.html").is_file()
    assert record["peak_memory_bytes"] == 0, "the cluster's processes are not ours to measure"
    assert "memory per stage in the report" in done.stdout


def sea_ray(*arguments: str, environment: dict[str, str], cwd: Path = REPO) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "sea_ray.launch.cli", *arguments], cwd=cwd, env=environment, capture_output=True,
                          text=True, timeout=500)


def test_a_command_submitted_twice_is_one_job_that_the_second_follows(cluster, miniature, tmp_path):
    address, environment = cluster
    door = ["--address", address]
    for _ in range(20):  # the dashboard takes a few seconds
        if sea_ray("status", *door, environment=environment).returncode == 0:
            break
    stranger = sea_ray("status", *door, environment=environment | {"RAY_AUTH_TOKEN": secrets.token_hex(32)})
    assert stranger.returncode == 4
    assert "refuses the token" in stranger.stderr

    command = ["submit", *door, "--python", sys.executable, "run", *miniature, f"store.url={tmp_path / 'runs'}",
               "cluster.min_free_memory_gib=0.5", "tracking.wandb=offline"]
    first = sea_ray(*command, environment=environment)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-1000:]
    assert "MB of code as job miniature-" in first.stdout
    assert "succeeded" in first.stdout
    second = sea_ray(*command, environment=environment)
    assert second.returncode == 0
    assert "is already there (succeeded); nothing is submitted" in second.stdout
    assert "report " in second.stdout, "the job's own output is shown"

    job = first.stdout.split("as job ")[1].split()[0]
    listed = sea_ray("status", *door, environment=environment).stdout
    assert [line.split()[:2] for line in listed.splitlines()] == [["SUCCEEDED", job]]
    assert "had ended already" in sea_ray("stop", *door, job, environment=environment).stdout
    unknown = sea_ray("stop", *door, "miniatur", environment=environment)
    assert unknown.returncode == 2
    assert job in unknown.stderr
