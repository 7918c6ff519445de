"""`sea-ray compare`: what differs between two runs, and whether it made their winners differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console

from sea_ray.artifacts import Store
from sea_ray.errors import ConfigError, DataError
from sea_ray.evaluation.figures import EvalReport
from sea_ray.evaluation.pairing import Difference, compare, settings_differences
from sea_ray.launch.console import print_json
from sea_ray.launch.offers import stored
from sea_ray.launch.run import load_run

ELSEWHERE = ("name", "until", "store", "tracking", "ending", "cluster", "budget")
"""Parts of an experiment that decide where it runs and who watches, and no result."""
_LONGEST = 80
"""Letters of a setting that are shown."""


def compare_runs(arguments: Sequence[str], console: Console, *, as_json: bool = False) -> int:
    """Print what two runs differ in, then what their winners really differ in, and return the exit code.

    Args:
        arguments: two runs, and store.url=URL.
        console: where a person looks.
        as_json: print what differs for machines, too.

    Raises:
        ConfigError: not two runs, one that is not there, or winners that were not asked the same.
        DataError: what a run wrote is half there.
    """
    names = [text for text in arguments if "=" not in text]
    options = dict(text.split("=", 1) for text in arguments if "=" in text)
    if len(names) != 2 or set(options) - {"store.url"}:
        raise ConfigError("", "name two finished runs, and store.url=URL if they don't lie in runs: sea-ray compare RUN RUN")
    store = Store(options.get("store.url", "runs"))
    records = [load_run(store, name) for name in names]
    settings = differing_settings([record["config"] for record in records])
    for line in settings_in_words(names, settings):
        console.print(line, markup=False)
    found = compare(*[winner_report(store, name, record) for name, record in zip(names, records, strict=True)])
    for line in figures_in_words(names, found):
        console.print(line, markup=False)
    if as_json:
        print_json({"runs": names, "settings": [{"path": path, "first": one, "second": other} for path, one, other in settings],
                    "differences": [asdict(one) | {"better": one.better, "real": one.is_real()} for one in found]})
    return 0


def winner_report(store: Store, name: str, record: dict[str, Any]) -> EvalReport:
    """Return the figures of a run's winner.

    Raises:
        DataError: they are half there.
        SeaRayError: they are no longer in the store.
    """
    try:
        folder = stored(store, record["experiment"]["evaluations"]["winner"]).folder
        return replace(EvalReport.load(folder), model=f"the winner of {name}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the figures of its winner are half there ({type(error).__name__}: {error}): copy the run with all its "
                        "results, or carry it out again", store.root / name) from error


def differing_settings(configs: Sequence[dict[str, Any]]) -> list[tuple[str, Any, Any]]:
    """Return path and both values of each setting that differs and may decide a result."""
    return [(path, one, other) for path, one, other in settings_differences(configs[0], configs[1])
            if path.split(".")[0] not in ELSEWHERE]


def settings_in_words(names: Sequence[str], found: Sequence[tuple[str, Any, Any]]) -> list[str]:
    """Return one line per setting that differs."""
    if not found:
        return [f"{names[0]} and {names[1]} have the same settings, but for where they ran"]
    return [f"{names[0]} and {names[1]} differ in {len(found)} setting{'s' * (len(found) != 1)}",
            *(f"  {path}: {_short(one)} -> {_short(other)}" for path, one, other in found)]


def figures_in_words(names: Sequence[str], found: Sequence[Difference]) -> list[str]:
    """Return what is really different, in which direction, and what of the rest can be said."""
    real = [one for one in found if one.is_real()]
    better, worse = ([one for one in real if one.better == side] for side in (True, False))
    lines = [f"The winners were asked the same: {len(found)} figures were tested in pairs. Of these {len(real)} differ beyond "
             f"chance (5 % for one false find among all, Holm): the winner of {names[1]} is better in {len(better)} and worse in "
             f"{len(worse)} than that of {names[0]}."]
    for title, chosen in (("better", better), ("worse", worse)):
        lines += [f"  {title}: {one}" for one in sorted(chosen, key=lambda one: one.holm)]
    if rest := [one for one in found if not one.is_real()]:
        leaning = sum(one.better for one in rest)
        lines.append(f"  not told from chance: {len(rest)}, of which {leaning} lean to {names[1]}; these items can't say more, "
                     "which is not to say that the two are equal")
    if unread := sum(one.unread for one in found):
        lines.append(f"  left out: {unread} items on which a judge's answer could not be read")
    return lines


def _short(value: object) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
