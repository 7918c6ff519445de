"""Learning rates by hand."""

import math

import pytest

from sea_ray.errors import ConfigError
from sea_ray.training.schedule import TrainConfig, learning_rate_at


def rates(**changes):
    config = TrainConfig(steps=11, learning_rate=1.0, warmup_frac=2 / 11, min_lr_frac=0.1, **changes)
    return [learning_rate_at(step, config) for step in range(11)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rate_rises_linearly_to_its_peak(schedule):
    assert rates(schedule=schedule)[:3] == [0.5, 1.0, 1.0]


def test_cosine_passes_its_middle_and_ends_at_its_minimum():
    values = rates(schedule="cosine")
    assert values[6] == pytest.approx(0.1 + 0.9 / 2)
    assert values[4] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert values[-1] == pytest.approx(0.1)


def test_linear_falls_evenly_and_constant_stays():
    values = rates(schedule="linear")
    assert values[3] - values[4] == pytest.approx(0.9 / 8)
    assert values[-1] == pytest.approx(0.1)
    assert set(rates(schedule="constant")[1:]) == {1.0}


def test_one_step_without_warm_up_takes_the_peak():
    assert learning_rate_at(0, TrainConfig(steps=1, learning_rate=2.0, warmup_frac=0)) == 2.0


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"learning_rate": 0.0}, {"warmup_frac": 1.5}, {"betas": (0.9, 1.0)},
                                   {"micro_batch": -1}, {"sequence_tokens": 1}])
def test_values_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TrainConfig(**{"steps": 5, **wrong})
