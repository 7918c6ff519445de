"""The mixture is exact, early and late, and a pure function of (seed, step)."""

import collections
import random

import numpy as np
import pytest

from sea_ray.errors import ConfigError
from sea_ray.training.config import MixRule
from sea_ray.training.mixture import Mixture

SIZES = {"en": 900, "zh": 700, "th": 300, "vi": 500, "lo": 40, "km": 35}
WEIGHTS = {"en": 0.3, "zh": 0.2, "th": 0.2, "vi": 0.25, "lo": 0.03, "km": 0.02}


def mixture(seed=1, total=100_000, max_epochs=None, weights=WEIGHTS):
    return Mixture(SIZES, weights, seed, max_epochs, total)


def test_realised_shares_are_within_a_tenth_of_a_percent_after_100k_samples():
    mix = mixture()
    counts = collections.Counter(source for step in range(1000) for source, _ in mix.batch(step, 100))
    realised = mix.realised(1000, 100)
    for source, weight in WEIGHTS.items():
        assert abs(counts[source] / 100_000 - weight) < 0.001
        assert realised[source] == counts[source] / 100_000


def test_after_any_number_of_draws_each_source_is_less_than_one_draw_off():
    weights = {f"s{i}": w for i, w in enumerate(np.random.default_rng(0).dirichlet(np.ones(25)))}
    mix = Mixture(dict.fromkeys(weights, 50), weights, 0, None, 3000)
    share = np.array([mix.realised(1, 3000)[name] for name in weights])
    drawn = np.zeros(len(weights))
    for step in range(3000):
        drawn[list(weights).index(mix.batch(step, 1)[0][0])] += 1
        assert np.abs(drawn - share * (step + 1)).max() < 1


def test_a_step_is_the_same_whenever_and_however_it_is_asked_for():
    mix = mixture()
    forwards = [mix.batch(step, 16) for step in range(200)]
    steps = list(range(200))
    random.Random(0).shuffle(steps)
    other = mixture()
    assert all(other.batch(step, 16) == forwards[step] for step in steps)


def test_another_batch_size_draws_the_same_samples_in_the_same_order():
    mix = mixture(total=2000)
    small = [pair for step in range(60) for pair in mix.batch(step, 4)]
    assert small == [pair for step in range(10) for pair in mix.batch(step, 24)]


def test_each_epoch_of_a_source_visits_each_sample_once_in_an_order_of_its_own():
    mix = mixture(total=8000)
    lao = [number for step in range(500) for source, number in mix.batch(step, 16) if source == "lo"]
    first, second = lao[:40], lao[40:80]
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second


def test_the_seed_changes_the_order():
    assert mixture(seed=1, total=160).batch(0, 16) != mixture(seed=2, total=160).batch(0, 16)


def test_max_epochs_fills_up_from_the_others_before_step_0():
    mix = mixture(total=2000, max_epochs=1)  # wanted: lo 60 draws of 40 samples, km 40 of 35, th 400 of 300
    weights = mix.effective_weights
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["lo"] == pytest.approx(40 / 2000)
    assert weights["km"] == pytest.approx(35 / 2000)
    assert weights["th"] == pytest.approx(300 / 2000)
    assert weights["en"] / weights["zh"] == pytest.approx(WEIGHTS["en"] / WEIGHTS["zh"])
    seen = collections.Counter(pair for step in range(125) for pair in mix.batch(step, 16))
    assert max(seen.values()) == 1


def test_a_source_of_weight_0_is_never_drawn():
    mix = mixture(weights={"en": 1.0, "zh": 0.0}, total=320)
    assert {source for step in range(20) for source, _ in mix.batch(step, 16)} == {"en"}


@pytest.mark.parametrize(("weights", "max_epochs", "total", "message"), [
    ({"eng": 1.0}, None, 10, "did you mean en"),
    ({"en": -1.0}, None, 10, "not a share"),
    ({"en": 0.0}, None, 10, "no source"),
    ({"en": 1.0}, 2, 10_000, "gives? 1800 in 2 epochs"),
    ({"en": 1.0, "th": 1e-7}, None, 100_000, "less than one of 65536 draws"),
])
def test_impossible_mixtures_are_refused_with_the_numbers(weights, max_epochs, total, message):
    with pytest.raises(ConfigError, match=message):
        Mixture(SIZES, weights, 0, max_epochs, total)


UNEVEN = {"en": 8000, "th": 800, "lo": 80}


def test_rules_make_shares_from_sizes():
    natural = MixRule(kind="natural").weights(UNEVEN)
    assert natural == pytest.approx({"en": 8000 / 8880, "th": 800 / 8880, "lo": 80 / 8880})
    assert MixRule(kind="uniform").weights(UNEVEN) == pytest.approx(dict.fromkeys(UNEVEN, 1 / 3))
    warm = MixRule(kind="temperature", temperature=2.0).weights(UNEVEN)
    assert warm["en"] / warm["th"] == pytest.approx(10**0.5)
    assert MixRule(kind="temperature", temperature=1.0).weights(UNEVEN) == pytest.approx(natural)


def test_a_dirichlet_draw_is_its_seeds_and_sums_to_one():
    first, again, other = (MixRule(kind="dirichlet", seed=seed).weights(UNEVEN) for seed in (1, 1, 2))
    assert first == again != other
    assert sum(first.values()) == pytest.approx(1)
    flat = MixRule(kind="dirichlet", concentration=1e6, seed=3).weights(UNEVEN)
    assert flat == pytest.approx(dict.fromkeys(UNEVEN, 1 / 3), abs=0.01)


def test_uniform_with_a_limit_of_epochs_is_unimax():
    """Chung et al. 2023, algorithm 1: the smallest languages first, each at most `max_epochs` times, the rest shared alike."""
    budget, epochs = 3000, 4
    left, expected = budget, {}
    for position, (name, size) in enumerate(sorted(UNEVEN.items(), key=lambda item: item[1])):
        expected[name] = min(left / (len(UNEVEN) - position), epochs * size)
        left -= expected[name]
    mixture = Mixture(UNEVEN, MixRule(kind="uniform").weights(UNEVEN), 0, epochs, budget)
    assert mixture.effective_weights == pytest.approx({name: count / budget for name, count in expected.items()})
