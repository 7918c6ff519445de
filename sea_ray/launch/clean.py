"""`sea-ray clean`: what a store holds, and what of it nobody needs; that goes, if a person agrees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console

from sea_ray.artifacts import Store
from sea_ray.config import StoreConfig
from sea_ray.errors import ConfigError, nearest
from sea_ray.launch.console import agreed, is_terminal
from sea_ray.upkeep import DAYS, Holding, Part, remove, survey

TITLES: dict[Part, str] = {"artifacts": "results", "unfinished": "states", "leases": "leases", "building": "half-built",
                           "runs": "runs and sweeps"}


def clean(overrides: Sequence[str], console: Console, *, yes: bool = False, days: float = DAYS) -> int:
    """Show what a store holds, remove what nobody needs if that is agreed to, and return the exit code.

    Args:
        overrides: store.url=URL, or nothing for the folder `runs`.
        console: where a person looks.
        yes: agreed beforehand.
        days: age from which results that no run's record needs, and states that nobody goes on with, may go.

    Raises:
        SeaRayError: a setting is wrong, or a run's record cannot be read.
    """
    if days < 0:
        raise ConfigError("--days", f"{days:g} is negative; 0 removes what no run's record needs whatever its age")
    store = Store(_url(overrides))
    holdings = survey(store, days)
    describe(store.url, holdings, console)
    chosen = [holding for holding in holdings if holding.why is not None]
    if not chosen:
        console.print("nothing to remove")
        return 0
    question = f"remove {len(chosen)} folders, {_size(chosen)}?"
    if not yes and not is_terminal():
        console.print(f"{question} there is no terminal to ask: say --yes")
        return 0
    if not agreed(question, console, yes=yes):
        console.print("nothing was removed")
        return 0
    gone = remove(store, chosen, days)
    console.print(f"removed     {len(gone)} folders, {_size(gone)}")
    return 0


def describe(url: str, holdings: Sequence[Holding], console: Console) -> None:
    """Print what a store holds, kind by kind, and why what may."""
    console.print(f"store       {url}: {_size(holdings)}")
    for part, title in TITLES.items():
        groups: dict[str, list[Holding]] = {}
        for holding in holdings:
            if holding.part == part:
                groups.setdefault(f"{title} {holding.kind}" if part in ("artifacts", "unfinished") else title, []).append(holding)
        for name, own in groups.items():
            console.print(f"    {name:<32} {len(own):>6}  {_size(own):>10}{_reasons(own)}")


def _reasons(holdings: Iterable[Holding]) -> str:
    """Return how many of some holdings may go, and why."""
    counts = Counter(holding.why for holding in holdings if holding.why is not None)
    return "".join(f"  [yellow]{count} may go: {why}[/]" for why, count in counts.items())


def _size(holdings: Iterable[Holding]) -> str:
    size = float(sum(holding.num_bytes for holding in holdings))
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:,.1f} {unit}" if unit != "B" else f"{size:,.0f} B"
        size /= 1000
    return f"{size:,.1f} GB"


def _url(overrides: Sequence[str]) -> str:
    url = "runs"
    for text in overrides:
        key, _, value = text.partition("=")
        if key != "store.url" or not value:
            raise ConfigError(key, f"clean takes store.url=URL and nothing else{nearest(key, ['store.url'])}")
        url = StoreConfig(url=value).url
    return url
