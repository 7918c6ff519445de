"""`ray job submit` of jobs/run.py on a cluster with token authentication, as a person types it."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from sea_ray.artifacts import read_json

pytestmark = [pytest.mark.ray, pytest.mark.soak]

REPO = Path(__file__).resolve().parents[2]
RAY = Path(sys.executable).with_name("ray")


def free_ports(count: int) -> list[int]:
    """Return ports on which nothing listens now."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture
def cluster():
    """Yield the dashboard's address and the environment of a client of a cluster of its own."""
    scratch = Path(tempfile.mkdtemp(prefix="j-", dir="/tmp"))  # sockets below it: a short path
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_") and key != "WANDB_API_KEY"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "TMPDIR": str(scratch)}
    port, dashboard, agent, client = free_ports(4)
    head = subprocess.Popen(
        [RAY, "start", "--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1",
         f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}",
         "--num-cpus=2", f"--temp-dir={scratch / 'ray'}", "--disable-usage-stats"], env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield f"http://127.0.0.1:{dashboard}", environment
    processes = [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]
    for process in processes:
        process.terminate()
    for process in psutil.wait_procs(processes, timeout=20)[1]:
        process.kill()
    shutil.rmtree(scratch, ignore_errors=True)


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
