"""Ray Serve around the serving room: one replica holds the checkpoint, its engine and the OpenAI-compatible application."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import secrets
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray import serve

from sea_ray.artifacts import Artifact, Store
from sea_ray.errors import MachineError
from sea_ray.execution import Endpoint
from sea_ray.serving.config import ServingConfig

APPLICATION = "sea_ray"
SPARE = 256
"""Requests beyond those that a replica can work on: it refuses them itself, with 429."""


@serve.deployment
@serve.ingress()
class Replica:
    """Loads a checkpoint once and answers over HTTP."""

    def __init__(self, store: str, checkpoint: Artifact, config: ServingConfig, key_digests: Sequence[str], threads: int) -> None:
        """Args: store: URL of the store that holds the checkpoint, which this node may have to fetch; config: limits;
        key_digests: SHA-256 of the accepted keys; threads: of torch.
        """
        import torch

        torch.set_num_threads(threads)
        self._arguments = (Store(store).open(checkpoint), config, tuple(key_digests))

    def __serve_build_asgi_app__(self) -> Any:
        from sea_ray.safety.refusals import RefusalDetector
        from sea_ray.serving.app import application

        return application(*self._arguments, is_refusal=lambda text: RefusalDetector().is_refusal(text))


def free_port(host: str) -> int:
    """Return a port of `host` on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def check_port(host: str, port: int) -> None:
    """Refuse a port that something listens on.

    Raises:
        MachineError: with the setting to change.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise MachineError(f"serving.port={port} on {host} is taken ({error.strerror}); choose another or 0 for any "
                               "free one") from error


def bound(store: Store, checkpoint: Artifact, config: ServingConfig, key: str) -> Any:
    """Return the application that Serve runs: replicas of a checkpoint that accept a key."""
    replica = Replica.options(  # type: ignore[attr-defined]
        num_replicas=config.num_replicas, max_ongoing_requests=config.max_batch + config.max_waiting + SPARE,
        ray_actor_options={"num_cpus": config.cpus_per_replica, "num_gpus": config.gpus_per_replica})
    return replica.bind(store.url, checkpoint, config, [hashlib.sha256(key.encode()).hexdigest()], config.threads)


@contextlib.contextmanager
def deployed(store: Store, checkpoint: Artifact, config: ServingConfig, api_key: str | None = None) -> Iterator[Endpoint]:
    """Serve a checkpoint while the context is open; needs a connected Ray.

    Args:
        store: holds the checkpoint.
        checkpoint: is served.
        config: host, port, model name, limits.
        api_key: accepted key; None makes a new one.

    Yields:
        Where it answers and the key it asks for, once it answers.
    """
    key = api_key or f"sea-{secrets.token_urlsafe(24)}"
    port = config.port or free_port(config.host)
    check_port(config.host, port)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        serve.start(http_options={"host": config.host, "port": port})
        serve.run(bound(store, checkpoint, config, key), name=APPLICATION, route_prefix="/")
        yield Endpoint(url=f"http://{config.host}:{port}/v1", api_key=key, model=config.model_name)
    finally:
        if ray.is_initialized():
            serve.shutdown()
