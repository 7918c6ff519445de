"""Models are exchanged while requests are under way."""

import asyncio
import copy
import time

import httpx
import pytest
import torch

from sea_ray.errors import MachineError
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.door import Door
from sea_ray.serving.engine import TextEngine
from sea_ray.serving.guard import key_digest
from sea_ray.serving.models import Models, Served

LIMITS = ServingConfig(model_name="tiny", request_limit_s=20)
PROMPT = [20, 21, 22, 23]


@pytest.fixture
def models(model, tokenizer):
    """Return a function that makes models of a name; each of a scale has its own answers."""
    torch.set_num_threads(1)
    made = []

    def make(scale):
        changed = copy.deepcopy(model)
        with torch.no_grad():
            changed.lm_head.weight.mul_(scale)
        made.append(TextEngine(changed, tokenizer, max_batch=4, prefill_tokens=64))
        return Models([Served(name="tiny", engine=made[-1])])

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def door(models):
    door = Door([key_digest("key")], LIMITS)
    door.bring("old", lambda: models(1.0))
    door.switch("old")
    return door


def client_of(door, key="key"):
    return httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://door",
                             headers={"Authorization": f"Bearer {key}"})


async def score(client):
    body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 0, "echo": True, "logprobs": 1, "temperature": 0}
    response = await client.post("/v1/completions", json=body)
    return sum(response.json()["choices"][0]["logprobs"]["token_logprobs"][1:])


def test_before_anything_is_loaded_a_door_says_to_try_again():
    async def ask():
        async with client_of(Door([], LIMITS)) as client:
            return await client.get("/v1/models")

    response = asyncio.run(ask())
    assert (response.status_code, response.json()["error"]["type"]) == (503, "server_error")
    assert response.headers["retry-after"]


def test_a_request_that_came_before_the_switch_is_answered_to_its_end_by_what_answered_then(door, models):
    old = door._lineups["old"].models.engines[0]

    async def ask():
        async with client_of(door) as client:
            body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 60, "temperature": 0}
            whole = (await client.post("/v1/completions", json=body)).json()["choices"][0]["text"]
            before = await score(client)
            await asyncio.to_thread(door.bring, "new", lambda: models(0.5))
            under_way = asyncio.create_task(client.post("/v1/completions", json=body))
            while not old.num_pending:
                await asyncio.sleep(0)
            door.switch("new")
            door.keep(["new"])
            after = await score(client)
            return whole, before, after, (await under_way).json()["choices"][0]["text"]

    whole, before, after, under_way = asyncio.run(ask())
    assert under_way == whole
    assert abs(after - before) > 0.1
    end = time.monotonic() + 5
    while old._thread.is_alive():
        assert time.monotonic() < end, "it is closed when its last request has ended"
        time.sleep(0.02)
    with pytest.raises(KeyError):
        door.switch("old")


def test_what_stands_by_answers_again_at_once(door, models):
    async def ask():
        async with client_of(door) as client:
            before = await score(client)
            await asyncio.to_thread(door.bring, "new", lambda: models(0.5))
            door.switch("new")
            door.keep(["new", "old"])
            other = await score(client)
            door.bring("old", lambda: pytest.fail("it is there"))
            door.switch("old")
            return before, other, await score(client)

    before, other, again = asyncio.run(ask())
    assert again == before != other


def test_what_answers_wrongly_is_closed_and_never_answers(door, models):
    broken = []

    def load():
        broken.append(models(float("nan")))
        return broken[0]

    with pytest.raises(MachineError, match="no number"):
        door.bring("broken", load)
    assert not broken[0].engines[0]._thread.is_alive()
    with pytest.raises(KeyError):
        door.switch("broken")


def test_counters_go_on_and_keys_are_asked_for_after_a_switch(door, models):
    async def ask():
        async with client_of(door) as client, client_of(door, "wrong") as stranger:
            await score(client)
            await asyncio.to_thread(door.bring, "new", lambda: models(0.5))
            door.switch("new")
            await score(client)
            return (await stranger.get("/v1/models")).status_code, (await client.get("/metrics")).text

    status, page = asyncio.run(ask())
    assert status == 401
    assert 'sea_ray_requests_total{route="/v1/completions",status="200"} 2.0' in page, "and the probe's are not counted"


def test_the_server_s_end_closes_all(door, models):
    door.bring("new", lambda: models(0.5))
    engines = [engine for lineup in door._lineups.values() for engine in lineup.models.engines]
    told = []

    async def live():
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive():
            return next(messages)

        async def send(message):
            told.append(message["type"])

        await door({"type": "lifespan"}, receive, send)

    asyncio.run(live())
    assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert len(engines) == 2
    assert not any(engine._thread.is_alive() for engine in engines)
