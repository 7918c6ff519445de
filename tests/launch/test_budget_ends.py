"""A run whose budget ends, with a Ray of its own."""

import os
from pathlib import Path

import fake_stages
import pytest

from sea_ray.artifacts import Store
from sea_ray.config import BudgetConfig, ClusterConfig
from sea_ray.errors import BudgetError
from sea_ray.launch.ray_platform import RayPlatform
from sea_ray.tracking import NullTracker
from sea_ray.training.config import ExecutionConfig

pytestmark = pytest.mark.ray

ONE_BY_ONE = ClusterConfig(num_cpus=2, max_concurrent_trials=1,
                           training=ExecutionConfig(num_workers=2, engine="deepspeed", device="cpu"))
RATES = (5e-3, 6e-3, 7e-3)
"""By which the trials are told apart."""


def steps_of(store, rate):
    return [entry["step"] for entry in fake_stages.diary(store) if entry["what"] == "step" and entry.get("rate") == rate]


def test_at_the_end_of_the_budget_what_trains_is_saved_and_the_rest_does_not_begin(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    store = Store(str(tmp_path / "store"))
    trials = [({"rate": rate}, fake_stages.stage("learn", store, steps=steps, seconds=0.2, rate=rate))
              for rate, steps in zip(RATES, (4, 400, 400), strict=True)]
    with RayPlatform.open(store, NullTracker(), ONE_BY_ONE, budget=BudgetConfig(max_hours=9.0)) as platform:
        def reached():
            """The first trial has finished and the second has begun: any clock may say when, so none is asked."""
            return "budget.max_usd=1 is reached" if len(steps_of(store, RATES[1])) > 3 else None

        platform.meter.reached = reached
        done = platform.sweep("budget", fake_stages.Listed(trials))
        with pytest.raises(BudgetError, match=r"max_usd=1 is reached, before add/"):
            platform.run(fake_stages.stage("add", store, number=4321))
    assert [trial.outcome for trial in done] == ["finished", "stopped", "stopped"]
    assert done[1].error == "budget.max_usd=1 is reached"
    assert 3 < len(steps_of(store, RATES[1])) < 200
    assert steps_of(store, RATES[2]) == []
    assert store.unfinished(trials[1][1].key).part("whole").names(), "the state of what trained is there to go on from"
