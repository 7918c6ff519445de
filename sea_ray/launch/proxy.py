"""What Ray Serve's own proxy says when no replica answers, in OpenAI's shape and with a status on which clients try again.

Serve answers in plain text, 500 for a request whose replica was lost, 408 for one that found none in time. It takes this through
the environment variable in `CALLBACK`.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sea_ray.serving.api_errors import ApiError, error_response

CALLBACK = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "sea_ray.launch.proxy:middlewares"}
"""To be in the environment where Ray starts."""
REASONS = {404: "the service is not up yet", 408: "no replica answered in time",
           500: "the replica that had this request was lost", 503: "more requests wait for a replica than may"}
"""Status of Serve's own -> what has happened."""


def middlewares() -> list[Middleware]:
    """Return what Serve's proxy wraps its application in."""
    return [Middleware(Retryable)]


class Retryable:
    """Turns Serve's own errors into 503."""

    def __init__(self, app: ASGIApp) -> None:
        """Args: app: of the proxy."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; what was begun to be answered stays as it is."""
        if scope["type"] != "http" or scope["path"].startswith("/-/"):  # the proxy's own pages
            await self._app(scope, receive, send)
            return
        begun, status = False, 500  # a request whose replica is lost is not answered at all

        async def watched(message: Message) -> None:
            nonlocal begun, status
            if message["type"] == "http.response.start":
                status, begun = message["status"], not _is_serves(message)
            if begun:
                await send(message)

        await self._app(scope, receive, watched)
        if not begun:
            message = f"{REASONS.get(status, f'Ray Serve says {status}')}: try again"
            await error_response(ApiError(503, message, kind="server_error"))(scope, receive, send)


def _is_serves(start: Message) -> bool:
    """Return whether an error is Serve's own, and not an application's."""
    kind = dict(start["headers"]).get(b"content-type", b"")
    return start["status"] in REASONS and kind.startswith(b"text/plain")
