"""Who watches a run: the terminal, the mirror, and W&B; set up before anything starts and closed on every exit path."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from sea_ray.artifacts import Store, plain
from sea_ray.config import ExperimentConfig
from sea_ray.launch.console import ConsoleTracker
from sea_ray.launch.ending import public_config
from sea_ray.launch.live import LiveTracker, View
from sea_ray.launch.wandb_access import base_url, check_access, resolve_mode
from sea_ray.launch.wandb_tracker import WandbSettings, WandbTracker
from sea_ray.launch.wandb_upload import Uploader, recorded
from sea_ray.tracking import JsonlTracker, Once, Tracker, Trackers, read_mirror

MIRROR = "events.jsonl"


@contextmanager
def watched(config: ExperimentConfig, store: Store, console: Console, view: View | None = None) -> Iterator[Tracker]:
    """Yield an experiment's tracker; its runs are closed when the context ends, and W&B gets some seconds for what is left.

    Args:
        config: the experiment.
        store: holds the run's folder.
        console: where a person looks.
        view: shows the steps of trainings on a terminal; None: they are lines.

    Raises:
        ConfigError: W&B is to be online, and there is no key, it is refused, or there is no such entity.
    """
    mode, folder = resolve_mode(config.tracking.wandb), store.run_folder(config.name)
    uploader = None
    if mode == "online":
        access = check_access(config.tracking)
        console.print(f"W&B         {app_url()}/{access.entity}/{config.tracking.project}, group {config.name}" if access.entity
                      else f"W&B         not reached ({access.problem}): recorded here, and tried again while the run goes on")
        uploader = Uploader(folder, config.tracking, access.entity)
    mirror = folder / MIRROR
    store.fetch(mirror)
    before = read_mirror(mirror)
    parts: list[Tracker] = [LiveTracker(view, console) if view else ConsoleTracker(console),
                            JsonlTracker(mirror, publish=store.publish if store.is_shared else None)]
    if mode != "disabled":
        parts.append(WandbTracker(WandbSettings(
            project=config.tracking.project, group=config.name, identity=_identity(config, store), folder=folder,
            config=plain(public_config(config)), upload=config.tracking.upload, registry=config.tracking.registry,
            tell=lambda text: console.print(text, markup=False)), before))
    tracker, failed = Once(Trackers(parts), before), True
    try:
        yield tracker
        failed = False
    finally:
        try:
            tracker.finish(failed=failed)
        finally:
            left = uploader.stop() if uploader else recorded(folder) if mode == "offline" else []
            if left:
                console.print(f"W&B         {len(left)} runs are recorded and not sent: sea-ray sync {config.name} "
                              f"store.url={store.url}")


def app_url() -> str:
    """Return where a browser finds W&B."""
    return base_url().replace("://api.wandb.ai", "://wandb.ai")


def _identity(config: ExperimentConfig, store: Store) -> str:
    """Return what tells this experiment's W&B runs from those of the same experiment in another store; made once."""
    name = f"{config.name}/tracking-id"
    store.board.create(name, uuid.uuid4().hex.encode())
    found = store.board.read(name)
    assert found is not None
    return found.decode()
