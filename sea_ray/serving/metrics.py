"""What a service counts, in Prometheus' format."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sea_ray.serving.exchange import Answer, Request
from sea_ray.serving.models import Models

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
"""Upper bounds of the classes of durations."""


class _Engines(Collector):
    """What the engines are doing at the moment of looking."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def collect(self) -> Iterator[Metric]:
        active = GaugeMetricFamily("sea_ray_answers_in_progress", "Answers that an engine is writing.", labels=["model"])
        waiting = GaugeMetricFamily("sea_ray_prompts_waiting", "Prompts that wait for their turn.", labels=["model"])
        for served in self._meters.models.served if self._meters.models else ():
            active.add_metric([served.name], served.engine.num_active)
            waiting.add_metric([served.name], served.engine.num_waiting)
        yield from (active, waiting)


class Meters:
    """The counters of a service."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, models: Models | None = None) -> None:
        """Args: models: whose engines are looked at; others may take their place."""
        self.models = models
        self._registry = CollectorRegistry()
        self._requests = Counter("sea_ray_requests", "Requests answered, refusals included.", ["route", "status"],
                                 registry=self._registry)
        self._seconds = Histogram("sea_ray_request_seconds", "From a request's arrival to the end of its response.", ["route"],
                                  buckets=SECONDS, registry=self._registry)
        self._prompt = Counter("sea_ray_prompt_tokens", "Tokens of prompts.", registry=self._registry)
        self._written = Counter("sea_ray_completion_tokens", "Tokens of answers.", registry=self._registry)
        self._registry.register(_Engines(self))

    def answered(self, requests: Sequence[Request], answers: Sequence[Answer]) -> None:
        """Count tokens."""
        self._prompt.inc(sum(len(request.prompt_ids) for request in requests))
        self._written.inc(sum(len(answer.token_ids) for answer in answers))

    def ended(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def page(self) -> bytes:
        """Return all figures."""
        return generate_latest(self._registry)


class Metered:
    """Counts what an application answers; routes that it hasn't are one, lest a visitor fill the memory with names."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        """Args: app: is counted; meters: count."""
        self._app, self._meters = app, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._meters.ended(route, status, time.perf_counter() - began)
