"""Clients of a chat server, in a process of their own: `python -m benchmarks.chat_clients URL MODEL ...` prints JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import aiohttp


async def one(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> float:
    """Ask one question to its end; return the seconds."""
    began = time.perf_counter()
    async with session.post(f"{url}/chat/completions", json=body) as response:
        async for _ in response.content.iter_any():
            pass
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {await response.text()}")
    return time.perf_counter() - began


async def main() -> None:
    """Ask all questions at once, and print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("questions", type=Path, help="JSON list of texts")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--stream", action="store_true")
    options = parser.parse_args()
    questions = json.loads(options.questions.read_text(encoding="utf-8"))
    headers = {"Authorization": f"Bearer {os.environ['BENCH_KEY']}"} if "BENCH_KEY" in os.environ else {}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=600)) as session:
        def body(question: str) -> dict[str, Any]:
            return {"model": options.model, "messages": [{"role": "user", "content": question}], "max_tokens": options.tokens,
                    "temperature": 0, "stream": options.stream}

        async with session.get(f"{options.url.removesuffix('/v1')}/health") as response:  # connects and imports beforehand
            await response.read()
        began = time.perf_counter()
        seconds = await asyncio.gather(*(one(session, options.url, body(question)) for question in questions))
        print(json.dumps({"seconds": time.perf_counter() - began, "each": seconds}))


if __name__ == "__main__":
    asyncio.run(main())
