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
