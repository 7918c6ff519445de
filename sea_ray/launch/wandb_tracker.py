"""W&B behind the Tracker border: one run per stage or trial, grouped by experiment, offline without a key."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from sea_ray.artifacts import fingerprint
from sea_ray.tracking import Row

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
    """Makes one W&B run per child; it is no run itself, so what is logged to it directly is shown elsewhere only."""

    def __init__(self, *, project: str, group: str, folder: Path, mode: Mode, config: dict[str, Any]) -> None:
        """Make a tracker.

        Args:
            project: W&B project.
            group: name that joins the runs of one experiment.
            folder: where W&B keeps its files.
            mode: online, offline or disabled.
            config: plain values shown with each run.
        """
        self._settings: dict[str, Any] = {"project": project, "group": group, "folder": folder, "mode": mode,
                                          "config": config}

    def log(self, step: int | None = None, **figures: float) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Do nothing."""

    def child(self, name: str) -> WandbRun:
        """Return the run of a stage or trial, opened at its first figure."""
        return WandbRun(self._settings, name)

    def finish(self, *, failed: bool = False) -> None:
        """Do nothing: the children are the runs."""


class WandbRun:
    """One stage or trial; parts of it are figures with a prefix, each with a step of its own."""

    def __init__(self, settings: dict[str, Any], name: str) -> None:
        """Args: settings: of the tracker; name: of the run, such as "neurons/top_frac=0.05"."""
        self._settings, self.name = settings, name
        self._run: Any = None
        self._ended = False
        self._lock = threading.Lock()

    def _open(self) -> Any:
        settings = self._settings
        if self._run is None and not self._ended and settings["mode"] != "disabled":
            import wandb

            logging.getLogger("wandb").setLevel(logging.ERROR)
            sweep, _, _ = self.name.partition("/")
            settings["folder"].mkdir(parents=True, exist_ok=True)
            self._run = wandb.init(
                project=settings["project"], mode=settings["mode"], dir=str(settings["folder"]),
                group=f"{settings['group']}/{sweep}", name=self.name, job_type=sweep, config=settings["config"],
                id=fingerprint([settings["group"], self.name, settings["config"]]), resume="allow", reinit="create_new",
                settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True))
        return self._run

    def write(self, prefix: str, step: int | None, figures: dict[str, float]) -> None:
        """Log figures of a part; those without a step become the run's summary."""
        with self._lock:
            run = self._open()
            if run is None:
                return
            named = {prefix + name: value for name, value in figures.items()}
            if step is None:
                run.summary.update(named)
            else:
                run.define_metric(f"{prefix}*", step_metric=f"{prefix}step")
                run.log(named | {f"{prefix}step": step})

    def log(self, step: int | None = None, **figures: float) -> None:
        """Log figures of the whole run."""
        self.write("", step, figures)

    def note(self, text: str) -> None:
        """Keep the last line of prose in the summary."""
        with self._lock:
            run = self._open()
            if run is not None:
                run.summary["note"] = text

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Log a table."""
        with self._lock:
            run = self._open()
            if run is not None:
                import wandb

                run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def child(self, name: str) -> WandbPart:
        """Return a part of this run."""
        return WandbPart(self, f"{name}/")

    def finish(self, *, failed: bool = False) -> None:
        """Close the run; a second call does nothing."""
        with self._lock:
            self._ended = True
            run, self._run = self._run, None
            if run is not None:
                run.finish(exit_code=int(failed))


class WandbPart:
    """A part of a run, such as one language of a trial."""

    def __init__(self, run: WandbRun, prefix: str) -> None:
        """Args: run: whose part; prefix: in front of the figures' names."""
        self._run, self._prefix = run, prefix

    def log(self, step: int | None = None, **figures: float) -> None:
        """Log figures of the part."""
        self._run.write(self._prefix, step, figures)

    def note(self, text: str) -> None:
        """Pass on to the run."""
        self._run.note(f"{self._prefix} {text}")

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Log a table of the part."""
        self._run.table(f"{self._prefix}{name}", columns, rows)

    def child(self, name: str) -> WandbPart:
        """Return a part of this part."""
        return WandbPart(self._run, f"{self._prefix}{name}/")

    def finish(self, *, failed: bool = False) -> None:
        """Do nothing: the run ends as a whole."""
