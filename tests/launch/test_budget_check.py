"""A budget that cannot be kept is refused before anything starts."""

import pytest

from sea_ray.artifacts import Store
from sea_ray.errors import ConfigError
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.plan import check_budget


@pytest.fixture
def check(tmp_path):
    return lambda *overrides: check_budget(compose_experiment(["experiment=demo", *overrides]), Store(str(tmp_path)))


def test_a_budget_that_one_trial_fits_passes(check):
    check()
    check("budget.max_hours=20")
    check("budget.max_usd=20", "budget.usd_per_machine_hour=0.5")


@pytest.mark.parametrize(("overrides", "path", "says"), [
    (["budget.max_usd=20"], "budget.max_usd", "no price is known: set budget.usd_per_machine_hour"),
    (["budget.max_hours=0.001"], "budget.max_hours", "end before one trial of a sweep has finished"),
    (["budget.max_usd=0.001", "budget.usd_per_machine_hour=2"], "budget.max_usd", "are spent before one trial"),
])
def test_one_that_cannot_be_watched_or_that_no_trial_fits_is_refused(check, overrides, path, says):
    with pytest.raises(ConfigError, match=says) as caught:
        check(*overrides)
    assert caught.value.path == path
