"""From the engine's thread to the event loop: whole answers, and streams of server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from fastapi import Request as HttpRequest

from sea_ray.errors import SeaRayError
from sea_ray.serving.api_errors import ApiError
from sea_ray.serving.engine import TextEngine
from sea_ray.serving.exchange import Answer, Request
from sea_ray.serving.responses import usage

LOOK_S = 1.0
"""How often a waiting request looks whether its client is still there."""


async def gathered(futures: Sequence[Future[Answer]], http: HttpRequest) -> list[Answer]:
    """Wait for answers; when the client leaves first, their places in the engine are freed.

    Raises:
        ApiError: 499 if the client has left (nobody reads it).
    """
    together = asyncio.gather(*map(asyncio.wrap_future, futures))
    try:
        while not (await asyncio.wait({together}, timeout=LOOK_S))[0]:
            if await http.is_disconnected():
                raise ApiError(499, "the client has left")
        return together.result()
    finally:
        together.cancel()


async def events(engine: TextEngine, request: Request, chunk: Callable[[str, str | None], Mapping[str, Any]],
                 usage_head: Mapping[str, Any] | None, opening: Mapping[str, Any] | None = None
                 ) -> AsyncIterator[str]:
    """Yield an answer as server-sent events while it grows; a client that leaves frees its place.

    Args:
        engine: computes.
        request: what is asked.
        chunk: makes a chunk of a piece of text and, at the end, the finish reason.
        usage_head: opening fields of a last chunk with the token counts; None sends none.
        opening: a chunk to begin with.
    """
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[str | None] = asyncio.Queue()

    def hand_over(piece: str | None) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, piece)

    (future,) = engine.submit([request], hand_over)
    future.add_done_callback(lambda _: hand_over(None))
    try:
        if opening is not None:
            yield _event(opening)
        while (piece := await pieces.get()) is not None:
            yield _event(chunk(piece, None))
        answer = future.result()
        yield _event(chunk("", answer.finish_reason))
        if usage_head is not None:
            yield _event({**usage_head, "choices": [], "usage": usage([request], [answer])})
        yield "data: [DONE]\n\n"
    except SeaRayError as error:  # the status line is long gone: the stream itself has to say it
        yield _event({"error": {"message": str(error), "type": "server_error", "param": None, "code": None}})
    finally:
        future.cancel()


def _event(body: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
