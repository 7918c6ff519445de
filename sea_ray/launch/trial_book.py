"""What is known of a sweep's trials beside their results: their looks at held-out text, and how they ended."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

from sea_ray.artifacts import StageKey, Store
from sea_ray.errors import ConfigError, nearest
from sea_ray.execution import Outcome, Trial
from sea_ray.launch.run_queue import Look


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a trial ended, for the record."""

    sweep: str
    """Identity of the sweep that ended it."""
    name: str
    """Of the trial's stage."""
    outcome: Outcome
    looks: int
    """Looks at held-out text that it had; of a pruned one the rung."""
    reason: str | None
    """Why it did not finish."""
    at: str
    """When, ISO 8601."""


class TrialBook:
    """Files on the store's board, one folder per trial."""

    def __init__(self, store: Store) -> None:
        """Args: store: of the results."""
        self._board = store.board

    def looks(self, key: StageKey) -> list[Look]:
        """Return a trial's looks so far, in the order of its training."""
        content = self._board.read(f"{_place(key)}/looks.json")
        return [(part, step, figures) for part, step, figures in json.loads(content)] if content else []

    def add(self, key: StageKey, looks: list[Look], look: Look) -> None:
        """Put a look into the list and on the board; one that a resumed training repeats takes its old place."""
        places = [place for place, (part, step, _) in enumerate(looks) if (part, step) == look[:2]]
        if places:
            looks[places[0]] = look
        else:
            looks.append(look)
        self._board.replace(f"{_place(key)}/looks.json", json.dumps(looks).encode())

    def ending(self, key: StageKey) -> Ending | None:
        """Return how a trial ended last; None if it never did."""
        content = self._board.read(f"{_place(key)}/ending.json")
        return Ending(**json.loads(content)) if content else None

    def close(self, key: StageKey, trial: Trial, sweep: str) -> None:
        """Record how a trial ended."""
        ending = Ending(sweep=sweep, name=trial.name, outcome=trial.outcome, looks=len(self.looks(key)), reason=trial.error,
                        at=time.strftime("%Y-%m-%dT%H:%M:%S%z"))
        self._board.replace(f"{_place(key)}/ending.json", json.dumps(asdict(ending)).encode())


def rung_value(looks: list[Look], figure: str) -> float:
    """Return what a scheduler compares after some looks: the mean over the parts of a run of what each showed last.

    Raises:
        ConfigError: the looks do not show the figure.
    """
    last = {part: figures for part, _, figures in looks}
    for figures in last.values():
        if figure not in figures:
            raise ConfigError("rungs.figure", f"no look at held-out text shows {figure!r}{nearest(figure, figures)}")
    return sum(figures[figure] for figures in last.values()) / len(last)


def _place(key: StageKey) -> str:
    return f"trials/{key.kind}/{key.fingerprint}"
