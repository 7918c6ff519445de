"""From the engine's thread to the event loop: whole answers, and streams of server-sent events."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from fastapi import Request as HttpRequest

from sea_ray.errors import SeaRayError
from sea_ray.serving.api_errors import ApiError
from sea_ray.serving.exchange import Answer, Engine, Request
from sea_ray.serving.responses import usage


async def gathered(futures: Sequence[Future[Answer]], http: HttpRequest, limit_s: float) -> list[Answer]:
    """Wait for answers; when the client leaves first or waits too long, their places in the engine are freed.

    Args:
        futures: of the engine.
        http: who waits.
        limit_s: for so long at most.

    Raises:
        ApiError: 499 if the client has left (nobody reads it), 504 if it took too long.
    """
    together = asyncio.gather(*map(asyncio.wrap_future, futures))
    left = asyncio.ensure_future(_left(http))
    try:
        both: tuple[asyncio.Future[Any], ...] = (together, left)
        await asyncio.wait(both, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if together.done():
            return together.result()
        raise ApiError(499, "the client has left") if left.done() else too_long(limit_s)
    finally:
        for future in futures:  # of a request that failed in part the rest, too
            future.cancel()
        together.cancel()
        left.cancel()


async def _left(http: HttpRequest) -> None:
    """Wait until a client goes."""
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def events(engine: Engine, request: Request, chunk: Callable[[str, str | None], Mapping[str, Any]],
                 usage_head: Mapping[str, Any] | None, limit_s: float, opening: Mapping[str, Any] | None = None,
                 done: Callable[[Sequence[Request], Sequence[Answer]], None] = lambda *_: None) -> AsyncIterator[str]:
    """Yield an answer as server-sent events while it grows; a client that leaves frees its place.

    Args:
        engine: computes.
        request: what is asked.
        chunk: makes a chunk of a piece of text and, at the end, the finish reason.
        usage_head: opening fields of a last chunk with the token counts; None sends none.
        limit_s: longest time for all of it.
        opening: a chunk to begin with.
        done: told of the request and its answer at the end.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + limit_s
    pieces: asyncio.Queue[str | None] = asyncio.Queue()

    def hand_over(piece: str | None) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, piece)

    futures: list[Future[Answer]] = []
    try:
        futures += engine.submit([request], hand_over)
        futures[0].add_done_callback(lambda _: hand_over(None))
        if opening is not None:
            yield _event(opening)
        while (piece := await asyncio.wait_for(pieces.get(), max(0.0, end - loop.time()))) is not None:
            yield _event(chunk(piece, None))
        answer = futures[0].result()
        done([request], [answer])
        yield _event(chunk("", answer.finish_reason))
        if usage_head is not None:
            yield _event({**usage_head, "choices": [], "usage": usage([request], [answer])})
        yield "data: [DONE]\n\n"
    except (SeaRayError, TimeoutError) as error:  # the status line is long gone: the stream itself has to say it
        yield _failed(too_long(limit_s).message if isinstance(error, TimeoutError) else str(error))
    except Exception:
        logging.getLogger(__name__).exception("a stream broke off")
        yield _failed("the server failed on this request; its log says how")
    finally:
        for future in futures:
            future.cancel()


def too_long(limit_s: float) -> ApiError:
    """Return what is said when a request's time is over."""
    return ApiError(504, f"the answer took longer than {limit_s:g} s, this server's limit: ask for fewer tokens",
                    kind="server_error")


def _failed(message: str) -> str:
    return _event({"error": {"message": message, "type": "server_error", "param": None, "code": None}})


def _event(body: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
