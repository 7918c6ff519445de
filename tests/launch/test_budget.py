"""The meter counts hours and dollars, and calls at the limit, once."""

import threading

import pytest

from sea_ray.config import BudgetConfig
from sea_ray.errors import ConfigError
from sea_ray.launch import budget
from sea_ray.launch.budget import Meter


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    class Clock:
        now = 1000.0

    monkeypatch.setattr(budget.time, "monotonic", lambda: Clock.now)
    return Clock


def test_the_hours_are_those_since_it_was_made(clock):
    meter = Meter(BudgetConfig(max_hours=2), lambda: 0.0, print)
    clock.now += 7199
    assert meter.reached() is None
    clock.now += 1
    assert meter.reached() == "budget.max_hours=2 is reached after 2.00 h"


def test_without_limits_nothing_is_reached(clock):
    meter = Meter(BudgetConfig(), lambda: 1e9, print)
    clock.now += 1e9
    assert meter.reached() is None


def test_dollars_follow_the_machines_that_run_and_the_limit_is_told_once(clock, monkeypatch):
    monkeypatch.setattr(budget, "POLL_S", 0.001)
    told, done, prices = [], threading.Event(), iter([1.0, 2.0, 2.0, 4.0])

    def price():
        clock.now += 1800
        return next(prices)

    def at_limit(reason):
        told.append(reason)
        done.set()

    meter = Meter(BudgetConfig(max_usd=3.0), price, at_limit)
    meter.start()
    assert done.wait(10)
    # the clock is read before each price: half an hour at 2, at 2 and at 4 dollars
    assert meter.usd == pytest.approx(0.5 * (2 + 2 + 4))
    assert told == ["budget.max_usd=3 is reached with 4.00 USD in 2.00 h"]


def test_a_stopped_meter_tells_nothing(clock, monkeypatch):
    monkeypatch.setattr(budget, "POLL_S", 0.001)
    meter = Meter(BudgetConfig(max_hours=1), lambda: 0.0, lambda reason: pytest.fail(reason))
    meter.start()
    meter.stop()
    clock.now += 7200


@pytest.mark.parametrize(("wrong", "path"), [({"max_hours": 0.0}, "max_hours"), ({"max_usd": -1.0}, "max_usd"),
                                             ({"usd_per_machine_hour": -1.0}, "usd_per_machine_hour")])
def test_a_budget_that_makes_no_sense_is_refused(wrong, path):
    with pytest.raises(ConfigError) as caught:
        BudgetConfig(**wrong)
    assert caught.value.path == path
