"""What a run costs while it runs, and its end at a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sea_ray.config import BudgetConfig, ClusterConfig
from sea_ray.launch.prices import usd_per_machine_hour

POLL_S = 2.0
"""Between two looks at clock and nodes."""


class Meter:
    """Counts hours and dollars in a thread, and calls once when a limit is reached."""

    def __init__(self, budget: BudgetConfig, usd_per_hour: Callable[[], float], at_limit: Callable[[str], None]) -> None:
        """Args: budget: the limits; usd_per_hour: of all machines that run now; at_limit: gets which limit was reached."""
        self._budget, self._usd_per_hour, self._at_limit = budget, usd_per_hour, at_limit
        self._began, self._over = time.monotonic(), threading.Event()
        self.usd = 0.0
        """Spent so far."""

    @property
    def hours(self) -> float:
        """Since it was made."""
        return (time.monotonic() - self._began) / 3600

    def reached(self) -> str | None:
        """Return in words which limit is reached; None: none."""
        limits = self._budget
        if limits.max_hours is not None and self.hours >= limits.max_hours:
            return f"budget.max_hours={limits.max_hours:g} is reached after {self.hours:.2f} h"
        if limits.max_usd is not None and self.usd >= limits.max_usd:
            return f"budget.max_usd={limits.max_usd:g} is reached with {self.usd:.2f} USD in {self.hours:.2f} h"
        return None

    def start(self) -> None:
        """Begin to count and to watch."""
        threading.Thread(target=self._watch, daemon=True, name="budget").start()

    def stop(self) -> None:
        """Count and watch no more."""
        self._over.set()

    def _watch(self) -> None:
        seen = self._began
        while True:
            now = time.monotonic()
            self.usd += (now - seen) / 3600 * self._usd_per_hour()
            seen = now
            if (reason := self.reached()) is not None:
                self._at_limit(reason)
                return
            if self._over.wait(POLL_S):
                return


def machine_price(cluster: ClusterConfig, budget: BudgetConfig) -> float | None:
    """Return what a machine that trains costs an hour: as the budget says, or the most that the table does; None: not known."""
    if budget.usd_per_machine_hour is not None:
        return budget.usd_per_machine_hour
    price = usd_per_machine_hour(cluster)
    return price[1] if price else None
