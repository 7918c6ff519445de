"""The door of a replica: the models that are current answer; others are brought in beside them, checked, and take their place.

A request is answered by the models that were current when it came, to its end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from sea_ray.serving.api_errors import ApiError, error_response
from sea_ray.serving.app import build_app
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.metrics import Meters
from sea_ray.serving.models import Models
from sea_ray.serving.probe import check_answers

LOOK_S = 0.05
"""How often is looked whether the last request of models that are let go has ended."""


@dataclass
class _Lineup:
    """Models that answer together."""

    models: Models
    app: FastAPI
    num_requests: int = 0
    """Under way."""


class Door:
    """An ASGI application whose models can be exchanged."""

    def __init__(self, key_digests: Sequence[str], limits: ServingConfig, *, is_refusal: Callable[[str], bool] | None = None
                 ) -> None:
        """Args: key_digests: SHA-256 of the accepted keys; limits: of requests; is_refusal: says whether an answer refuses."""
        self._key_digests, self._limits, self._meters, self._is_refusal = tuple(key_digests), limits, Meters(), is_refusal
        self._lineups: dict[str, _Lineup] = {}
        self._current: _Lineup | None = None
        self._changing = threading.RLock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the models that are current."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        lineup = self._current
        if lineup is None:
            await error_response(ApiError(503, "no model is loaded yet: try again", kind="server_error"))(scope, receive, send)
            return
        lineup.num_requests += 1
        try:
            await lineup.app(scope, receive, send)
        finally:
            lineup.num_requests -= 1

    def bring(self, key: str, load: Callable[[], Models]) -> None:
        """Load models beside those that answer and check them, in a thread of its own; nothing is done if they are there.

        Args:
            key: that `switch` names them by.
            load: loads them.

        Raises:
            MachineError: their answers are wrong; they are closed again.
        """
        with self._changing:
            if key in self._lineups:
                return
            models = load()
            try:
                check_answers(models, self._limits)
            except BaseException:
                models.close()
                raise
            self._lineups[key] = _Lineup(models, build_app(models, self._key_digests, self._limits, self._meters,
                                                           is_refusal=self._is_refusal))

    def switch(self, key: str) -> None:
        """Let models that were brought in answer all requests from now on."""
        with self._changing:
            self._current = self._lineups[key]
            self._meters.models = self._current.models

    def keep(self, keys: Collection[str]) -> None:
        """Let all models go but some and those that answer, each when its last request has ended."""
        with self._changing:
            for key in self._lineups.keys() - set(keys):
                if self._lineups[key] is not self._current:
                    threading.Thread(target=self._let_go, args=(self._lineups.pop(key),), daemon=True, name="let-go").start()

    def _let_go(self, lineup: _Lineup) -> None:
        end = time.monotonic() + self._limits.request_limit_s
        time.sleep(LOOK_S)  # who has just been shown in is counted by then
        while lineup.num_requests and time.monotonic() < end:
            time.sleep(LOOK_S)
        lineup.models.close()

    async def _live(self, receive: Receive, send: Send) -> None:
        """Follow the server's start and end."""
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        for lineup in self._lineups.values():
            lineup.models.close()
        await send({"type": "lifespan.shutdown.complete"})
