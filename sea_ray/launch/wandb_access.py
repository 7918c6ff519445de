"""Whether there is a W&B key, and what W&B says to it, before anything starts. The key goes to W&B alone: into no file, log or
message of this project."""

from __future__ import annotations

import base64
import json
import netrc
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from sea_ray.config import TrackingConfig
from sea_ray.errors import ConfigError, nearest

Mode = Literal["online", "offline", "disabled"]
ANSWER_S = 3.0
"""W&B is waited for so long before a run starts; one that does not answer counts as not reached."""
_QUESTION = """query SeaRayAccess($entity: String!) {
  viewer { username entity teams { edges { node { name } } } }
  entity(name: $entity) { name }
}"""


@dataclass(frozen=True, kw_only=True)
class Access:
    """What W&B answered."""

    entity: str = ""
    """Whose project the runs go to; empty if W&B was not reached."""
    problem: str = ""
    """Why W&B was not reached."""


def base_url() -> str:
    """Return where W&B is: $WANDB_BASE_URL, or the public service."""
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")


def find_key() -> str | None:
    """Return the key of the environment or of ~/.netrc (where `wandb login` puts it); None if there is none."""
    if key := os.environ.get("WANDB_API_KEY"):
        return key
    try:
        found = netrc.netrc(os.environ.get("NETRC")).authenticators(urlsplit(base_url()).hostname or "")
    except (OSError, netrc.NetrcParseError):
        return None
    return found[2] if found else None


def resolve_mode(mode: Literal["auto", "online", "offline", "disabled"]) -> Mode:
    """Return the mode that is meant: "auto" is what WANDB_MODE says, else online with a key, else offline."""
    if mode != "auto":
        return mode
    if os.environ.get("WANDB_MODE") in ("online", "offline", "disabled"):
        return os.environ["WANDB_MODE"]  # type: ignore[return-value]
    return "online" if find_key() else "offline"


def check_access(tracking: TrackingConfig) -> Access:
    """Ask W&B whether it takes the key and knows the entity.

    Args:
        tracking: names the entity, or none.

    Returns:
        Whose project the runs go to, or why W&B was not reached: then a run is recorded here and may be sent later.

    Raises:
        ConfigError: there is no key, W&B refuses it, or there is no such entity.
    """
    key, host = find_key(), urlsplit(base_url()).hostname
    if key is None:
        raise ConfigError("tracking.wandb", f"there is no W&B key for {host}: set WANDB_API_KEY, or `wandb login`; "
                                            "tracking.wandb=offline records here and needs none")
    body = json.dumps({"query": _QUESTION, "variables": {"entity": tracking.entity or ""}}).encode()
    basic = base64.b64encode(f"api:{key}".encode()).decode()
    request = urllib.request.Request(f"{base_url()}/graphql", data=body, headers={
        "Content-Type": "application/json", "Authorization": f"Basic {basic}", "User-Agent": "sea-ray"})
    try:
        with urllib.request.build_opener().open(request, timeout=ANSWER_S) as reply:
            data = json.load(reply).get("data") or {}
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise _refused(host) from None
        return Access(problem=f"{host} answered {error.code}")
    except (OSError, ValueError, AttributeError) as error:  # no network, no answer in time, or an answer that is none of W&B's
        return Access(problem=f"{host}: {getattr(error, 'reason', None) or error or type(error).__name__}")
    viewer = data.get("viewer")
    if not viewer:
        raise _refused(host)
    if tracking.entity is not None and not data.get("entity"):
        teams = [edge["node"]["name"] for edge in (viewer.get("teams") or {}).get("edges", ())]
        raise ConfigError("tracking.entity", f"{host} knows no user or team {tracking.entity!r}"
                                             f"{nearest(tracking.entity, {viewer['username'], *teams})}")
    return Access(entity=tracking.entity or viewer.get("entity") or viewer["username"])


def _refused(host: str | None) -> ConfigError:
    return ConfigError("tracking.wandb", f"{host} refuses the W&B key: take a new one from its settings page into WANDB_API_KEY, "
                                         "or `wandb login --relogin`; tracking.wandb=offline records here and needs none")
