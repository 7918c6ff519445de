"""From `conf/` and command-line overrides to a typed experiment: Hydra composes values, our decoder checks them."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sea_ray.conf_folder import config_folder
from sea_ray.config import ExperimentConfig
from sea_ray.decoding import decode
from sea_ray.errors import ConfigError, nearest
from sea_ray.pipeline import with_point


def groups(folder: Path) -> dict[str, list[str]]:
    """Return the config groups below a folder: group, such as "model" or "sweep/neurons" -> the names to choose from.

    `evaluation/tasks` is none: lm-evaluation-harness reads it.
    """
    return {group.relative_to(folder).as_posix(): names for group in sorted(folder.rglob("*"))
            if group.name != "tasks" and (names := sorted(file.stem for file in group.glob("*.yaml")))}


def read_table(name: str) -> dict[str, Any]:
    """Return a table of the configuration folder in use, such as "prices.yaml".

    Raises:
        ConfigError: the file is missing or no YAML.
    """
    file = config_folder() / name
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError("", f"{file} cannot be read: {error}") from error


def compose_values(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the composed experiment as plain containers.

    Args:
        overrides: Hydra overrides such as "experiment=demo", "corpus.seed=1".

    Raises:
        ConfigError: an override that can't be parsed, an unknown choice of a group, a value that can't be resolved.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    folder = config_folder()
    choices = groups(folder)
    parser = OverridesParser.create()
    accepted = []
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException as error:
            raise ConfigError("", f"override {text!r} can't be read: {str(error).splitlines()[0]}; "
                                  "write key=value, quoted for the shell") from error
        key = override.key_or_group
        if key in choices:
            chosen = override.value()
            if isinstance(chosen, str) and chosen not in choices[key]:
                raise ConfigError(key, f"unknown {key} {chosen!r}{nearest(chosen, choices[key])}")
            accepted.append(text)
        else:
            # Let unknown keys through Hydra: the decoder refuses them with the dotted path and the nearest names.
            accepted.append(text if text[0] in "+~" else f"++{text}")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            composed = compose("config", accepted)
        return typing.cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True, throw_on_missing=True))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError("", str(error).strip()) from error


def compose_experiment(overrides: Sequence[str]) -> ExperimentConfig:
    """Return the experiment that `conf/` and the overrides describe, checked.

    Raises:
        ConfigError: anything unknown, of a wrong type or out of range, with its dotted path.
    """
    if not any(text.lstrip("+").startswith("experiment=") for text in overrides):
        known = ", ".join(groups(config_folder())["experiment"])
        raise ConfigError("experiment", f"none chosen; write experiment=NAME with one of: {known}")
    config = decode(ExperimentConfig, compose_values(overrides))
    for search in (config.sweep.neurons, config.sweep.mixes):
        for point in search.ends():
            with_point(config, point)  # a point that is not there is refused now, not when the sweep begins
    return config
