"""Sends the files that runs were recorded into to W&B: while they grow, from a process of its own, or afterwards.

The process beside a run ends when its input closes, so it ends with the run, however that ends. Nothing waits for it but the
run's end, for a few seconds; whatever it did not send stays in the files.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from sea_ray.config import TrackingConfig
from sea_ray.errors import ConfigError
from sea_ray.launch.wandb_access import check_access
from sea_ray.launch.wandb_tracker import LINKS

LOG = "upload.log"
"""Beside W&B's files: what was said while they were sent."""
LOOK_S = 1.0
"""Seconds between two looks for new runs."""
AGAIN_S = 30.0
"""A run that could not be sent, and a W&B that did not answer, are tried again after so long."""
LAST_S = 7.0
"""What is not sent so long after the run's end is left for `sea-ray sync`."""


def recorded(folder: Path) -> list[Path]:
    """Return the newest file of each recorded run: it holds the points of the run's earlier files, too.

    Args:
        folder: of the run (`wandb` lies in it).
    """
    newest: dict[str, Path] = {}
    for file in sorted((folder / "wandb").glob("offline-run-*/run-*.wandb")):
        newest[file.name] = file
    return sorted(newest.values())


def unsent(folder: Path) -> list[Path]:
    """Return the newest files of the runs that are not at W&B as a whole."""
    return [file for file in recorded(folder) if not file.with_suffix(".wandb.synced").exists()]


def send(file: Path, entity: str, *, live: bool) -> None:
    """Send one run's file to W&B; whether all of it is there is told by `unsent`.

    Args:
        file: of the run.
        entity: user or team that it goes to.
        live: the file may still grow: go on until the run's end is read.
    """
    os.environ.setdefault("WANDB_DIR", str(file.parents[2]))  # its logs, else in the working directory
    from wandb.cli import beta_sync  # what `wandb beta sync` calls

    beta_sync.sync([file], live=live, entity=entity, project="", run_id="", job_type="", replace_tags="", dry_run=False,
                   skip_confirmation=True, skip_synced=True, skip_online=True, verbose=False, parallelism=1)


def link(folder: Path, entity: str) -> Iterator[tuple[str, str]]:
    """Link winners that are at W&B to the registry; yield what each was linked to, and what went wrong if it was not.

    Args:
        folder: of the run.
        entity: whose project holds the artifacts.
    """
    unsent_runs = {file.name for file in unsent(folder)}
    for file in sorted((folder / "wandb" / LINKS).glob("*.json")):
        wanted = json.loads(file.read_text(encoding="utf-8"))
        if f"run-{wanted['run']}.wandb" in unsent_runs:
            continue
        try:
            import wandb

            wandb.Api(timeout=10).artifact(f"{entity}/{wanted['artifact']}").link(wanted["target"], aliases=[wanted["alias"]])
        except Exception as error:  # an account without a registry is no fault of the run
            yield wanted["target"], f"{type(error).__name__}: {error}"
        else:
            file.unlink()
            yield wanted["target"], ""


class Uploader:
    """The process beside a run that sends its files; it is started when W&B answers."""

    def __init__(self, folder: Path, tracking: TrackingConfig, entity: str) -> None:
        """Begin.

        Args:
            folder: of the run.
            tracking: names the entity, or none.
            entity: user or team that the runs go to; empty if W&B did not answer: it is asked again now and then.
        """
        self.folder, self._tracking = folder, tracking
        self._process: subprocess.Popen[bytes] | None = None
        self._lock, self._ended = threading.Lock(), threading.Event()
        (folder / "wandb").mkdir(parents=True, exist_ok=True)
        if entity:
            self._start(entity)
        else:
            threading.Thread(target=self._ask, daemon=True, name="W&B").start()

    def _start(self, entity: str) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in ("WANDB_SERVICE", "WANDB_MODE")}
        with self._lock, (self.folder / "wandb" / LOG).open("a", encoding="utf-8") as log:
            if not self._ended.is_set():
                command = [sys.executable, "-m", __name__, str(self.folder), entity]
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
                                                 env=environment)

    def _ask(self) -> None:
        while not self._ended.wait(AGAIN_S):
            try:
                access = check_access(self._tracking)
            except ConfigError as error:
                with (self.folder / "wandb" / LOG).open("a", encoding="utf-8") as log:
                    log.write(f"{error}\n")
                return
            if access.entity:
                self._start(access.entity)
                return

    def stop(self) -> list[Path]:
        """Let it send what is left for some seconds, end it, and return the files that are not sent."""
        self._ended.set()
        with self._lock:
            process = self._process
        if process is not None:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(LAST_S + 2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return unsent(self.folder)


def _tried(file: Path, entity: str, live: bool) -> None:
    try:
        send(file, entity, live=live)
    except BaseException as error:  # told; the file is tried again
        print(f"{file.name}: {type(error).__name__}: {error}", flush=True)


def main(folder: Path, entity: str) -> None:
    """Send the files of a run while they grow, until this process' input closes and for some seconds more."""
    ended = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=watch, daemon=True, name="end").start()
    started = time.time()
    sending: dict[Path, tuple[threading.Thread, float]] = {}
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        for file in unsent(folder):
            thread, began = sending.get(file, (None, 0.0))
            if thread is None or (not thread.is_alive() and time.monotonic() - began > AGAIN_S):
                grows = file.stat().st_mtime >= started  # what a killed run left has no end to wait for
                thread = threading.Thread(target=_tried, args=(file, entity, grows), daemon=True)
                sending[file] = thread, time.monotonic()
                thread.start()
        if deadline is not None and not unsent(folder):
            break
        if ended.wait(LOOK_S):
            deadline = deadline or time.monotonic() + LAST_S
            time.sleep(0.2)
    for target, problem in link(folder, entity) if not unsent(folder) else ():
        print(f"registry {target}: {problem or 'linked'}", flush=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2])
    finally:
        for child in psutil.Process().children():
            child.kill()  # W&B's service would wait for its network
        os._exit(0)
