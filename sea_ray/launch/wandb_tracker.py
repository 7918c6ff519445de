"""W&B behind the Tracker border: one run per stage or trial, grouped by experiment and sweep.

A run is always recorded into local files, as W&B does offline, so that no training ever waits for a network. Online another
process (`wandb_upload`) sends the files while they grow; what it could not send, `sea-ray sync` sends later. A run that an
earlier process began is recorded anew from the mirror's lines and goes on from there: its newest files hold every point, and
sending them any number of times, in whole or in part, leaves the same points at W&B.
"""

from __future__ import annotations

import copy
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sea_ray.artifacts import fingerprint, plain, write_json
from sea_ray.objective import set_path
from sea_ray.tracking import About, Line, Made, Row, figures_of

LINKS = "links"
"""Folder beside W&B's files: one file for each artifact that is to be linked to the registry once it is there."""
FLUSH_S = 2.0
"""What is logged reaches the files after this time, and with them whoever sends or reads them."""


@dataclass(frozen=True, kw_only=True)
class WandbSettings:
    """What all runs of an experiment share."""

    project: str
    """W&B project."""
    group: str
    """Name of the experiment: joins its runs."""
    identity: str
    """Of the experiment's folder: two people who run the same experiment have runs of their own."""
    folder: Path
    """Where W&B keeps its files, in `wandb` below it."""
    config: Mapping[str, Any]
    """Plain values shown with each run."""
    upload: bool = False
    """Whether the winner's files are sent, too."""
    registry: str | None = None
    """Registry that the winner is linked to."""
    tell: Callable[[str], None] = field(default=print)
    """Hears that something is not shown at W&B."""


class WandbTracker:
    """Makes one W&B run per child; it is no run itself, so what is logged to it directly is shown elsewhere only."""

    def __init__(self, settings: WandbSettings, before: Mapping[str, Sequence[Line]]) -> None:
        """Args: settings: of all runs; before: the mirror's lines of earlier processes, by the run's key."""
        self._settings, self._before = settings, before
        self._runs: list[WandbRun] = []

    def log(self, step: int | None = None, **figures: float) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Do nothing."""

    def made(self, result: Made) -> None:
        """Do nothing."""

    def child(self, name: str, about: About | None = None) -> WandbRun:
        """Return the run of a stage or trial, opened at its first figure."""
        self._runs.append(WandbRun(self._settings, name, about, self._before.get(about.key, ()) if about else ()))
        return self._runs[-1]

    def finish(self, *, failed: bool = False) -> None:
        """Close the runs that are still open; they did not come to their own end."""
        for run in self._runs:
            run.finish(failed=True)


class WandbRun:
    """One stage or trial; parts of it are figures with a prefix, each with a step of its own."""

    def __init__(self, settings: WandbSettings, name: str, about: About | None = None, before: Sequence[Line] = ()) -> None:
        """Make a run.

        Args:
            settings: of the experiment.
            name: of the run, such as "neurons/top_frac=0.05"; its first part is the job type.
            about: the run's identity and what sets it apart.
            before: the mirror's lines of this run by earlier processes.
        """
        self._settings, self.name, self._about, self._before = settings, name, about, before
        self.id = fingerprint([settings.identity, about.key if about else name])
        self._run: Any = None
        self._ended = False
        self._steps = set[str]()
        self._lock = threading.Lock()

    def _with_run(self, act: Callable[[Any], None]) -> None:
        """Do something with the open run. Whatever goes wrong at W&B's side ends this run's display there, and no training."""
        with self._lock:
            if self._ended:
                return
            try:
                if self._run is None:
                    self._run = self._open()
                    for line in self._before:
                        self._repeat(line)
                act(self._run)
            except Exception as error:
                self._ended = True
                self._settings.tell(f"W&B shows no more of {self.name} ({type(error).__name__}: {error}); events.jsonl has all")

    def _open(self) -> Any:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # a run tells nobody of itself but whom it is told to
        import wandb

        logging.getLogger("wandb").setLevel(logging.ERROR)
        settings, about = self._settings, self._about
        config = copy.deepcopy(dict(settings.config))
        for path, value in about.settings.items() if about else ():
            if "." in path:
                set_path(config, path, plain(value))
            else:
                config[path] = plain(value)  # a study's arm is no path of the configuration
        job_type = self.name.partition("/")[0]
        settings.folder.mkdir(parents=True, exist_ok=True)
        return wandb.init(
            project=settings.project, mode="offline", dir=str(settings.folder), group=f"{settings.group}/{job_type}",
            name=self.name, job_type=job_type, config=config | ({"stage": about.key} if about else {}), id=self.id,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", x_disable_meta=True, x_save_requirements=False, disable_git=True,
                                    x_transaction_log_flush_interval=FLUSH_S))

    def _repeat(self, line: Line) -> None:
        """Record a line of an earlier process again."""
        prefix = f"{line['part']}/" if line.get("part") else ""
        if "table" in line:
            self._table(prefix + line["table"], line["columns"], line["rows"])
        elif "note" in line:
            self._run.summary["note"] = line["note"]
        elif figures := figures_of(line):
            self._write(prefix, line.get("step"), figures, {"_timestamp": line["time"]})

    def _write(self, prefix: str, step: int | None, figures: Mapping[str, float], besides: Mapping[str, float]) -> None:
        named = {prefix + name: value for name, value in figures.items()}
        if step is None:
            self._run.summary.update(named)
            return
        for name in named.keys() - self._steps:
            self._run.define_metric(name, step_metric=f"{prefix}step")
        self._steps |= named.keys()
        self._run.log(named | {f"{prefix}step": step} | dict(besides))

    def _table(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        import wandb

        self._run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def write(self, prefix: str, step: int | None, figures: Mapping[str, float]) -> None:
        """Log figures of a part; those without a step become the run's summary."""
        self._with_run(lambda _: self._write(prefix, step, figures, {}))

    def log(self, step: int | None = None, **figures: float) -> None:
        """Log figures of the whole run."""
        self.write("", step, figures)

    def note(self, text: str) -> None:
        """Keep the last line of prose in the summary."""
        self._with_run(lambda run: run.summary.update({"note": text}))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Log a table."""
        self._with_run(lambda _: self._table(name, columns, rows))

    def made(self, result: Made) -> None:
        """Log a result as an artifact, and what it was made from as the run's inputs: W&B draws the lineage from that."""
        def act(run: Any) -> None:
            for parent in result.parents:
                run._log_artifact(_artifact(parent), is_user_created=True, use_after_commit=True)  # use_artifact asks a server
            if result.kind == "winner":
                self._winner(run, result)
            else:
                run.log_artifact(_artifact(result))

        self._with_run(act)

    def _winner(self, run: Any, result: Made) -> None:
        settings = self._settings
        name = f"{settings.group}-winner"
        artifact = _artifact(result, name=name, kind="model", whole=settings.upload)
        run.log_artifact(artifact, aliases=[result.fingerprint])
        if settings.registry is not None:
            write_json(settings.folder / "wandb" / LINKS / f"{result.fingerprint}.json", {
                "run": self.id, "artifact": f"{settings.project}/{name}:{result.fingerprint}", "alias": settings.group,
                "target": f"wandb-registry-{settings.registry}/{settings.project}"})

    def child(self, name: str, about: About | None = None) -> WandbPart:
        """Return a part of this run."""
        return WandbPart(self, f"{name}/")

    def finish(self, *, failed: bool = False) -> None:
        """Close the run; a second call does nothing. No network is waited for."""
        with self._lock:
            run, self._run, self._ended = self._run, None, True
            if run is not None:
                try:
                    run.finish(exit_code=int(failed))
                except Exception as error:
                    self._settings.tell(f"W&B could not close {self.name} ({type(error).__name__}: {error})")


def _artifact(result: Made, *, name: str = "", kind: str = "", whole: bool = False) -> Any:
    """Return a result as W&B's artifact: its record, and a reference to where its files lie, or the files.

    What it is made of is the same whenever it is made, so W&B knows it again by its digest.
    """
    import wandb

    artifact = wandb.Artifact(name or f"{result.kind}-{result.fingerprint}", type=kind or result.kind,
                              metadata={"fingerprint": result.fingerprint, "address": result.address})
    artifact.add_file(str(result.record), name="record.json", policy="immutable")
    if "://" in result.address:
        artifact.add_reference(result.address, name="files", checksum=False)
    elif whole:
        artifact.add_dir(result.address, name="files", policy="immutable")
    else:
        artifact.add_reference(Path(result.address).as_uri(), name="files", checksum=False, max_objects=1_000_000)
    return artifact


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

    def made(self, result: Made) -> None:
        """Pass on to the run."""
        self._run.made(result)

    def child(self, name: str, about: About | None = None) -> WandbPart:
        """Return a part of this part."""
        return WandbPart(self._run, f"{self._prefix}{name}/")

    def finish(self, *, failed: bool = False) -> None:
        """Do nothing: the run ends as a whole."""
