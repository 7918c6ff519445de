"""`sea-ray run` and `sea-ray serve` as a person starts them, on a miniature experiment with real Ray and DeepSpeed."""

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

import httpx
import psutil
import pytest
import torch

from sea_ray import plan
from sea_ray.artifacts import Store, read_json
from sea_ray.execution import SoloPlatform
from sea_ray.launch.compose import compose_experiment

pytestmark = pytest.mark.ray

REPO = Path(__file__).resolve().parents[2]


class Command:
    """Starts `sea-ray` in a process of its own, with its own temporary folder."""

    def __init__(self, folder: Path, miniature: list[str]) -> None:
        self.store = folder / "runs"
        self.miniature = [*miniature, f"store.url={self.store}", "cluster.min_free_memory_gib=0.5", "tracking.wandb=offline"]
        self.scratch = Path(tempfile.mkdtemp(prefix="s-", dir="/tmp"))  # sockets below it: a short path
        self.environment = {key: value for key, value in os.environ.items() if key not in ("RAY_ADDRESS", "WANDB_API_KEY")}
        self.environment |= {"PYTHONPATH": str(REPO), "TMPDIR": str(self.scratch), "COLUMNS": "200"}

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-m", "sea_ray.launch.cli", *arguments], cwd=REPO, env=self.environment,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __call__(self, *arguments: str) -> tuple[int, str, str, float]:
        """Return exit code, output, errors and seconds."""
        begin = time.monotonic()
        process = self.start(*arguments)
        out, errors = process.communicate(timeout=400)
        return process.returncode, out, errors, time.monotonic() - begin


@pytest.fixture(scope="module")
def command(tmp_path_factory, miniature):
    command = Command(tmp_path_factory.mktemp("command"), miniature)
    yield command
    shutil.rmtree(command.scratch, ignore_errors=True)


@pytest.fixture(scope="module")
def first(command):
    code, out, errors, _ = command("run", *command.miniature)
    assert code == 0, errors + out
    return out


def test_a_run_tells_its_stages_and_leaves_its_record_report_and_events(command, first):
    assert "start base" in first
    assert re.search(r"sweep neurons: 2 trials", first)
    assert re.search(r"serve .* at http://127\.0\.0\.1:\d+/v1 \(loopback, key required\)", first)
    assert "safety gate FAILED" in first
    folder = command.store / "miniature"
    record = read_json(folder / "run.json")
    assert record["name"] == "miniature"
    assert not any(row["reused"] for row in record["stages"])
    assert record["peak_memory_bytes"] > 1 << 28
    assert (folder / "report.html").stat().st_size > 20_000
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert any(event["run"] == "base" and "loss" in event for event in events)
    assert [event["finished"] for event in events if event["run"] == "base" and "finished" in event] == [True]
    assert not [event["run"] for event in events if event.get("finished") is False]
    assert not list(command.scratch.glob("sea_ray-*"))


def test_every_trial_is_a_wandb_run_of_its_own(command, first):
    names = {path.name for path in (command.store / "miniature").rglob("offline-run-*")}
    assert len(names) >= 5


def test_every_training_says_that_two_deepspeed_workers_computed_it(command, first):
    records = [read_json(file) for file in command.store.glob("artifacts/*/*/record.json")]
    engines = {record["kind"]: (record["execution"]["workers"], engine["engine"], engine["zero_stage"])
               for record in records for engine in engines_in(record["facts"])}
    assert engines == dict.fromkeys(("base", "neurons", "continued_pretraining", "sft"), (2, "deepspeed", 0))


def engines_in(facts):
    """Yield every training's engine below some facts."""
    if isinstance(facts, dict):
        if "engine" in facts and isinstance(facts["engine"], dict):
            yield facts["engine"]
        for value in facts.values():
            yield from engines_in(value)


def test_two_deepspeed_workers_train_the_base_that_one_plain_process_trains(command, first, tmp_path):
    torch.set_num_threads(1)
    config = compose_experiment(command.miniature)
    platform = SoloPlatform(Store(str(tmp_path)))
    corpus = platform.run(plan.corpus(config))
    alone = platform.run(plan.base(config, corpus))
    record = read_json(command.store / "artifacts" / "base" / alone.fingerprint / "record.json")
    mine, theirs = ([loss for _, loss in facts["training"]["losses"]] for facts in (alone.facts, record["facts"]))
    assert mine == pytest.approx(theirs, rel=1e-4)


def test_the_data_of_a_run_are_shown_without_computing_anything_again(command, first):
    code, out, errors, _ = command("data", *command.miniature)
    assert code == 0, errors
    assert "start " not in out
    assert re.search(r"^th +[\d,]+ documents, +[\d,]+ kept, +[\d,]+ tokens to train on", out, re.MULTILINE)
    assert (command.store / "miniature" / "data.html").stat().st_size > 10_000


def test_a_second_run_reuses_everything_and_says_so(command, first):
    code, out, errors, seconds = command("run", *command.miniature)
    assert code == 0, errors
    assert "(nothing had changed)" in out
    assert "start " not in out
    assert seconds < 60


def test_cleaning_a_store_takes_nothing_that_a_finished_run_needs(command, first):
    code, out, errors, _ = command("clean", "--yes", "--days", "0", f"store.url={command.store}")
    assert code == 0, errors
    assert "results base" in out
    code, out, errors, _ = command("run", *command.miniature)
    assert code == 0, errors
    assert "(nothing had changed)" in out


def test_a_checkpoint_that_failed_its_gate_is_not_served(command, first):
    code, _, errors, _ = command("serve", "run=miniature", f"store.url={command.store}")
    assert code == 1
    assert "failed its safety gate" in errors
    assert "safety.ignore_gate=true" in errors
    assert "Traceback" not in errors
    code, _, errors, _ = command("serve", "run=minature", f"store.url={command.store}")
    assert code == 2
    assert "there: miniature" in errors


@pytest.mark.soak
def test_the_winner_is_served_again_until_interrupted(command, first):
    server = command.start("serve", "run=miniature", f"store.url={command.store}", "safety.ignore_gate=true")
    lines = [server.stdout.readline() for _ in range(2)]
    url, key = re.search(r"http://\S+", lines[0])[0], re.search(r"api key\s+(\S+)", lines[1])[1]
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx.get(f"{url}/models", headers=headers, timeout=30).json()["data"][0]["id"] == "sea-ray"
    assert httpx.get(f"{url}/models", timeout=30).status_code == 401
    answer = httpx.post(f"{url}/chat/completions", headers=headers, timeout=60, json={
        "model": "sea-ray", "max_tokens": 3, "messages": [{"role": "user", "content": "Hello"}]})
    assert answer.json()["choices"][0]["message"]["role"] == "assistant"
    processes = [child for child in psutil.Process(server.pid).children(recursive=True) if "Agent" not in child.name()]
    server.send_signal(signal.SIGINT)
    out, errors = server.communicate(timeout=60)
    assert server.returncode == 0, errors
    assert "stopping" in out
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive


@pytest.mark.soak
def test_ctrl_c_ends_a_run_and_keeps_what_is_finished(command, first):
    """Another seed, so that everything is computed again; the interrupt comes while the base or a sweep trains."""
    run = command.start("run", *command.miniature, "seed=5", "name=interrupted")
    for line in run.stdout:
        if "start base" in line:
            break
    time.sleep(5)
    processes = [child for child in psutil.Process(run.pid).children(recursive=True) if "Agent" not in child.name()]
    run.send_signal(signal.SIGINT)
    out, errors = run.communicate(timeout=90)
    assert run.returncode == 130, errors
    assert "interrupted; workers and servers are stopped" in out
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive
    assert not list((command.store / "building").iterdir())
    assert not list(command.scratch.glob("sea_ray-*"))
