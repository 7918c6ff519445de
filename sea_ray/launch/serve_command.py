"""`sea-ray serve`: bring the winner of a finished run up again."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from rich.console import Console

from sea_ray.artifacts import RECORD, Artifact, Store
from sea_ray.config import ExperimentConfig
from sea_ray.decoding import decode
from sea_ray.errors import ConfigError, SeaRayError
from sea_ray.launch.run import load_run
from sea_ray.objective import set_path


def split_overrides(overrides: Sequence[str]) -> tuple[str, str, bool, dict[str, object]]:
    """Return run name, store URL, whether a failed gate is ignored, and the settings to change.

    Raises:
        ConfigError: no run is named, or a setting can't be read.
    """
    import yaml

    name, url, ignore_gate, changes = "", "runs", False, dict[str, object]()
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError("", f"{text!r} is not key=value; write for example run=demo")
        if key == "run":
            name = value
        elif key == "store.url":
            url = value
        elif key == "safety.ignore_gate":
            ignore_gate = yaml.safe_load(value) is True
        else:
            changes[key] = yaml.safe_load(value)
    if not name:
        raise ConfigError("run", "none named; write run=NAME, the folder of a finished run")
    return name, url, ignore_gate, changes


def serve(overrides: Sequence[str], console: Console) -> int:
    """Serve the winner of a run until interrupted.

    Args:
        overrides: run=NAME, and store.url, serving.*, cluster.* or safety.ignore_gate=true.
        console: where a person looks.

    Raises:
        ConfigError: no such run, or an unknown setting.
        SeaRayError: the winner failed its safety gate.
    """
    name, url, ignore_gate, changes = split_overrides(overrides)
    store = Store(url)
    winner, config = winner_of(store, name, changes, ignore_gate=ignore_gate)

    from sea_ray.launch.ray_platform import connect
    from sea_ray.launch.serve import deployed

    with connect(config.cluster), deployed(store, winner, config.serving, os.environ.get("SEA_RAY_API_KEY")) as endpoint:
        console.print(f"serving the winner of {name!r} at {endpoint.url}  (Ctrl-C stops it)")
        console.print(f"api key     {endpoint.api_key}  (set SEA_RAY_API_KEY to choose it)")
        console.print(f'try         curl {endpoint.url}/chat/completions -H "Authorization: Bearer {endpoint.api_key}" '
                      f'-H "Content-Type: application/json" -d \'{{"model": "{endpoint.model}", "messages": '
                      '[{"role": "user", "content": "Where does Budi live?"}]}\'')
        try:
            signal.pause()
        except KeyboardInterrupt:
            console.print("stopping")
    assert not ray.is_initialized()
    return 0


def winner_of(store: Store, name: str, changes: Mapping[str, object], *, ignore_gate: bool) -> tuple[Artifact, ExperimentConfig]:
    """Return the winner of a finished run, and its experiment with the settings that are changed.

    Raises:
        ConfigError: no such run, or an unknown setting.
        SeaRayError: the winner failed its safety gate.
    """
    record = load_run(store, name)
    values = record["config"]
    for path, value in changes.items():
        set_path(values, path, value)
    config = decode(ExperimentConfig, values)
    roles = record["experiment"]
    check_gate_record(stored(store, roles["gate"]).facts, name, ignore_gate)
    return stored(store, roles["winner"]), config


def application(arguments: Mapping[str, object]) -> Any:
    """Return the application that serves a run's winner, for `serve deploy` and KubeRay's serveConfigV2.

    Args:
        arguments: run and store.url, and settings such as serving.gpus_per_replica. The key comes from SEA_RAY_API_KEY.

    Raises:
        ConfigError: there is no key, no such run, or an unknown setting.
        SeaRayError: the winner failed its safety gate.
    """
    from sea_ray.launch.serve import bound

    key = os.environ.get("SEA_RAY_API_KEY")
    if not key:
        raise ConfigError("SEA_RAY_API_KEY", "not set, and a service without a key answers everybody: put a secret there")
    changes = dict(arguments)
    store, name = Store(str(changes.pop("store.url"))), str(changes.pop("run"))
    winner, config = winner_of(store, name, changes, ignore_gate=changes.pop("safety.ignore_gate", False) is True)
    return bound(store, winner, config.serving, key)


def check_gate_record(facts: dict, name: str, ignore: bool) -> None:
    """Refuse a checkpoint that failed its safety gate.

    Raises:
        SeaRayError: it failed and nobody said to ignore that.
    """
    if not facts["passed"] and not ignore:
        raise SeaRayError(f"the winner of {name!r} failed its safety gate: {'; '.join(facts['reasons'])}. "
                          "Serve it all the same with safety.ignore_gate=true")


def stored(store: Store, place: dict[str, str]) -> Artifact:
    """Return an artifact that a run's record names.

    Raises:
        SeaRayError: it is no longer in the store.
    """
    artifact = Artifact(kind=place["kind"], name=place["kind"], fingerprint=place["fingerprint"],
                        folder=store.root / "artifacts" / place["kind"] / place["fingerprint"])
    if not (store.open(artifact) / RECORD).exists():
        raise SeaRayError(f"{place['kind']} {place['fingerprint']} is no longer in the store; run the experiment again")
    return artifact
