from functools import reduce
from operator import add

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sea_ray.errors import DataError
from sea_ray.neurons.statistics import ImportanceStats, SiteStatistics
from sea_ray.neurons.sums import Observation, SiteSums

NUM_LAYERS, NUM_NEURONS, NUM_RELEASED = 2, 5, 10
RANKS = (1, 3)


def shard(seed, windows, first, site="v", language="th"):
    """Return statistics of some windows of random importance; the first has this number."""
    generator = np.random.default_rng(seed)
    gated = site == "ffn"
    nothing = SiteStatistics.zeros(NUM_LAYERS, NUM_NEURONS, len(RANKS), gated, num_released=NUM_RELEASED)
    sums = SiteSums(nothing, RANKS, torch.device("cpu"))
    shape = (windows, NUM_LAYERS, NUM_NEURONS)
    seen = Observation(*map(torch.from_numpy, (
        generator.gamma(0.3, 10, shape), generator.gamma(1, 1, (*shape[:2], NUM_RELEASED)), generator.integers(0, 9, shape))))
    sums.add(seen if gated else seen._replace(active_BLN=None), (first + torch.arange(windows)) % 2, 8)
    return ImportanceStats(window_tokens=8, ranks={site: RANKS}, parts={(language, site): sums.statistics()})


def assert_same(found, expected):
    assert found.parts.keys() == expected.parts.keys()
    for key, part in expected.parts.items():
        for name, value in vars(part).items():
            other = getattr(found.parts[key], name)
            assert other.dtype == value.dtype
            if np.issubdtype(value.dtype, np.integer):
                np.testing.assert_array_equal(other, value)
            else:
                np.testing.assert_allclose(other, value, rtol=1e-12, atol=0)


shards_of_any_size = st.lists(
    st.tuples(st.integers(0, 999), st.integers(0, 4), st.integers(0, 1), st.sampled_from(["th", "vi"])), min_size=2, max_size=5)


@given(shards_of_any_size, st.randoms(use_true_random=False), st.sampled_from(["ffn", "v"]))
@settings(max_examples=40, deadline=None)
def test_shards_add_up_to_the_same_in_any_order_and_grouping(described, random, site):
    shards = [shard(seed, windows, first, site, language) for seed, windows, first, language in described]
    whole = reduce(add, shards)
    pool = list(shards)
    while len(pool) > 1:
        first, second = (pool.pop(random.randrange(len(pool))) for _ in range(2))
        pool.append(first + second)
    assert_same(pool[0], whole)
    assert_same(whole.half(0) + whole.half(1), whole)


@given(st.integers(0, 999), st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_nothing_added_changes_nothing(seed, windows):
    stats = shard(seed, windows, 0)
    assert_same(stats + shard(seed, 0, 0), stats)


@given(st.integers(0, 999), st.integers(0, 6))
@settings(max_examples=20, deadline=None)
def test_a_half_holds_its_own_windows_and_no_others(seed, windows):
    stats = shard(seed, windows, 0, "ffn")
    even, odd = (stats.half(parity)["th", "ffn"] for parity in (0, 1))
    assert (even.num_windows, odd.num_windows) == ((windows + 1) // 2, windows // 2)
    for own, other, parity in ((even, odd, 0), (odd, even, 1)):
        for name, value in vars(own).items():
            np.testing.assert_array_equal(value[parity], getattr(stats["th", "ffn"], name)[parity])
            assert not getattr(other, name)[parity].any()


def test_adding_leaves_the_shards_as_they_were(tmp_path):
    first, second = shard(0, 3, 0), shard(1, 2, 1)
    first.save(tmp_path)
    first + second
    assert_same(first, ImportanceStats.load(tmp_path))


def test_shards_of_other_ranks_do_not_add():
    first = shard(0, 2, 0)
    other = ImportanceStats(window_tokens=8, ranks={"v": (1, 2)}, parts=first.parts)
    with pytest.raises(DataError, match=r"ranks \{'v': \(1, 3\)\} and \{'v': \(1, 2\)\}; measure all shards with one"):
        first + other
