"""`sea-ray serve`, `rollout` and `rollback`: a run's winner or any checkpoint up, another in its place, and back again."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console

from sea_ray.artifacts import Store, plain
from sea_ray.config import ClusterConfig
from sea_ray.decoding import decode
from sea_ray.errors import ConfigError
from sea_ray.launch.key_values import key_values
from sea_ray.launch.machine import cluster_address, use_token
from sea_ray.launch.offers import Offer, Rota, offer_of_checkpoint, offer_of_run
from sea_ray.launch.run import load_run
from sea_ray.objective import set_path
from sea_ray.serving.config import ServingConfig

DEFAULT_PORT = 8000
"""Of a declaration whose port isn't chosen: it is for a machine where nobody can look for a free one."""


def split_overrides(overrides: Sequence[str]) -> tuple[str, str, bool, dict[str, Any]]:
    """Return run name, store URL, whether a failed gate is ignored, and the other settings.

    Raises:
        ConfigError: neither a run nor a checkpoint is named, or a setting can't be read.
    """
    changes = key_values(overrides, "run=demo", as_text=("run", "store.url", "checkpoint"))
    name, url = changes.pop("run", ""), changes.pop("store.url", "runs")
    ignore_gate = changes.pop("safety.ignore_gate", False) is True
    if bool(name) == ("checkpoint" in changes):
        raise ConfigError("run", "name one: run=NAME, the folder of a finished run, or checkpoint=FOLDER_OR_HUB_ID")
    return name, url, ignore_gate, changes


def service_settings(recorded: Mapping[str, Any], changes: Mapping[str, Any]) -> tuple[ServingConfig, ClusterConfig]:
    """Return how and where something is served.

    Args:
        recorded: "serving" and "cluster" of a run's configuration, or nothing: defaults.
        changes: dotted path -> value.

    Raises:
        ConfigError: an unknown setting or a wrong value.
    """
    values = {"serving": plain(ServingConfig()) | recorded.get("serving", {}),
              "cluster": plain(ClusterConfig()) | recorded.get("cluster", {})}
    for path, value in changes.items():
        set_path(values, path, value)
    return decode(ServingConfig, values["serving"], "serving"), decode(ClusterConfig, values["cluster"], "cluster")


def serve(overrides: Sequence[str], console: Console, *, build: str = "") -> int:
    """Serve the winner of a run, or a checkpoint, until interrupted.

    Args:
        overrides: run=NAME with store.url and safety.ignore_gate=true, or checkpoint=FOLDER_OR_HUB_ID with packs=FOLDER; settings
            of serving.* and cluster.*.
        console: where a person looks.
        build: write the service into this file, for `serve deploy` and KubeRay, and start nothing.

    Raises:
        ConfigError: no such run or checkpoint, or an unknown setting.
        SeaRayError: the winner failed its safety gate, or answers wrongly.
    """
    name, url, ignore_gate, changes = split_overrides(overrides)
    reference, packs = str(changes.pop("checkpoint", "")), str(changes.pop("packs", ""))
    recorded = load_run(Store(url), name)["config"] if name else {}
    config, cluster = service_settings(recorded, changes)
    offer = offer_named(name, url, reference, packs, config, ignore_gate=ignore_gate)
    if cluster_address(cluster) != "local":
        use_token()

    from sea_ray.launch import serve as service

    if build:
        return _build(offer, config, Path(build), console)
    from sea_ray.launch.ray_platform import connect, gcs_address

    with connect(cluster), service.deployed(offer, config, os.environ.get("SEA_RAY_API_KEY")) as endpoint:
        what = f"the winner of {name!r}" if name else reference
        console.print(f"serving {what} at {endpoint.url}  (Ctrl-C stops it)")
        console.print(f"api key     {endpoint.api_key}  (set SEA_RAY_API_KEY to choose it)")
        console.print(f"page        {endpoint.url.removesuffix('/v1')}/#key={quote(endpoint.api_key)}  (in a browser)")
        console.print(f"models      {', '.join(offered.name for offered in offer.models)}")
        console.print(f'try         curl {endpoint.url}/chat/completions -H "Authorization: Bearer {endpoint.api_key}" '
                      f'-H "Content-Type: application/json" -d \'{{"model": "{endpoint.model}", "messages": '
                      '[{"role": "user", "content": "Where does Budi live?"}]}\'')
        console.print(f"exchange    sea-ray rollout run=ANOTHER cluster.address={gcs_address()}")
        try:
            signal.pause()
        except KeyboardInterrupt:
            console.print("stopping")
    return 0


def offer_named(name: str, url: str, reference: str, packs: str, config: ServingConfig, *, ignore_gate: bool) -> Offer:
    """Return what a run or a checkpoint offers.

    Raises:
        ConfigError: there is no such run or folder of packs, or packs are named for a run, which has its own.
        SeaRayError: the winner failed its safety gate.
    """
    if not name:
        return offer_of_checkpoint(reference, packs, config)
    if packs:
        raise ConfigError("packs", "a run has its own; serving.packs=false leaves them out")
    return offer_of_run(Store(url), name, config, ignore_gate=ignore_gate)


def _build(offer: Offer, config: ServingConfig, file: Path, console: Console) -> int:
    from dataclasses import replace

    import yaml

    from sea_ray.launch.serve import declaration

    declared = declaration(Rota(serving=offer), replace(config, port=config.port or DEFAULT_PORT))
    file.write_text(yaml.safe_dump(declared, sort_keys=False, allow_unicode=True), encoding="utf-8")
    console.print(f"wrote {file}: serve deploy {file}")
    if not config.key_digests:
        console.print("no key is in it: set SEA_RAY_API_KEY where Ray starts, or serving.key_digests=[SHA-256, ...]")
    return 0


def rollout(overrides: Sequence[str], console: Console) -> int:
    """Bring another run's winner or checkpoint into a service that runs, check its answers, and let it take over.

    Args:
        overrides: as `serve` takes; cluster.address says where the service is. Its serving.* stay.
        console: where a person looks.

    Raises:
        ConfigError: no such run or checkpoint, or a setting of a service that can't be changed while it runs.
        SeaRayError: the winner failed its safety gate, can't be loaded or answers wrongly; what answered goes on.
    """
    name, url, ignore_gate, changes = split_overrides(overrides)
    reference, packs = str(changes.pop("checkpoint", "")), str(changes.pop("packs", ""))
    cluster = _where(changes)

    from sea_ray.launch.ray_platform import connect
    from sea_ray.launch.rollout import replace_offer, running

    with connect(cluster):
        state = running()
        offer = offer_named(name, url, reference, packs, state.config, ignore_gate=ignore_gate)
        console.print("load and check it beside what answers ...")
        replace_offer(state, offer)
    console.print(f"{name or reference} answers now; `sea-ray rollback cluster.address={cluster.address}` takes it back")
    return 0


def rollback(overrides: Sequence[str], console: Console) -> int:
    """Let what answered before the last rollout answer again.

    Args:
        overrides: cluster.address, where the service is.
        console: where a person looks.

    Raises:
        ConfigError: the address is missing.
        SeaRayError: nothing stands by.
    """
    cluster = _where(key_values(overrides, "cluster.address=127.0.0.1:6379"))

    from sea_ray.launch.ray_platform import connect
    from sea_ray.launch.rollout import roll_back, running

    with connect(cluster):
        roll_back(running())
    console.print("what answered before answers again; a second `sea-ray rollback` takes that back")
    return 0


def _where(changes: Mapping[str, Any]) -> ClusterConfig:
    if other := [path for path in changes if not path.startswith("cluster.")]:
        raise ConfigError(other[0], "a service that runs keeps its settings; leave it out, or serve anew")
    _, cluster = service_settings({}, changes)
    if cluster_address(cluster) == "local":
        raise ConfigError("cluster.address", "where does the service run? write the address that `sea-ray serve` has told")
    use_token()
    return cluster
