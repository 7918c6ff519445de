"""Whatever is sent, the answer is right or says what is wrong, and the next one is right, too."""

import itertools
import json
import socket
import threading
import time

import httpx
import pytest
from hostile import FIXED, posts
from hypothesis import HealthCheck, Phase, given, seed, settings

ANY = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck),
       "phases": [Phase.generate, Phase.shrink]}


def check(response: httpx.Response) -> None:
    """Check that a response is one of the documented ones."""
    assert response.status_code in (200, 400, 404, 413, 429), response.text
    if response.status_code == 200:
        if not response.headers["content-type"].startswith("text/event-stream"):
            assert json.loads(response.content)
            return
        lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
        assert lines[-1] == "[DONE]"
        assert all("error" not in json.loads(line) for line in lines[:-1])
        return
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"] == ("rate_limit_error" if response.status_code == 429 else "invalid_request_error")


def check_known(client: httpx.Client, small, count: int = 6) -> None:
    """Check that known answers are still given."""
    texts = small.sure_texts[:count]
    found = client.post("/v1/completions", json={"model": "small", "prompt": texts, "max_tokens": 24, "temperature": 0}).json()
    assert [choice["text"] for choice in found["choices"]] == [small.sure[text] for text in texts]


@pytest.fixture
def client(door):
    with httpx.Client(base_url=door.url, headers=door.headers, timeout=60) as client:
        yield client


@pytest.mark.parametrize("claim", FIXED)
def test_an_impossible_body_gets_its_reason(client, door, small, claim):
    check(client.post("/v1/completions", content=FIXED[claim], headers={"Content-Type": "application/json"}))
    assert door.emptied(within_s=20)
    check_known(client, small)


@pytest.mark.parametrize(("path", "field"), [
    ("/v1/completions", "prompt"), ("/tokenize", "prompt"), ("/v1/chat/completions", None)])
def test_nobody_waits_while_a_long_text_is_read(client, path, field):
    text = "กขค " * 80_000
    body = {"model": "small", **({field: text} if field else {"messages": [{"role": "user", "content": text}]})}
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(client.post(path, json=body).status_code))
    thread.start()
    answered = 0
    while thread.is_alive():
        answered += httpx.get(f"{client.base_url}/health").status_code == 200
    assert statuses == [200 if path == "/tokenize" else 400]
    assert answered > 3


def send_generated(client: httpx.Client, count: int, number: int = 0) -> list[int]:
    """Send so many requests, other ones for another number; check what comes back, and return the statuses."""
    statuses = []

    @seed(number)
    @given(posts())
    @settings(max_examples=count, **ANY)
    def send(post):
        path, content, kind = post
        response = client.post(path, content=content, headers={"Content-Type": kind})
        statuses.append(response.status_code)
        check(response)

    send()
    return statuses


def test_generated_requests_get_documented_answers(client, door, small):
    statuses = send_generated(client, 300)
    assert min(statuses.count(200), statuses.count(400)) > 50
    assert door.emptied()
    check_known(client, small, 24)


@pytest.mark.soak
def test_ten_thousand_generated_requests_leave_the_server_as_it_was(server, small):
    """Half of them fill what is kept of prompts and the heap's own spare room; the other half adds at most 5 %."""
    with httpx.Client(base_url=server.url, headers=server.headers, timeout=60) as client:
        check_known(client, small, 24)
        resident = []
        for half in range(2):
            statuses = send_generated(client, 5100, half)
            assert min(statuses.count(200), statuses.count(400)) > 750
            resident.append(server.resident_bytes())
        check_known(client, small, 24)
        idle = [f'sea_ray_{kind}{{model="small"}} 0.0' for kind in ("answers_in_progress", "prompts_waiting")]
        end = time.monotonic() + 5  # an answer is sent before its place is free
        while not all(line in client.get("/metrics").text for line in idle):
            assert time.monotonic() < end
    print(f"resident MiB after each half: {[round(size / 2**20, 1) for size in resident]}")
    assert resident[1] <= 1.05 * resident[0]


def test_a_path_or_header_of_any_bytes_gets_an_answer(door):
    host, port = door.url.removeprefix("http://").split(":")
    post = b"POST /v1/completions HTTP/1.1\r\n"
    heads = [b"GET /v1/models/%00%ff%ud8 HTTP/1.1", b"GET /v1/models/" + b"a" * 9000 + b" HTTP/1.1", b"G\x00T / HTTP/1.1",
             b"\x16\x03\x01", post + b"Content-Length: -5", post + b"Content-Length: 99999999999999999999",
             post + b"Transfer-Encoding: chunked\r\n\r\nzz", b"GET /tokenizer_info?model=%ed%a0%80 HTTP/1.1",
             b"GET /tokenizer_info HTTP/1.1\r\nX-Language-Pack: \xff\xfe"]
    for head in heads:
        with socket.create_connection((host, int(port)), timeout=5) as link:
            link.sendall(head + f"\r\nHost: a\r\nAuthorization: Bearer {door.key}\r\nConnection: close\r\n\r\n".encode())
            said = b"".join(itertools.takewhile(bool, iter(lambda link=link: link.recv(65536), None)))
        assert said.startswith(b"HTTP/1.1 ") or not said
        assert not said.startswith(b"HTTP/1.1 5"), head
    assert httpx.get(door.url + "/health").status_code == 200
