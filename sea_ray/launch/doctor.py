"""`sea-ray doctor`: whether this machine and, with --online, the Hub have what the experiments need."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
from rich.console import Console
from rich.text import Text

from sea_ray.config import ClusterConfig
from sea_ray.errors import ConfigError, MachineError, SeaRayError
from sea_ray.languages import known_languages
from sea_ray.launch.compose import compose_experiment, config_folder, groups
from sea_ray.launch.machine import GIB, versions
from sea_ray.launch.wandb_tracker import resolve_mode

Verdict = Literal["ok", "note", "bad"]
_STYLES: dict[Verdict, str] = {"ok": "green", "note": "yellow", "bad": "red"}
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 12)
OLDEST_RAY = (2, 54)
"""Older ones let a web page run code in a local Ray (CVE-2026-27482)."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found."""

    verdict: Verdict
    """"note" hinders nothing that was asked for."""
    subject: str
    text: str
    """What there is and, unless it is well, what to do."""


def doctor(overrides: Sequence[str], console: Console, *, online: bool = False) -> int:
    """Print what is there and what is missing; return 0, or the exit code of the gravest thing.

    Args:
        overrides: none are needed.
        console: where a person looks.
        online: ask the Hub about every id in `conf/`, too.

    Raises:
        ConfigError: overrides were given, or there is no configuration folder.
        MachineError: the Hub cannot be reached.
    """
    if overrides:
        raise ConfigError("", f"`sea-ray doctor` takes no {overrides[0]!r}: it looks at the machine and at every experiment")
    found = [_show(finding, console) for check in (check_machine, check_experiments) for finding in check()]
    if online:
        from sea_ray.launch.hub_check import check_hub

        found += [_show(finding, console) for finding in check_hub()]
    bad = [finding for finding in found if finding.verdict == "bad"]
    console.print(f"\n{len(found)} checks, {len(bad)} of them bad" + ("" if online else "; the Hub was not asked (--online)"))
    return MachineError.exit_code if bad else 0


def _show(finding: Finding, console: Console) -> Finding:
    line = Text(f"{finding.verdict:<5}", style=_STYLES[finding.verdict])
    console.print(line.append(f"{finding.subject:<16} {finding.text}", style="default"))
    return finding


def check_machine() -> Iterator[Finding]:
    """Yield what is found about Python, packages, device, disk, memory, W&B and fonts."""
    fits = OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON
    yield Finding(verdict="ok" if fits else "bad", subject="python",
                  text=platform.python_version() + ("" if fits else ": take 3.11 or 3.12"))
    found = versions()
    for package in ("torch", "transformers", "ray", "deepspeed"):
        if package not in found:
            yield Finding(verdict="bad", subject=package, text="is not installed: pip install -r requirements.lock")
        elif package == "ray" and tuple(map(int, found["ray"].split(".")[:2])) < OLDEST_RAY:
            yield Finding(verdict="bad", subject="ray", text=f"{found['ray']}: before 2.54 a web page can run code in it; update")
        else:
            yield Finding(verdict="ok", subject=package, text=found[package])
    yield _device()
    yield from _room()
    mode = resolve_mode("auto")
    yield Finding(verdict="ok", subject="W&B", text={
        "online": "a key is there: runs are shown online", "offline": "no key: runs stay here, `wandb sync` sends them later",
        "disabled": "switched off by WANDB_MODE"}[mode])
    yield from _fonts()


def _device() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding(verdict="bad", subject="device", text="torch is not installed")
    import torch

    if not torch.cuda.is_available():
        built = "torch is built without CUDA" if torch.version.cuda is None else "torch sees no GPU"
        return Finding(verdict="ok", subject="device", text=f"{psutil.cpu_count()} processor cores; {built}, so "
                                                            "cluster.training.device=cuda would be refused")
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    memory = torch.cuda.get_device_properties(0).total_memory / GIB
    text = f"{len(names)} x {names[0]} of {memory:.0f} GiB, CUDA {torch.version.cuda}"
    return Finding(verdict="ok", subject="device", text=text)


def _room() -> Iterator[Finding]:
    needed = ClusterConfig()
    disk = shutil.disk_usage(Path.cwd()).free / GIB
    memory = psutil.virtual_memory().available / GIB
    for subject, free, least in (("disk", disk, needed.min_free_disk_gib), ("memory", memory, needed.min_free_memory_gib)):
        enough = free >= least
        yield Finding(verdict="ok" if enough else "bad", subject=subject, text=f"{free:.1f} GiB free" + (
            "" if enough else f", below the {least:g} GiB that the smallest experiment asks for"))


def _fonts() -> Iterator[Finding]:
    """Yield whether this machine can show every script: reports are looked at in its browser, pictures drawn with its fonts."""
    if shutil.which("fc-list") is None:
        yield Finding(verdict="note", subject="fonts", text="fc-list is not here, so fonts cannot be looked for")
        return
    missing = []
    for code, language in known_languages().items():
        asked = subprocess.run(["fc-list", f":lang={'fil' if code == 'tl' else code}", "family"], capture_output=True, text=True,
                               timeout=30, check=False)
        if not asked.stdout.strip():
            missing.append(f"{language.name} ({language.script})")
    if missing:
        yield Finding(verdict="note", subject="fonts", text=f"none for {', '.join(missing)}: reports need them where they are "
                                                            "looked at; fonts-noto has all of them")
    else:
        yield Finding(verdict="ok", subject="fonts", text=f"for all {len(known_languages())} languages")


def check_experiments() -> Iterator[Finding]:
    """Yield for each file of conf/experiment whether it composes; what its user has to say is a note."""
    for name in groups(config_folder())["experiment"]:
        try:
            config = compose_experiment([f"experiment={name}"])
        except SeaRayError as error:
            verdict: Verdict = "note" if "Missing mandatory value" in str(error) else "bad"
            yield Finding(verdict=verdict, subject=name, text=" ".join(str(error).split()))
        else:
            model = config.model.checkpoint or f"a Qwen2 from scratch of width {config.model.shape.d_model}"
            yield Finding(verdict="ok", subject=name, text=f"composes: {len(config.corpus.languages)} languages, {model}")
