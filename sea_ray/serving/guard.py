"""What every request passes first: its key and its size. Plain ASGI, so that streams pass through untouched."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sea_ray.serving.api_errors import ApiError, error_response
from sea_ray.serving.playground import PAGE_PATHS

OPEN_PATHS = frozenset({"/health"}) | PAGE_PATHS


def key_digest(key: str) -> str:
    """Return what is kept of an API key: its SHA-256, 64 hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


class Guard:
    """Refuses requests without an accepted key (401) or with too large a body (413)."""

    def __init__(self, app: ASGIApp, key_digests: Sequence[str], max_body_bytes: int) -> None:
        """Args: app: behind the guard; key_digests: of accepted keys, none lets all in; max_body_bytes: limit."""
        self._app, self._digests, self._max_body_bytes = app, tuple(key_digests), max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refusal, or pass the request on with its body read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        if scope["path"] not in OPEN_PATHS and not self._knows(headers.get(b"authorization", b"")):
            refusal = ApiError(401, "the API key is missing or wrong: send 'Authorization: Bearer KEY'",
                               code="invalid_api_key", kind="authentication_error")
            await error_response(refusal)(scope, receive, send)
            return
        body = await self._read(headers.get(b"content-length", b""), receive)
        if body is None:
            refusal = ApiError(413, f"the body is larger than {self._max_body_bytes:,} bytes: send fewer prompts at a "
                                    "time")
            await error_response(refusal)(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    def _knows(self, authorization: bytes) -> bool:
        if not self._digests:
            return True
        scheme, _, key = authorization.partition(b" ")
        found = hashlib.sha256(key.strip()).hexdigest()
        matches = [hmac.compare_digest(found, digest) for digest in self._digests]  # all of them: constant time
        return scheme.lower() == b"bearer" and any(matches)

    async def _read(self, announced: bytes, receive: Receive) -> bytes | None:
        """Return the body, or None if it is too large."""
        if announced.isdigit() and int(announced[:20]) > self._max_body_bytes:
            return None
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                break
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_body_bytes:
                return None
            more = message.get("more_body", False)
        return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a receive that gives the body once and then what else comes (the client's leaving)."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
