"""What a finished stage shows: its facts as figures, its neurons as a table, its cost, and where its result lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sea_ray.artifacts import RECORD, Artifact, Store
from sea_ray.execution import Stage
from sea_ray.tracking import Made, Row

MAP_COLUMNS = ("language", "site", "layer", "neurons")


def figures(artifact: Artifact, usd_per_hour: float) -> dict[str, float]:
    """Return a stage's figures: numbers under their names, numbers of each language as "name/language", and its cost.

    Args:
        artifact: the result.
        usd_per_hour: price of all machines together; 0: unknown.
    """
    record = artifact.record
    found: dict[str, float] = {}
    for name, value in record["facts"].items():
        if isinstance(value, int | float):
            found[name] = value
        elif isinstance(value, Mapping) and all(isinstance(item, int | float) for item in value.values()):
            found |= {f"{name}/{part}": item for part, item in value.items()}
    found["cost/seconds"] = record["seconds"]
    if memory := record["execution"].get("peak_memory_bytes"):
        found["cost/peak_memory_bytes"] = memory
    if usd_per_hour:
        found["cost/usd"] = record["seconds"] / 3600 * usd_per_hour
    return found


def neuron_map(artifact: Artifact) -> list[Row]:
    """Return (language, site, layer, selected neurons) of a stage that selected some; else nothing."""
    counts = artifact.facts.get("counts")
    return list(_rows(counts)) if isinstance(counts, Mapping) else []


def _rows(counts: Mapping[str, Mapping[str, Sequence[int]]]) -> Iterator[Row]:
    for code, sites in counts.items():
        for site, layers in sites.items():
            yield from ((code, site, layer, count) for layer, count in enumerate(layers))


def made(artifact: Artifact, store: Store, stage: Stage | None = None) -> Made:
    """Return a result as trackers are told of it, with its stage's parents if the stage is given."""
    parents = tuple(made(parent, store) for parent in stage.parents.values()) if stage else ()
    return Made(kind=artifact.kind, fingerprint=artifact.fingerprint, address=store.address(artifact),
                record=store.open(artifact) / RECORD, parents=parents)
