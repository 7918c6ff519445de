"""`sea-ray sync`: send what a run recorded to W&B, once there is a network and a key."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from sea_ray.artifacts import Store, read_json
from sea_ray.config import TrackingConfig
from sea_ray.decoding import decode
from sea_ray.errors import ConfigError, MachineError
from sea_ray.launch.run import ASKED
from sea_ray.launch.wandb_access import check_access
from sea_ray.launch.wandb_upload import link, recorded, send, unsent
from sea_ray.launch.watched import app_url


def sync(arguments: Sequence[str], console: Console) -> int:
    """Send a run's files to W&B, link its winner to the registry, and return the exit code; what is there is not sent again.

    Args:
        arguments: a run's name, store.url=URL, and tracking.entity=NAME.
        console: where a person looks.

    Raises:
        ConfigError: no run of that name has recorded anything, there is no key, it is refused, or no such entity.
        MachineError: W&B is not reached, or did not take everything.
    """
    names = [text for text in arguments if "=" not in text]
    options = dict(text.split("=", 1) for text in arguments if "=" in text)
    if len(names) != 1 or set(options) - {"store.url", "tracking.entity"}:
        raise ConfigError("", "name one run: sea-ray sync RUN, with store.url=URL if it does not lie in runs, and "
                              "tracking.entity=NAME if it goes to another user or team than the run was told")
    store = Store(options.get("store.url", "runs"))
    folder = store.root / names[0]
    if not recorded(folder):
        known = sorted(file.parent.name for file in store.root.glob("*/wandb"))
        raise ConfigError("", f"run {names[0]!r} has recorded nothing for W&B in {store.url!r}; "
                              + (f"there: {', '.join(known)}" if known else "run an experiment first"))
    access = check_access(TrackingConfig(entity=options.get("tracking.entity", _entity(store, names[0]))))
    if not access.entity:
        raise MachineError(f"W&B is not reached ({access.problem}): what is recorded stays; try again when there is a network")
    files = unsent(folder)
    console.print(f"send        {len(files)} of {len(recorded(folder))} runs, the others are there: {app_url()}/{access.entity}")
    for file in files:
        send(file, access.entity, live=False)
    for target, problem in link(folder, access.entity):
        console.print(f"registry    {target}: {problem or 'the winner is linked'}", markup=False)
    if left := unsent(folder):
        raise MachineError(f"{len(left)} of {len(files)} runs are not sent as a whole, such as {left[0].parent.name}: see what "
                           "W&B said above; run it again, what is there is not sent again")
    return 0


def _entity(store: Store, name: str) -> str | None:
    """Return the entity that the run was told, as far as what it was asked is there."""
    file = store.root / name / ASKED
    store.fetch(file)
    return decode(TrackingConfig, read_json(file)["config"]["tracking"]).entity if file.exists() else None
