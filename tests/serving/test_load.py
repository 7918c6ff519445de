"""More clients than the server has places for: who is let in is answered rightly and in time, others are told when to come."""

import asyncio
import time
from dataclasses import dataclass, field

import aiohttp
import numpy as np
import pytest
from served_apart import Server, served_apart

PLACES = 8
"""Answers at a time, and as many prompts that wait."""
CROWD = 4 * PLACES


@dataclass
class Seen:
    """What a crowd of clients got."""

    seconds: list[float] = field(default_factory=list)
    """Of each right answer, from the question to its end."""
    wrong: list[object] = field(default_factory=list)
    """Whatever should not have come."""
    refused: int = 0

    @property
    def p99_s(self) -> float:
        return float(np.quantile(self.seconds, 0.99))


async def crowd(server: Server, known: dict[str, str], clients: int, seconds: float) -> Seen:
    """Let clients ask, each its next question when the last one is answered; who is refused comes back when told to."""
    seen, end, questions = Seen(), time.monotonic() + seconds, list(known)
    connector = aiohttp.TCPConnector(limit=0)

    async def client(number: int, session: aiohttp.ClientSession) -> None:
        while time.monotonic() < end:
            number += 1
            text = questions[number * 7 % len(questions)]
            body = {"model": "small", "prompt": text, "max_tokens": 24, "temperature": 0}
            began = time.monotonic()
            async with session.post(server.url + "/v1/completions", json=body) as response:
                found = await response.json()
            if response.status == 200 and found["choices"][0]["text"] == known[text]:
                seen.seconds.append(time.monotonic() - began)
            elif response.status == 429 and found["error"]["type"] == "rate_limit_error":
                seen.refused += 1
                await asyncio.sleep(float(response.headers["Retry-After"]))
            else:
                seen.wrong.append((response.status, found))

    async with aiohttp.ClientSession(headers=server.headers, connector=connector) as session:
        await asyncio.gather(*(client(31 * number, session) for number in range(clients)))
    return seen


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.soak)])
def test_four_times_as_many_clients_as_places(small, seconds):
    with served_apart(small.folder, max_batch=PLACES, max_waiting=PLACES) as server:
        asyncio.run(crowd(server, small.sure, PLACES, 1))
        before = asyncio.run(crowd(server, small.sure, PLACES, seconds / 3))
        crowded = asyncio.run(crowd(server, small.sure, CROWD, seconds))
        after = asyncio.run(crowd(server, small.sure, PLACES, seconds / 3))
    full_s = max(before.p99_s, after.p99_s)
    print(f"{PLACES} clients: {len(before.seconds + after.seconds) / (seconds / 1.5):.0f} answers/s, p99 {before.p99_s:.3f} and "
          f"{after.p99_s:.3f} s; {CROWD} clients: {len(crowded.seconds) / seconds:.0f} answers/s, p99 {crowded.p99_s:.3f} s, "
          f"{crowded.refused} refused")
    assert not before.wrong + crowded.wrong + after.wrong
    assert before.refused + after.refused == 0
    assert crowded.refused > 0
    assert crowded.p99_s <= 3 * full_s
