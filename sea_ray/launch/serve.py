"""Ray Serve around the serving room: a service as the declaration that `serve deploy` takes, its replicas, and its rollouts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import ray
from ray import serve

from sea_ray.artifacts import fingerprint, plain
from sea_ray.decoding import decode
from sea_ray.errors import ConfigError, DataError, MachineError, SeaRayError
from sea_ray.execution import Endpoint
from sea_ray.launch.offers import Offer, Rota, folders, held_out, pinned
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.guard import key_digest

if TYPE_CHECKING:
    from sea_ray.serving.models import Models

APPLICATION = "sea_ray"
DEPLOYMENT = "Replica"
SPARE = 256
"""Requests beyond those that a replica can work on: it refuses them itself, with 429."""
QUEUED = 4
"""Serve's own queue takes so many times what a replica takes: room for a restart, an end to what fills the proxy's memory."""
PATIENCE_S = 30.0
"""What a proxy waits longer than the longest request, when there is no replica."""
DRAIN_LOOK_S = 0.2
"""How often a replica that is to end looks whether its last request has ended."""
LOOK_S = 0.1
"""How often the state of a service is looked at."""


@serve.deployment(name=DEPLOYMENT, max_constructor_retry_count=1)
@serve.ingress()
class Replica:
    """Holds models and answers over HTTP; its user_config is a Rota."""

    def __init__(self, config: ServingConfig) -> None:
        """Args: config: limits and accepted keys."""
        import torch

        from sea_ray.safety.refusals import RefusalDetector
        from sea_ray.serving.door import Door

        if config.threads:
            torch.set_num_threads(config.threads)
        self._config = config
        self._door = Door(config.key_digests, config, is_refusal=lambda text: RefusalDetector().is_refusal(text))
        self._rota: Rota | None = None

    def __serve_build_asgi_app__(self) -> Any:
        return self._door

    async def reconfigure(self, values: dict[str, Any]) -> None:
        """Answer by what is asked for from now on.

        What answers already goes on if the new can't take its place: an error here would end this replica.

        Raises:
            SeaRayError: nothing answers yet, and what is asked for can't; the replica is not ready.
        """
        rota = decode(Rota, values)
        try:
            await asyncio.to_thread(self._load, rota.serving)
        except SeaRayError:
            if self._rota is None:
                raise
            logging.getLogger("ray.serve").exception("the rota is not taken over")
            return
        self._door.switch(_key(rota.serving))
        self._rota = rota
        if rota.standby is not None:
            try:
                await asyncio.to_thread(self._load, rota.standby)
            except SeaRayError:
                logging.getLogger("ray.serve").exception("nothing stands by")
        self._forget()

    async def bring(self, values: dict[str, Any]) -> str | None:
        """Load an offer beside what answers and compare it with its models; return why it can't be served, if so."""
        try:
            await asyncio.to_thread(self._load, decode(Offer, values))
        except SeaRayError as error:
            self._forget()
            return str(error)
        return None

    async def let_go(self) -> None:
        """Forget what was brought and neither answers nor stands by."""
        self._forget()

    async def state(self) -> dict[str, Any]:
        """Return what answers and what stands by, and the settings."""
        return {"rota": plain(self._rota), "serving": plain(self._config), "pid": os.getpid()}

    def check_health(self) -> None:
        """Raise MachineError if there is nothing to answer with."""
        if self._rota is None:
            raise MachineError("the deployment has no user_config: write serving: {store: URL, run: NAME} there")

    def _load(self, offer: Offer) -> None:
        self._door.bring(_key(offer), lambda: load_models(offer, self._config))

    def _forget(self) -> None:
        kept = [] if self._rota is None else [self._rota.serving, self._rota.standby]
        self._door.keep([_key(offer) for offer in kept if offer is not None])


def _key(offer: Offer) -> str:
    return fingerprint(offer)


def load_models(offer: Offer, config: ServingConfig) -> Models:
    """Return the models of an offer; what they need is fetched first.

    Raises:
        SeaRayError: they can't be had, or a run's winner failed its gate.
    """
    from sea_ray.serving.app import load_engine
    from sea_ray.serving.models import Models, Served

    offer = pinned(offer, config)
    served: list[Served] = []
    try:
        for offered in offer.models:
            folder, packs = folders(offered, offer.store)
            served.append(Served(name=offered.name, engine=load_engine(folder, config), packs=packs, grafts=offered.grafts,
                                 texts=partial(held_out, offered, offer.store)))
    except BaseException:
        Models(served).close()
        raise
    return Models(served)


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


def declaration(rota: Rota, config: ServingConfig) -> dict[str, Any]:
    """Return a service as `serve deploy` and KubeRay's serveConfigV2 take it; there is no secret in it.

    Changing what stands under `deployments`, user_config or the number of replicas, restarts nothing. Changing `args` does.

    Args:
        rota: what answers.
        config: settings; who is not named in its key_digests is let in by SEA_RAY_API_KEY alone.
    """
    takes = (1 + config.with_base) * (config.max_batch + config.max_waiting) + SPARE
    scale: dict[str, Any] = {"num_replicas": config.num_replicas}
    if config.max_replicas > config.num_replicas:
        scale = {"autoscaling_config": {"min_replicas": config.num_replicas, "max_replicas": config.max_replicas,
                                        "target_ongoing_requests": config.max_batch}}
    deployment = {"name": DEPLOYMENT, **scale, "max_ongoing_requests": takes, "max_queued_requests": QUEUED * takes,
                  "graceful_shutdown_wait_loop_s": DRAIN_LOOK_S, "graceful_shutdown_timeout_s": config.drain_s,
                  "ray_actor_options": {"num_cpus": config.cpus_per_replica, "num_gpus": config.gpus_per_replica},
                  "user_config": said(rota)}
    return {"proxy_location": "EveryNode",
            "http_options": {"host": config.host, "port": config.port, "request_timeout_s": config.request_limit_s + PATIENCE_S},
            "applications": [{"name": APPLICATION, "route_prefix": "/", "import_path": "sea_ray.launch.serve:application",
                              "args": {"serving": said(config)}, "deployments": [deployment]}]}


def said(value: Any) -> Any:
    """Return a value as plain containers, of dataclasses only what isn't the default."""
    if not is_dataclass(value):
        return [said(each) for each in value] if isinstance(value, tuple) else value
    return {each.name: said(own) for each in fields(value) if (own := getattr(value, each.name)) != each.default}


def application(arguments: Mapping[str, Any]) -> Any:
    """Return the application of a declaration.

    Args:
        arguments: {"serving": settings that are not the defaults}. SEA_RAY_API_KEY holds one more key.

    Raises:
        ConfigError: an unknown setting, or there is no key.
    """
    config = decode(ServingConfig, arguments.get("serving", {}), "serving")
    if key := os.environ.get("SEA_RAY_API_KEY"):
        config = replace(config, key_digests=tuple(dict.fromkeys((*config.key_digests, key_digest(key)))))
    if not config.key_digests:
        raise ConfigError("SEA_RAY_API_KEY", "not set, and a service without a key answers everybody: put a secret there, or the "
                                             "digests of keys in serving.key_digests")
    return Replica.bind(config)  # type: ignore[attr-defined]


@contextlib.contextmanager
def deployed(offer: Offer, config: ServingConfig, api_key: str | None = None) -> Iterator[Endpoint]:
    """Serve an offer while the context is open; needs a connected Ray.

    Args:
        offer: is served.
        config: host, port, limits.
        api_key: accepted key; None makes a new one.

    Yields:
        Where it answers and a key that it accepts, once what it answers was found right.

    Raises:
        MachineError: this Ray serves something already.
        SeaRayError: it can't be loaded, or answers wrongly.
    """
    if there := serve.status().applications:  # a Ray has one Serve: what follows would take the other's place
        raise MachineError(f"this cluster serves {', '.join(there)} already: end that service, or take another cluster")
    key = api_key or f"sea-{secrets.token_urlsafe(24)}"
    port = config.port or free_port(config.host)
    check_port(config.host, port)
    config = replace(config, port=port, key_digests=(*config.key_digests, key_digest(key)))
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        declared = declaration(Rota(serving=offer), config)
        serve.start(http_options=declared["http_options"])
        deploy(declared)
        url = f"http://{config.host}:{port}"
        _wait_for_proxy(url)
        yield Endpoint(url=f"{url}/v1", api_key=key, model=config.model_name)
    finally:
        if ray.is_initialized():
            _take_down(config.drain_s)


def _take_down(drain_s: float) -> None:
    """End the replicas when they have written their answers, and only then the proxy through which these go."""
    serve.delete(APPLICATION, _blocking=False)
    end = time.monotonic() + drain_s + PATIENCE_S
    while APPLICATION in serve.status().applications and time.monotonic() < end:
        time.sleep(LOOK_S)
    serve.shutdown()


def deploy(declared: Mapping[str, Any]) -> None:
    """Hand a declaration to the connected Serve and wait until its replicas are ready.

    Raises:
        SeaRayError: they are not, as a replica has said.
    """
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(declared))
    while (status := serve.status().applications[APPLICATION]).status != "RUNNING":
        if status.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            told = [status.message, *(each.message for each in status.deployments.values())]
            raise refusal("\n".join(told))
        time.sleep(LOOK_S)


def refusal(told: str) -> SeaRayError:
    """Return what a replica refused, from the traceback in which Serve tells it."""
    kinds = {kind.__name__: kind for kind in (SeaRayError, DataError, MachineError)}
    found = re.findall(r"^sea_ray\.errors\.(\w+): (.*)$", told, re.MULTILINE)
    if not found:
        lines = [line for line in told.splitlines() if line.strip()]
        return MachineError(f"the service does not start: {lines[-1] if lines else 'Serve does not say why'}")
    kind, message = found[-1]
    return ConfigError("", message) if kind == "ConfigError" else kinds.get(kind, SeaRayError)(message)


def _wait_for_proxy(url: str) -> None:
    for _ in range(int(PATIENCE_S / LOOK_S)):
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health", timeout=PATIENCE_S).status_code == 200:
                return
        time.sleep(LOOK_S)
    raise MachineError(f"no proxy of Ray Serve answers at {url} within {PATIENCE_S:g} s: look into the logs of Ray's session")
