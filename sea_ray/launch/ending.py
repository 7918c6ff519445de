"""The end of a run: a webhook is told how it went, and the cluster is taken down. Neither can make a good run fail."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from rich.console import Console

from sea_ray.config import EndingConfig, ExperimentConfig
from sea_ray.errors import BudgetError

WEBHOOK_S = 10.0
"""Longest time that a webhook is waited for."""
TEARDOWN_S = 600.0
"""Longest time that the teardown may take; on AWS it is seconds."""


@dataclass(kw_only=True)
class Notice:
    """What a webhook is told."""

    name: str
    """Of the run."""
    outcome: Literal["finished", "failed", "budget"] = "finished"
    """budget: it ended at a limit of time or money, with its best so far."""
    reason: str = ""
    """Why it did not finish; what went wrong with the teardown."""
    winner: Mapping[str, Any] | None = None
    """The winner's settings: dotted path -> value."""
    seconds: float = 0.0
    """Of this run."""
    usd: float | None = None
    """What it is thought to have cost."""
    report: str | None = None
    """Where the report lies."""


@contextmanager
def ending(config: ExperimentConfig, console: Console) -> Iterator[Notice]:
    """Tell and tear down when the context ends, however it ends; an interrupted run (Ctrl-C, a stopped job) does neither.

    Args:
        config: names the run, the webhook and the teardown.
        console: where a person looks.

    Yields:
        The notice, to be filled in.
    """
    notice, start = Notice(name=config.name), time.monotonic()
    try:
        yield notice
    except Exception as error:
        notice.outcome = "budget" if isinstance(error, BudgetError) else "failed"
        notice.reason = str(error) or type(error).__name__
        notice.seconds = round(time.monotonic() - start, 1)
        end(config.ending, notice, console)
        raise
    notice.seconds = round(time.monotonic() - start, 1)
    end(config.ending, notice, console)


def end(config: EndingConfig, notice: Notice, console: Console) -> None:
    """Tell the webhook, then end the cluster; the webhook hears of a teardown that fails, too: machines may go on billing."""
    tell(config, notice, console)
    if not config.teardown:
        return
    console.print("teardown    the cluster ends")
    if problem := _teardown(config.teardown):
        console.print(f"teardown    FAILED ({problem}): machines may go on billing; see docs/cluster.md for what to look at")
        tell(config, replace(notice, reason="; ".join(filter(None, (notice.reason, f"teardown failed: {problem}")))), console)


def _teardown(command: Sequence[str]) -> str:
    """Run the command and return what went wrong, or nothing."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TEARDOWN_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}"


def tell(config: EndingConfig, notice: Notice, console: Console) -> None:
    """Post a notice to the webhook; whatever happens there costs ten seconds at most and no run."""
    if config.webhook is None:
        return
    answer = ["no answer in time"]
    thread = threading.Thread(target=_post, args=(config.webhook, notice, answer), daemon=True, name="webhook")
    thread.start()
    thread.join(WEBHOOK_S)
    console.print(f"webhook     {config.webhook_host}: {answer[0]}")


def _post(url: str, notice: Notice, answer: list[str]) -> None:
    """Post; errors are told by their kind alone, for their text may hold the URL."""
    body = json.dumps(asdict(notice), ensure_ascii=False, default=str).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=WEBHOOK_S) as reply:
            answer[0] = f"told ({reply.status})"
    except urllib.error.HTTPError as error:
        answer[0] = f"it answered {error.code}"
    except Exception as error:
        if not isinstance(error, TimeoutError):
            answer[0] = f"not reached ({type(error).__name__})"


def public_config(config: ExperimentConfig) -> ExperimentConfig:
    """Return an experiment as it may be recorded: its webhook without what only its owner may know."""
    return replace(config, ending=replace(config.ending, webhook=config.ending.webhook_host))


def public_overrides(overrides: Sequence[str]) -> list[str]:
    """Return overrides as they may be recorded: what names a URL of the ending says no more than that it does."""
    return [f"{key}=..." if key.lstrip("+").split(".")[0] == "ending" and "://" in value else text
            for text in overrides for key, _, value in [text.partition("=")]]
