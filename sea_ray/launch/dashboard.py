"""`sea-ray dashboard`: a W&B workspace and a report for an experiment, from code."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console

from sea_ray.errors import MachineError
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.wandb_access import check_access


def dashboard(overrides: Sequence[str], console: Console, *, dry_run: bool = False) -> int:
    """Make the workspace and the report, print where they are, and return the exit code.

    Args:
        overrides: Hydra overrides; `experiment=NAME` is required.
        console: where a person looks.
        dry_run: print their spec as JSON instead; no network is needed.

    Raises:
        ConfigError: a wrong override; no key, one that W&B refuses, or an entity that is not there.
        MachineError: W&B is not reached, or does not take it.
    """
    config = compose_experiment(overrides)
    if dry_run:
        from sea_ray.launch.dashboard_spec import report, spec, workspace

        entity = config.tracking.entity or "ENTITY"
        found = {"workspace": spec(workspace(config, entity)), "report": spec(report(config, entity))}
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return 0
    access = check_access(config.tracking)
    if not access.entity:
        raise MachineError(f"W&B is not reached ({access.problem}): a dashboard is made there; --dry-run shows its spec")
    from sea_ray.launch.dashboard_spec import report, workspace

    for name, thing in (("workspace", workspace(config, access.entity)), ("report", report(config, access.entity))):
        try:
            made = thing.save()
        except Exception as error:  # the library raises what its client raises
            raise MachineError(f"W&B did not take the {name}: {type(error).__name__}: {error}") from error
        console.print(f"{name:<11} {made.url}", markup=False)
    return 0
