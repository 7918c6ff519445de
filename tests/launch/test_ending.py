"""The end of a run: who is told what, and that neither a webhook nor a teardown can make a good run fail."""

import http.server
import json
import socket
import threading
import time

import pytest
from rich.console import Console

from sea_ray.artifacts import plain
from sea_ray.errors import BudgetError, ConfigError, MachineError
from sea_ray.launch import ending, run
from sea_ray.launch.compose import compose_experiment

SECRET = "c2VjcmV0"


@pytest.fixture
def server():
    """An HTTP server that keeps what it is told; `status` and `wait_s` say how it answers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.told.append((self.path, self.headers["Content-Type"], body))
            time.sleep(server.wait_s)
            self.send_response(server.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.told, server.status, server.wait_s = [], 200, 0.0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def console():
    return Console(record=True, width=200, highlight=False)


@pytest.fixture
def config(server):
    def made(*overrides):
        url = f"http://127.0.0.1:{server.server_port}/hook/{SECRET}?key={SECRET}&x=1"
        return compose_experiment(["experiment=demo", f'ending.webhook="{url}"', *overrides])

    return made


def test_a_run_that_finishes_is_told_with_its_winner(server, config, console):
    with ending.ending(config(), console) as notice:
        notice.winner, notice.report, notice.usd = {"neurons.selection.top_frac": 0.2}, "s3://b/demo/report.html", 1.25
    ((path, kind, told),) = server.told
    assert path == f"/hook/{SECRET}?key={SECRET}&x=1"
    assert kind == "application/json"
    assert told.pop("seconds") >= 0
    assert told == {"name": "demo", "outcome": "finished", "reason": "", "winner": {"neurons.selection.top_frac": 0.2},
                    "usd": 1.25, "report": "s3://b/demo/report.html"}
    text = console.export_text()
    assert "http://127.0.0.1/...: told (200)" in text
    assert SECRET not in text


@pytest.mark.parametrize(("error", "outcome"), [
    (MachineError("no cluster at 1.2.3.4"), "failed"), (BudgetError("12 of 10 USD"), "budget"), (ZeroDivisionError(), "failed")])
def test_a_run_that_fails_is_told_with_the_reason_and_still_fails(server, config, console, error, outcome):
    with pytest.raises(type(error)), ending.ending(config(), console):
        raise error
    ((_, _, told),) = server.told
    assert (told["outcome"], told["reason"]) == (outcome, str(error) or "ZeroDivisionError")
    assert told["winner"] is told["report"] is None


def test_an_interrupted_run_tells_nobody_and_leaves_the_cluster(server, config, console, tmp_path):
    with (pytest.raises(KeyboardInterrupt),
          ending.ending(config(f"ending.teardown=[touch, {tmp_path / 'ended'}]"), console)):
        raise KeyboardInterrupt
    assert not server.told
    assert not (tmp_path / "ended").exists()


@pytest.mark.parametrize(("status", "says"), [(500, "it answered 500"), (404, "it answered 404")])
def test_a_webhook_that_answers_badly_is_told_of_and_fails_no_run(server, config, console, status, says):
    server.status = status
    with ending.ending(config(), console):
        pass
    assert says in console.export_text()


def test_a_webhook_that_is_not_there_or_never_answers_costs_no_run_and_little_time(server, config, console, monkeypatch):
    monkeypatch.setattr(ending, "WEBHOOK_S", 0.5)
    server.wait_s = 30
    start = time.monotonic()
    with ending.ending(config(), console):
        pass
    assert time.monotonic() - start < 10
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        gone = compose_experiment(["experiment=demo", f"ending.webhook=http://127.0.0.1:{probe.getsockname()[1]}/{SECRET}"])
    with ending.ending(gone, console):
        pass
    text = console.export_text()
    assert "no answer in time" in text
    assert "not reached (URLError)" in text
    assert SECRET not in text


def test_the_teardown_runs_after_the_webhook_was_told_whatever_the_outcome(server, config, console, tmp_path):
    command = f"ending.teardown=[sh, -c, 'date >> {tmp_path / 'ended'}']"
    with ending.ending(config(command), console):
        assert not server.told
    with pytest.raises(MachineError), ending.ending(config(command), console):
        raise MachineError("lost")
    assert len((tmp_path / "ended").read_text().splitlines()) == len(server.told) == 2


@pytest.mark.parametrize(("command", "says"), [
    ("[sh, -c, 'echo no rights >&2; exit 3']", "exit code 3: no rights"), ("[no_such_program]", "No such file")])
def test_a_teardown_that_fails_is_told_loudly_and_fails_no_run(server, config, console, command, says):
    with ending.ending(config(f"ending.teardown={command}"), console):
        pass
    assert "teardown    FAILED" in console.export_text()
    assert [told["outcome"] for _, _, told in server.told] == ["finished", "finished"]
    assert says in server.told[1][2]["reason"]


def test_a_whole_run_tells_how_it_failed(server, config, console, tmp_path, monkeypatch):
    port = server.server_port
    with pytest.raises(MachineError):
        run.run(["experiment=demo", f"store.url={tmp_path}", f"ending.webhook=http://127.0.0.1:{port}/{SECRET}",
                 "cluster.min_free_disk_gib=1e9"], console)
    ((_, _, told),) = server.told
    assert told["outcome"] == "failed"
    assert "cluster.min_free_disk_gib" in told["reason"]


def test_the_secret_stays_out_of_what_is_recorded(config):
    overrides = ["experiment=demo", "ending=aws", f"ending.webhook=https://u:{SECRET}@h.example/{SECRET}?k={SECRET}",
                 f"++ending={{webhook: 'https://h/{SECRET}'}}"]
    shown = ending.public_overrides(overrides)
    assert shown == ["experiment=demo", "ending=aws", "ending.webhook=...", "++ending=..."]
    assert SECRET not in json.dumps(plain(ending.public_config(config())))


@pytest.mark.parametrize("url", [f"ftp://h/{SECRET}", f"h/{SECRET}", f"http:///{SECRET}"])
def test_what_is_no_webhook_is_refused_without_being_shown(url):
    with pytest.raises(ConfigError, match=r"ending\.webhook: it is not an http") as caught:
        compose_experiment(["experiment=demo", f"ending.webhook='{url}'"])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("fails", "does"), [
    ("", ["shutdown", "end --workers"]), ("shutdown", ["shutdown", "end", "end --workers"]),
    ("end --workers", ["shutdown", "end --workers"]), ("everything", ["shutdown", "end", "end --workers"])])
def test_on_aws_the_head_goes_whichever_step_fails_and_a_failure_is_told(config, console, tmp_path, monkeypatch, fails, does):
    """The very command of conf/ending/aws.yaml, with stand-ins for sudo and python."""
    for name, words in (("sudo", "$1"), ("python", "$(echo $3 $4)")):
        (tmp_path / name).write_text(f'#!/bin/sh\ndone="{words}"\necho "$done" >> {tmp_path}/did\n'
                                     f'case "{fails}" in everything|"$done") exit 1;; esac\n')
        (tmp_path / name).chmod(0o755)
    (tmp_path / "sea_ray").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with ending.ending(config("ending=aws"), console):
        pass
    assert (tmp_path / "did").read_text().splitlines() == does
    assert ("FAILED" in console.export_text()) == (fails in ("end --workers", "everything"))


def test_on_google_cloud_the_head_shuts_down_even_if_asking_the_cloud_fails():
    command = compose_experiment(["experiment=demo", "ending=gcp"]).ending.teardown
    assert command[:2] == ("sh", "-c")
    assert command[2].startswith("sudo shutdown -h +2; ")
