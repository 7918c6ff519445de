"""`sea-ray serve`, `rollout` and `rollback` as a person types them, on real Ray Serve with clients that never stop asking."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
import tiny_checkpoint

pytestmark = pytest.mark.ray

REPO = Path(__file__).resolve().parents[2]
LIMIT_S = 60.0
"""No request may take longer."""


def command(scratch, *arguments):
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment |= {"PYTHONPATH": str(REPO), "TMPDIR": str(scratch), "COLUMNS": "200", "SEA_RAY_API_KEY": "sea-test"}
    return subprocess.Popen([sys.executable, "-m", "sea_ray.launch.cli", *arguments], cwd=REPO, env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Service:
    """`sea-ray serve` in a process of its own."""

    def __init__(self, *arguments):
        self.scratch = Path(tempfile.mkdtemp(prefix="v-", dir="/tmp"))  # sockets below it: a short path
        self.process = command(self.scratch, "serve", *arguments)
        self.told = []
        for line in self.process.stdout:
            self.told.append(line)
            if line.startswith("exchange"):
                break
        else:
            self.close()
            raise AssertionError(self.process.stderr.read())
        told = "".join(self.told)
        self.url, self.address = re.search(r"http://\S+/v1", told)[0], re.search(r"cluster\.address=\S+", told)[0]
        self.client = httpx.Client(base_url=self.url, headers={"Authorization": "Bearer sea-test"}, timeout=LIMIT_S)

    def __call__(self, *arguments):
        """Return exit code, output and errors of another command."""
        process = command(self.scratch, *arguments, self.address)
        out, errors = process.communicate(timeout=180)
        return process.returncode, out, errors

    def ask(self, client=None, **asked):
        body = {"model": "sea-ray", "prompt": tiny_checkpoint.PROMPT, "temperature": 0, "max_tokens": 0, "echo": True,
                "logprobs": 1, **asked}
        return (client or self.client).post("/completions", json=body)

    def loglikelihood(self):
        return said(self.ask())

    def replicas(self):
        """The processes that hold the models."""
        return [child for child in psutil.Process(self.process.pid).children(recursive=True)
                if "ServeReplica" in " ".join(child.cmdline())]

    def replica(self):
        (found,) = self.replicas()
        return found

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        shutil.rmtree(self.scratch, ignore_errors=True)


def said(response):
    assert response.status_code == 200, response.text
    return sum(response.json()["choices"][0]["logprobs"]["token_logprobs"][1:])


class Crowd:
    """Clients that ask one after the other, half of them for streams, until the context ends."""

    def __init__(self, service, clients):
        self.service, self.answers, self.faults = service, [], []
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]
        self._over = threading.Event()

    def _ask(self, number):
        with httpx.Client(base_url=self.service.url, headers=self.service.client.headers, timeout=LIMIT_S) as client:
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    if number % 2:
                        response = self.service.ask(client)
                        value = said(response) if response.status_code == 200 else response.text
                        self.answers.append((began, time.monotonic(), response.status_code, value))
                    else:
                        self._stream(client, began)
                except httpx.TransportError as error:
                    self.faults.append((number % 2, error))
                    time.sleep(0.1)

    def _stream(self, client, began):
        body = {"model": "sea-ray", "prompt": "Budi", "temperature": 0, "max_tokens": 40, "stream": True}
        with client.stream("POST", "/completions", json=body) as response:
            text = response.read().decode()
            if response.status_code == 200 and "data: [DONE]" not in text:
                raise httpx.RemoteProtocolError("the stream broke off")
            self.answers.append((began, time.monotonic(), response.status_code, None))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        for thread in self._threads:
            thread.join(LIMIT_S + 5)
        assert not any(thread.is_alive() for thread in self._threads), "a request hangs"

    def statuses(self):
        return {status for _, _, status, _ in self.answers}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    return [tiny_checkpoint.make(root / "old", 0), tiny_checkpoint.make(root / "new", 1),
            tiny_checkpoint.make(root / "broken", 2, broken=True)]


@pytest.fixture(scope="module")
def service(checkpoints):
    with contextlib.closing(Service(f"checkpoint={checkpoints[0]}", "cluster.num_cpus=2")) as service:
        yield service


def test_a_rollout_under_load_fails_no_request_and_mixes_no_models_and_a_rollback_takes_it_back(service, checkpoints):
    old, new, broken = checkpoints
    says = [tiny_checkpoint.loglikelihood(folder) for folder in (old, new)]
    assert service.loglikelihood() == pytest.approx(says[0], abs=1e-3)
    pid = service.replica().pid
    with Crowd(service, 8) as crowd:
        code, _, errors = service("rollout", f"checkpoint={new}")
        switched = time.monotonic()
        assert code == 0, errors
        time.sleep(1)
    assert not crowd.faults
    assert crowd.statuses() == {200}
    scored = sorted((began, ended, value) for began, ended, _, value in crowd.answers if value is not None)
    of_old = [pair for pair in scored if pair[2] == pytest.approx(says[0], abs=1e-3)]
    of_new = [pair for pair in scored if pair[2] == pytest.approx(says[1], abs=1e-3)]
    assert len(of_old) + len(of_new) == len(scored), "each answer is one model's"
    assert len(of_old) > 10
    assert len(of_new) > 10
    assert min(ended for _, ended, _ in of_new) > max(began for began, _, _ in of_old), "what comes later is the new one's"
    assert max(began for began, _, _ in of_old) < switched

    with Crowd(service, 2) as crowd:
        code, _, errors = service("rollout", f"checkpoint={broken}")
    assert code == 4
    assert "nothing was changed: 'sea-ray' gives no number for a probe text" in errors
    assert "Traceback" not in errors
    assert (crowd.statuses(), crowd.faults) == ({200}, [])
    assert service.loglikelihood() == pytest.approx(says[1], abs=1e-3)

    assert service("rollback")[0] == 0
    assert service.loglikelihood() == pytest.approx(says[0], abs=1e-3)
    assert service.replica().pid == pid, "nothing was restarted"


def test_who_comes_when_too_many_wait_is_told_so_at_once_by_the_replica(service):
    """240 requests at a time, of which 64 are answered and 64 may wait."""
    def ask():
        began = time.monotonic()
        response = service.ask(client, prompt=[tiny_checkpoint.PROMPT] * 8, max_tokens=100, echo=False)
        answers.append((response, time.monotonic() - began))

    answers = []
    unlimited = httpx.Limits(max_connections=None)  # else a client lets no more than a hundred out at a time
    with httpx.Client(base_url=service.client.base_url, headers=service.client.headers, timeout=LIMIT_S,
                      limits=unlimited) as client:
        threads = [threading.Thread(target=ask) for _ in range(240)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
    assert len(answers) == 240
    assert {response.status_code for response, _ in answers} == {200, 429}
    refused = [(response, seconds) for response, seconds in answers if response.status_code == 429]
    assert {response.json()["error"]["type"] for response, _ in refused} == {"rate_limit_error"}
    assert all(response.headers["retry-after"] for response, _ in refused)
    assert max(seconds for _, seconds in refused) < max(seconds for _, seconds in answers)


def test_a_killed_replica_costs_its_requests_503_and_the_service_comes_back(service, checkpoints):
    says = service.loglikelihood()
    killed, long = service.replica(), []
    writers = [threading.Thread(target=lambda: long.append(service.ask(max_tokens=1000, echo=False))) for _ in range(4)]
    with Crowd(service, 16) as crowd:
        time.sleep(2)
        for writer in writers:
            writer.start()
        time.sleep(0.3)  # scoring takes moments: these are surely being written
        killed.kill()
        killed_at = time.monotonic()
        while not any(began > killed_at and status == 200 for began, _, status, _ in crowd.answers):
            assert time.monotonic() < killed_at + LIMIT_S
            time.sleep(0.2)
        time.sleep(1)
    for writer in writers:
        writer.join(LIMIT_S)
    assert [response.status_code for response in long] == [503] * 4
    refused = [value for _, _, status, value in crowd.answers if status == 503 and value] + [response.text for response in long]
    assert crowd.statuses() <= {200, 429, 503}
    assert all("the replica that had this request was lost: try again" in value for value in refused)
    assert not [fault for is_plain, fault in crowd.faults if is_plain], "only streams that had begun break off"
    assert max(ended - began for began, ended, _, _ in crowd.answers) < LIMIT_S
    assert service.loglikelihood() == says
    assert service.replica().pid != killed.pid


def test_a_second_service_on_the_same_cluster_is_refused_and_the_first_goes_on(service, checkpoints):
    code, _, errors = service("serve", f"checkpoint={checkpoints[1]}")
    assert code == 4, errors
    assert "this cluster serves sea_ray already" in errors
    assert service.loglikelihood() == pytest.approx(tiny_checkpoint.loglikelihood(checkpoints[0]), abs=1e-3)


def test_what_a_replica_is_writing_when_the_service_ends_is_written_to_its_end(service):
    answers = []
    asking = threading.Thread(target=lambda: answers.append(service.ask(max_tokens=1000, echo=False)))
    asking.start()
    time.sleep(0.3)
    service.process.send_signal(signal.SIGTERM)
    statuses = []
    while asking.is_alive():
        with contextlib.suppress(httpx.TransportError):
            statuses.append(service.ask().status_code)
        time.sleep(0.05)
    _, errors = service.process.communicate(timeout=60)
    assert answers, errors
    assert set(statuses) == {200, 503}, "who comes while it ends is told so"
    assert answers[0].status_code == 200, answers[0].text
    assert answers[0].json()["usage"]["completion_tokens"] > 100
    assert service.process.returncode == 0


def test_a_checkpoint_that_gives_no_numbers_is_not_served_and_its_user_sees_why(checkpoints, service):
    process = command(service.scratch, "serve", f"checkpoint={checkpoints[2]}", "cluster.num_cpus=2")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 4
    assert re.search(r"^error: 'sea-ray' gives no number for a probe text: its weights are broken", errors, re.MULTILINE)
    assert "Traceback" not in errors


@pytest.mark.soak
def test_replicas_come_with_the_load_and_a_rollout_reaches_all_of_them(checkpoints):
    old, new, _ = checkpoints
    says = tiny_checkpoint.loglikelihood(new)
    with contextlib.closing(Service(f"checkpoint={old}", "cluster.num_cpus=2", "serving.max_replicas=2",
                                    "serving.max_batch=2")) as service:
        assert len(service.replicas()) == 1
        with Crowd(service, 16) as crowd:
            end = time.monotonic() + 120
            while len(service.replicas()) < 2:
                assert time.monotonic() < end, "more clients than one replica's batch, and no second replica"
                time.sleep(1)
            code, _, errors = service("rollout", f"checkpoint={new}")
            assert code == 0, errors
            switched = time.monotonic()
            time.sleep(5)
        assert (crowd.statuses(), crowd.faults) == ({200}, [])
        later = [value for began, _, _, value in crowd.answers if began > switched and value is not None]
        assert len(later) > 10
        assert later == pytest.approx([says] * len(later), abs=1e-3)
