"""Tab completion of what follows a command: groups of conf/ and their choices, dotted paths with their values, names of runs."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sea_ray.launch.compose import config_folder, groups

EXPERIMENTS = ("run", "detect", "train", "sweep", "data", "plan", "generate", "review")
"""Commands that take an experiment's settings; so does what is submitted."""
Tree = Mapping[str, Any]
"""Key -> its type; a dataclass has keys below it."""


def complete(command: str, prefix: str, given: Sequence[str]) -> list[str]:
    """Return the words that may stand where a person presses the tab key.

    Args:
        command: such as "run".
        prefix: what is typed of the word.
        given: the words between the command and this one.
    """
    if command == "compare":
        return [name for name in _runs(given) if name.startswith(prefix)]
    if command == "submit":
        if not given:
            return [name for name in ("run", "serve") if name.startswith(prefix)]
        command, given = given[0], given[1:]
    key, equals, _ = prefix.partition("=")
    if equals:
        return [word for value in _values(command, key, given) if (word := f"{key}={value}").startswith(prefix)]
    return _keys(_tree(command), _groups(command), prefix)


def _groups(command: str) -> dict[str, list[str]]:
    if command not in EXPERIMENTS:
        return {}
    return {group: names for group, names in groups(config_folder()).items() if group != "experiment/shared"}


def _keys(tree: Tree, groups: Mapping[str, Any], prefix: str) -> list[str]:
    """Return the keys of one level that begin so; of a single one that has keys below it, those."""
    parent = prefix.rpartition(".")[0]
    below: Any = tree
    for name in parent.split(".") if parent else ():
        below = _children(below.get(name) if isinstance(below, Mapping) else None)
    path = f"{parent}." if parent else ""
    found = [f"{path}{name}{'.' if _children(kind) else '='}" for name, kind in (below or {}).items()]
    found = sorted({*found, *(f"{group}=" for group in groups)})
    found = [word for word in found if word.startswith(prefix)]
    if len(found) == 1 and found[0].endswith("."):  # a shell would add a space behind it
        return _keys(tree, {}, found[0])
    return found


def _values(command: str, key: str, given: Sequence[str]) -> Iterator[str]:
    known = _groups(command)
    if key in known:
        yield from known[key]
        return
    if key == "run":
        yield from _runs(given)
        return
    kind: Any = _tree(command)
    for name in key.split("."):
        kind = (kind if isinstance(kind, Mapping) else _children(kind)).get(name)
    for part in _parts(kind):
        if part is bool:
            yield from ("true", "false")
        elif get_origin(part) is Literal:
            yield from map(str, get_args(part))


def _tree(command: str) -> Tree:
    """Return the settings of a command."""
    if command in EXPERIMENTS:
        from sea_ray.config import ExperimentConfig

        return _children(ExperimentConfig)
    if command == "evaluate":
        from sea_ray.launch.evaluate_command import EvaluateConfig

        return _children(EvaluateConfig)
    named: dict[str, Any] = {"run": str, "store.url": str}
    if command == "export":
        from sea_ray.launch.export import ExportConfig

        return named | _children(ExportConfig) | {"safety.ignore_gate": bool}
    if command in ("serve", "rollout"):
        from sea_ray.config import ClusterConfig
        from sea_ray.serving.config import ServingConfig

        return named | {"checkpoint": str, "packs": str, "safety.ignore_gate": bool, "serving": ServingConfig,
                        "cluster": ClusterConfig}
    return named if command in ("report", "packs", "judge") else {"store.url": str}


def _parts(kind: Any) -> list[Any]:
    """Return the members of a union, or the type alone."""
    is_union = get_origin(kind) in (types.UnionType, typing.Union)
    return list(get_args(kind)) if is_union else [kind]


def _children(kind: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, or of the one in a union."""
    for part in _parts(kind):
        if dataclasses.is_dataclass(part) and isinstance(part, type):
            return get_type_hints(part)
    return {}


def _runs(given: Sequence[str]) -> list[str]:
    """Return the names of the runs in a store that is a local folder."""
    folder = next((text.partition("=")[2] for text in given if text.startswith("store.url=")), "runs")
    return sorted({file.parent.name for file in Path(folder).expanduser().glob("*/*.json")
                   if file.name in ("run.json", "asked.json")} - set(given)) if "://" not in folder else []
