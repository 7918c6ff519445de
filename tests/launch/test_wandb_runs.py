"""A run's points at W&B: every one, once, whatever happened to the process or the network; seen from a stand-in for W&B."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from fake_wandb import KEY, FakeWandb, dropping_proxy
from rich.console import Console
from tracked_driver import TRIAL, result

from sea_ray.artifacts import Store
from sea_ray.errors import ConfigError, MachineError
from sea_ray.launch.stage_figures import made
from sea_ray.launch.sync import sync
from sea_ray.launch.wandb_access import ANSWER_S
from sea_ray.launch.wandb_upload import link, recorded, unsent
from sea_ray.tracking import Made

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
REPO = HERE.parents[1]
POINTS = [(step, step / 10) for step in range(10)]


class Driver:
    """Starts tracked_driver.py with a store of its own, and a W&B that is a stand-in, or nothing."""

    def __init__(self, folder, wandb_url=None):
        self.store = folder / "runs"
        self.folder = self.store / "demo"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")} | {
            "PYTHONPATH": os.pathsep.join([str(HERE), str(REPO), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "HOME": str(folder)}
        if wandb_url:
            self.environment |= {"WANDB_BASE_URL": wandb_url, "WANDB_API_KEY": KEY}

    def start(self, first, last, what="finish", *overrides):
        command = [sys.executable, str(HERE / "tracked_driver.py"), str(self.store), str(first), str(last), what, *overrides]
        return subprocess.Popen(command, cwd=REPO, env=self.environment, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT)

    def __call__(self, *arguments):
        """Return exit code and output."""
        process = self.start(*arguments)
        out, _ = process.communicate(timeout=120)
        return process.returncode, out

    def mirror(self):
        """Return (step, loss) of the mirror's lines, in order."""
        lines = (json.loads(line) for line in (self.folder / "events.jsonl").read_text().splitlines() if line.endswith("}"))
        return [(line["step"], line["loss"]) for line in lines if "loss" in line]


@pytest.fixture
def service():
    fake = FakeWandb()
    yield fake
    fake.close()


def seconds(what, out):
    """Return how long the driver says something took."""
    return float(re.search(rf"{what} in ([\d.]+) s", out)[1])


def only_run(service):
    (run,) = service.runs
    return run


def send(driver, service, *arguments):
    """Carry out `sea-ray sync`; return its exit code and output."""
    command = [sys.executable, "-m", "sea_ray.launch.cli", "sync", "demo", f"store.url={driver.store}", *arguments]
    environment = driver.environment | {"WANDB_BASE_URL": service.url, "WANDB_API_KEY": KEY}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_offline_needs_no_key_and_sync_sends_every_point_with_settings_lineage_and_end(tmp_path, service):
    driver = Driver(tmp_path)
    code, out = driver(0, 10)
    assert code == 0, out
    assert "1 runs are recorded and not sent: sea-ray sync demo" in out
    assert not service.asked
    code, out = send(driver, service)
    assert code == 0, out
    run = only_run(service)
    assert service.points(run, "th/loss") == POINTS == driver.mirror()
    told = service.runs[run]
    assert (told["groupName"], told["jobType"], told["displayName"], told["entity"]) == ("demo/neurons", "neurons", TRIAL, "team")
    config = json.loads(told["config"])
    assert config["neurons"]["value"]["selection"]["top_frac"] == 0.05
    assert config["arm"]["value"] == "lsn"
    assert service.summary(run)["gain_sea"] == 0.1
    assert service.ended[run] == 0
    (used,), (made,) = service.used, service.made
    assert used[0] == made[0] == run
    assert used[1].startswith("base-")
    assert made[1].startswith("neurons-")
    code, out = send(driver, service)
    assert (code, "send        0 of 1 runs" in out) == (0, True), out


def test_online_points_are_there_while_the_run_goes_on_and_all_of_them_at_its_end(tmp_path, service):
    driver = Driver(tmp_path, service.url)
    process = driver.start(0, 10, "wait")
    deadline = time.monotonic() + 60
    while not (service.runs and service.points(only_run(service), "th/loss")):
        assert time.monotonic() < deadline, process.communicate()
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"{service.url}/team/sea-ray, group demo" in out
    assert service.points(only_run(service), "th/loss") == POINTS
    assert service.ended[only_run(service)] == 1, "an interrupted run is marked as failed"
    assert bool(unsent(driver.folder)) == ("not sent: sea-ray sync" in out), "on a slow machine W&B's last word may not have come"


def test_a_killed_run_goes_on_in_the_same_wandb_run_without_doubled_or_lost_points(tmp_path, service):
    driver = Driver(tmp_path, service.url)
    code, out = driver(0, 7, "kill")
    assert code == -signal.SIGKILL, out
    with (driver.folder / "events.jsonl").open("a") as stream:
        stream.write('{"time": 1, "run": "half a li')  # what a kill may leave
    code, out = driver(4, 10)  # from the last saved state on
    assert code == 0, out
    assert service.points(only_run(service), "th/loss") == POINTS == driver.mirror()
    assert service.ended[only_run(service)] == 0
    assert len(list((driver.folder / "wandb").glob("offline-run-*"))) == 2
    assert len(recorded(driver.folder)) == 1
    assert not unsent(driver.folder)


def test_what_a_killed_run_left_is_sent_and_sent_again_when_there_is_more(tmp_path, service):
    driver = Driver(tmp_path)
    code, out = driver(0, 7, "kill")
    assert code == -signal.SIGKILL, out
    code, out = send(driver, service)
    assert code == 0, out
    assert service.points(only_run(service), "th/loss") == POINTS[:7]
    (file,) = recorded(driver.folder)
    assert not unsent(driver.folder)
    os.utime(file)  # as if its run were still open, and wrote on
    assert unsent(driver.folder) == [file]
    code, out = send(driver, service)
    assert (code, "send        1 of 1 runs" in out) == (0, True), out
    assert service.points(only_run(service), "th/loss") == POINTS[:7]


def test_a_network_that_goes_away_in_the_middle_costs_seconds_at_the_end_and_no_point(tmp_path, service):
    driver = Driver(tmp_path, service.url)
    process = driver.start(0, 10, "wait")
    deadline = time.monotonic() + 60
    while not service.runs:
        assert time.monotonic() < deadline, process.communicate()
        time.sleep(0.1)
    service.down = True
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert seconds("ended", out) < 10
    assert "1 runs are recorded and not sent" in out
    left = [child for child in psutil.process_iter(["cmdline"]) if str(driver.folder) in " ".join(child.info["cmdline"] or [])]
    psutil.wait_procs(left, timeout=10)
    assert not [child for child in left if child.is_running()]
    service.down = False
    code, out = send(driver, service)
    assert code == 0, out
    assert service.points(only_run(service), "th/loss") == POINTS


def test_a_proxy_that_drops_everything_lets_the_run_go_on_offline_and_says_so(tmp_path):
    driver = Driver(tmp_path)
    with dropping_proxy() as (url, taken):
        driver.environment |= {"HTTPS_PROXY": url, "https_proxy": url, "WANDB_API_KEY": KEY}
        code, out = driver(0, 10)
        assert taken
    assert code == 0, out
    assert "W&B         not reached (api.wandb.ai: " in out
    assert "1 runs are recorded and not sent: sea-ray sync demo" in out
    assert seconds("opened", out) < ANSWER_S + 2
    assert seconds("ended", out) < 10
    assert driver.mirror() == POINTS


def test_a_refused_key_or_an_unknown_entity_ends_it_before_anything_is_made(tmp_path, service):
    driver = Driver(tmp_path, service.url)
    code, out = driver(0, 10, "finish", "tracking.entity=taem")
    assert code != 0
    assert "did you mean team?" in out
    service.keys = {"another"}
    code, out = driver(0, 10)
    assert code != 0
    assert "refuses the W&B key" in out
    assert KEY not in out
    assert "opened in" not in out
    assert not service.runs
    assert not recorded(driver.folder)


def test_the_key_is_in_no_file(tmp_path, service):
    driver = Driver(tmp_path, service.url)
    code, out = driver(0, 3)
    assert code == 0, out
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 5
    assert not [file for file in files if KEY.encode() in file.read_bytes()]


def test_what_fails_in_wandb_ends_its_display_and_no_run(tmp_path, monkeypatch):
    import wandb

    from sea_ray.launch.wandb_tracker import WandbSettings, WandbTracker

    def init(**_):
        raise OSError("no space left on the device")

    monkeypatch.setattr(wandb, "init", init)
    told = []
    tracker = WandbTracker(WandbSettings(project="p", group="g", identity="i", folder=tmp_path, config={}, tell=told.append), {})
    run = tracker.child("base")
    for step in range(3):
        run.log(step, loss=1.0)
    run.finish()
    tracker.finish()
    assert told == ["W&B shows no more of base (OSError: no space left on the device); events.jsonl has all"]


KILLED = """
import pathlib, sys, psutil
from sea_ray.launch.wandb_tracker import WandbSettings, WandbTracker
tracker = WandbTracker(WandbSettings(project="p", group="g", identity="i", folder=pathlib.Path(sys.argv[1]), config={}), {})
run = tracker.child("base")
run.log(0, loss=1.0)
for child in psutil.Process().children():
    child.kill()
    child.wait()
for step in range(1, 4):
    run.log(step, loss=1.0)
run.finish()
tracker.child("neurons/a").log(0, loss=1.0)
tracker.finish()
print("went on to its end")
"""


def test_a_run_outlives_the_process_that_wandb_records_with(tmp_path):
    driver = Driver(tmp_path)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=driver.environment, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0
    assert "W&B shows no more of base" in done.stdout
    assert done.stdout.endswith("went on to its end\n")


class Registry:
    """In place of wandb.Api: keeps what is linked; a stand-in for the service's registry would prove no more."""

    linked, refuses = [], False

    def __init__(self, timeout):
        self.name = ""

    def artifact(self, name):
        self.name = name
        return self

    def link(self, target, aliases):
        if self.refuses:
            raise ValueError("no registry in this organization")
        self.linked.append((self.name, target, aliases))


def test_the_winner_is_an_artifact_of_its_own_and_is_linked_to_the_registry_once_it_is_there(tmp_path, monkeypatch):
    import wandb

    from sea_ray.launch.wandb_tracker import WandbSettings, WandbTracker

    monkeypatch.setattr(wandb, "Api", Registry)
    monkeypatch.setattr(Registry, "linked", [])
    store = Store(str(tmp_path / "store"))
    winner = made(result(store, "sft"), store)
    settings = WandbSettings(project="p", group="demo", identity="i", folder=tmp_path, config={}, registry="model", upload=True)
    run = WandbTracker(settings, {}).child("figures")
    run.made(dataclasses.replace(winner, kind="winner", parents=(winner,)))
    run.finish()
    assert list(link(tmp_path, "team")) == [], "its run is not sent yet"
    wandb.teardown()  # waits until the files are whole
    (file,) = recorded(tmp_path)
    content = file.read_bytes()
    assert b"demo-winner" in content
    assert b"model.safetensors" in content
    file.with_suffix(".wandb.synced").touch()
    monkeypatch.setattr(Registry, "refuses", True)
    assert list(link(tmp_path, "team")) == [("wandb-registry-model/p", "ValueError: no registry in this organization")]
    monkeypatch.setattr(Registry, "refuses", False)
    assert list(link(tmp_path, "team")) == [("wandb-registry-model/p", "")]
    assert Registry.linked == [(f"team/p/demo-winner:{winner.fingerprint}", "wandb-registry-model/p", ["demo"])]
    assert list(link(tmp_path, "team")) == [], "linked once"


def test_what_lies_in_an_object_store_is_referred_to_and_not_read(tmp_path):
    from sea_ray.launch.wandb_tracker import _artifact

    record = tmp_path / "record.json"
    record.write_text("{}")
    there = Made(kind="sft", fingerprint="abc", address="s3://bucket/runs/artifacts/sft/abc", record=record)
    artifacts = [_artifact(there), _artifact(there), _artifact(there, whole=True)]
    for artifact in artifacts:
        assert {name: entry.ref for name, entry in artifact.manifest.entries.items()} == {
            "record.json": None, "files": "s3://bucket/runs/artifacts/sft/abc"}
    assert artifacts[0].digest == artifacts[1].digest, "W&B knows it again"


def test_sync_says_what_it_lacks(tmp_path, monkeypatch):
    console = Console()
    with pytest.raises(ConfigError, match="name one run"):
        sync([], console)
    (tmp_path / "other" / "wandb").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"has recorded nothing for W&B in .*; there: other"):
        sync(["demo", f"store.url={tmp_path}"], console)
    file = tmp_path / "demo" / "wandb" / "offline-run-20260101_000000-abc" / "run-abc.wandb"
    file.parent.mkdir(parents=True)
    file.touch()
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with pytest.raises(MachineError, match=r"W&B is not reached .* what is recorded stays"):
        sync(["demo", f"store.url={tmp_path}"], console)
