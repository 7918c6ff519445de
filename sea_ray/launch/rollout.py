"""Another checkpoint in a service that runs: brought in beside the old one, compared with its model, switched to.

What is wanted stands in the deployment's user_config, so that a replica that starts later, or again, has it too. Serve hands a
changed user_config to its replicas in place; nothing restarts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.serve.exceptions import RayServeException

from sea_ray.artifacts import plain
from sea_ray.decoding import decode
from sea_ray.errors import MachineError, SeaRayError
from sea_ray.launch.offers import Offer, Rota
from sea_ray.launch.serve import APPLICATION, DEPLOYMENT, LOOK_S, deploy, said
from sea_ray.serving.config import ServingConfig

LOAD_LIMIT_S = 1800.0
"""Time for the replicas to fetch, load and check a checkpoint."""
SWITCH_LIMIT_S = 120.0
"""Time for all replicas to follow; what they switch to is loaded."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A service that answers."""

    rota: Rota
    """What answers and what stands by."""
    config: ServingConfig
    """Its settings."""


def running() -> Running:
    """Return the service of the connected Ray.

    Raises:
        MachineError: there is none.
    """
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        state = _ask("state")[0]
    except RayServeException as error:
        raise MachineError(f"no service runs here ({error}): is cluster.address the one that `sea-ray serve` told?") from error
    return Running(rota=decode(Rota, state["rota"]), config=decode(ServingConfig, state["serving"]))


def replace_offer(service: Running, offer: Offer) -> None:
    """Let an offer take the place of what answers, which then stands by.

    Raises:
        SeaRayError: it answers already; a replica can't load it, or answers wrongly with it. All go on as before.
    """
    if offer == service.rota.serving:
        raise SeaRayError("nothing was changed: this is what answers already")
    try:
        reasons = [reason for reason in _ask("bring", plain(offer), limit_s=LOAD_LIMIT_S) if reason]
        if reasons:
            raise MachineError(f"nothing was changed: {reasons[0]}")
    except BaseException:
        _ask("let_go")
        raise
    try:
        _follow(Rota(serving=offer, standby=service.rota.serving))
    except MachineError:
        _follow(service.rota)
        raise


def roll_back(service: Running) -> None:
    """Let what stands by answer.

    Raises:
        SeaRayError: nothing stands by.
    """
    if service.rota.standby is None:
        raise SeaRayError("nothing stands by: there was no rollout, or it was taken back")
    _follow(Rota(serving=service.rota.standby, standby=service.rota.serving))


def _follow(rota: Rota) -> None:
    """Write a rota into the deployment and wait until all replicas follow it.

    Raises:
        MachineError: one does not.
    """
    from ray.serve.context import _get_global_client

    details = _get_global_client().get_serve_details()["applications"].values()
    applications = [dict(each["deployed_app_config"]) for each in details if each["deployed_app_config"]]
    for own in applications:
        if own["name"] == APPLICATION:
            own["deployments"] = [dict(each) | {"user_config": said(rota)} if each["name"] == DEPLOYMENT else each
                                  for each in own["deployments"]]
    deploy({"applications": applications})
    end = time.monotonic() + SWITCH_LIMIT_S
    while any(state["rota"] != plain(rota) for state in _ask("state")):
        if time.monotonic() > end:
            raise MachineError(f"a replica did not take over what was asked for within {SWITCH_LIMIT_S:g} s: its log says why")
        time.sleep(LOOK_S)


def _ask(method: str, *arguments: Mapping[str, Any], limit_s: float = SWITCH_LIMIT_S) -> list[Any]:
    """Return what each replica answers."""
    return serve.get_app_handle(APPLICATION).broadcast(method, *arguments).results(timeout_s=limit_s)
