"""W&B behind the Tracker border: one run per stage or trial, grouped by experiment, offline without a key."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from pathlib import Path
from typing import Any, Literal

from sea_ray.artifacts import fingerprint

Mode = Literal["online", "offline", "disabled"]


def resolve_mode(mode: Literal["auto", "online", "offline", "disabled"]) -> Mode:
    """Return the mode that is meant: "auto" is online with a key in the environment or ~/.netrc, else offline."""
    if mode != "auto":
        return mode
    if os.environ.get("WANDB_MODE") in ("online", "offline", "disabled"):
        return os.environ["WANDB_MODE"]  # type: ignore[return-value]
    netrc = Path.home() / ".netrc"
    with contextlib.suppress(OSError):
        if "api.wandb.ai" in netrc.read_text(encoding="utf-8"):
            return "online"
    return "online" if os.environ.get("WANDB_API_KEY") else "offline"


class WandbTracker:
    """The root makes no run of its own; each child is one W&B run, started at its first figure."""

    def __init__(self, *, project: str, group: str, folder: Path, mode: Mode, config: dict[str, Any],
                 name: str = "") -> None:
        """Make a tracker.

        Args:
            project: W&B project.
            group: name that joins the runs of one experiment.
            folder: where W&B keeps its files.
            mode: online, offline or disabled.
            config: plain values shown with each run.
            name: of this run; "" for the root.
        """
        self._settings: dict[str, Any] = {"project": project, "group": group, "folder": folder, "mode": mode,
                                          "config": config}
        self.name = name
        self._run: Any = None
        self._ended = False
        self._lock = threading.Lock()

    def _open(self) -> Any:
        if self._run is None and self.name and not self._ended and self._settings["mode"] != "disabled":
            import wandb

            logging.getLogger("wandb").setLevel(logging.ERROR)
            config = self._settings["config"]
            sweep, _, _ = self.name.partition("/")
            self._settings["folder"].mkdir(parents=True, exist_ok=True)
            self._run = wandb.init(
                project=self._settings["project"], mode=self._settings["mode"], dir=str(self._settings["folder"]),
                group=f"{self._settings['group']}/{sweep}", name=self.name, job_type=sweep, config=config,
                id=fingerprint([self._settings["group"], self.name, config]), resume="allow", reinit="create_new",
                settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True))
        return self._run

    def log(self, step: int | None = None, **figures: float) -> None:
        """Log figures; those without a step become the run's summary."""
        with self._lock:
            run = self._open()
            if run is None:
                return
            if step is None:
                run.summary.update(figures)
            else:
                run.log(figures, step=step)

    def note(self, text: str) -> None:
        """Keep the last line of prose in the summary."""
        with self._lock:
            run = self._open()
            if run is not None:
                run.summary["note"] = text

    def child(self, name: str) -> WandbTracker:
        """Return a tracker that will be a run of its own."""
        return WandbTracker(**self._settings, name=f"{self.name}/{name}" if self.name else name)

    def finish(self, *, failed: bool = False) -> None:
        """Close the run; a second call does nothing."""
        with self._lock:
            self._ended = True
            run, self._run = self._run, None
            if run is not None:
                run.finish(exit_code=int(failed))
