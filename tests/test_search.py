"""Points that a sweep proposes: the same for whoever asks, kept where they are known, better where something is learnt."""

import numpy as np
import pytest

from sea_ray.artifacts import StageKey, Store
from sea_ray.errors import ConfigError
from sea_ray.execution import Stage
from sea_ray.launch.compose import compose_experiment
from sea_ray.objective import RungsConfig, SweepConfig
from sea_ray.pipeline import _history
from sea_ray.search import SweepSearch
from sea_ray.search_space import Domain, Simplex, label

MIX = Simplex(languages=("en", "th", "vi"), floors={"en": 0.1})
SPACE = {"rate": Domain(log_uniform=(1e-5, 1e-1)), "depth": Domain(integer=(1, 4)), "kind": ("a", ["b"], 3),
         "mixes.own": Domain(simplex=MIX)}


def config(**changes):
    return SweepConfig(**{"space": SPACE, "search": "random", "num_samples": 6, "objectives": {"loss": "min"}, **changes})


def stage_of(point, repetition):
    return Stage(kind="trial", name=label(point), function="no:where", config={**point, "seed": repetition})


def asked(search):
    return list(iter(search.ask, None))


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


def carry_out(search, store, facts_of):
    """Finish each trial before the next one is asked for, and return the points."""
    search.remember(store.board)
    points = []
    while (proposal := search.ask()) is not None:
        key = proposal.stage.key
        if store.find(key) is None:
            with store.building(key) as folder:
                store.commit(key, folder, facts_of(proposal.point), {}, 0.0)
        search.tell(proposal, proposal.ended(store.find(key)))
        points.append(proposal.point)
    return points


def test_a_grid_is_every_combination_and_each_is_repeated_in_a_row():
    search = SweepSearch(SweepConfig(space={"a": (1, 2), "b": (3,)}, objectives={"m": "max"}, repeats=2), stage_of)
    assert [(one.number, one.point, one.repetition) for one in asked(search)] == [
        (0, {"a": 1, "b": 3}, 0), (0, {"a": 1, "b": 3}, 1), (1, {"a": 2, "b": 3}, 0), (1, {"a": 2, "b": 3}, 1)]
    assert search.num_trials == 4
    assert search.ask() is None


def test_points_drawn_at_random_lie_in_the_space_and_are_the_same_each_time():
    points = [one.point for one in asked(SweepSearch(config(num_samples=200), stage_of))]
    assert points == [one.point for one in asked(SweepSearch(config(num_samples=200), stage_of))]
    assert points != [one.point for one in asked(SweepSearch(config(num_samples=200, search_seed=1), stage_of))]
    rates = np.array([point["rate"] for point in points])
    assert rates.min() >= 1e-5
    assert rates.max() <= 1e-1
    assert np.median(np.log10(rates)) == pytest.approx(-3, abs=0.4)
    assert {point["depth"] for point in points} == {1, 2, 3, 4}
    assert [kind for kind in ("a", ["b"], 3) if not any(point["kind"] == kind for point in points)] == []
    for point in points:
        assert sum(point["mixes.own"].values()) == pytest.approx(1, abs=2e-4)
        assert point["mixes.own"]["en"] >= 0.1
    assert np.mean([point["mixes.own"]["th"] for point in points]) == pytest.approx(0.3, abs=0.04)


def test_a_high_concentration_draws_balanced_mixes():
    def spread(concentration):
        mix = Simplex(languages=("en", "th", "vi"), concentration=concentration)
        search = SweepSearch(config(space={"mix": Domain(simplex=mix)}, num_samples=100), stage_of)
        return np.std([one.point["mix"]["th"] for one in asked(search)])

    # of a Dirichlet draw of three shares: sqrt(2 / 9 / (3 c + 1))
    assert spread(1.0) == pytest.approx(np.sqrt(2 / 9 / 4), rel=0.25)
    assert spread(20.0) == pytest.approx(np.sqrt(2 / 9 / 61), rel=0.25)


def test_tpe_finds_what_is_better_than_chance(store):
    space = {"x": Domain(uniform=(-5.0, 5.0)), "y": Domain(uniform=(-5.0, 5.0))}

    def loss(point):
        return {"loss": (point["x"] - 2) ** 2 + (point["y"] + 1) ** 2, "cost": point["x"]}

    def best(search):
        points = carry_out(SweepSearch(config(space=space, search=search, num_samples=40), stage_of, search), store, loss)
        return sum(sorted(loss(point)["loss"] for point in points)[:5])

    assert best("tpe") < best("random") / 2


def test_tpe_learns_the_limits(store):
    space = {"x": Domain(uniform=(0.0, 10.0))}
    limited = config(space=space, search="tpe", num_samples=40, at_most={"cost": 3.0}, objectives={"gain": "max"})
    points = carry_out(SweepSearch(limited, stage_of, "sweeps/limited"), store,
                       lambda point: {"gain": point["x"], "cost": point["x"]})
    kept = [point["x"] for point in points[20:] if point["x"] <= 3.0]
    assert len(kept) >= 10, "later proposals keep the limit, though more is better"
    assert max(kept) > 2.5


def test_what_was_proposed_is_proposed_again_and_a_longer_sweep_goes_on_from_there(store):
    def facts(point):
        return {"loss": point["x"] ** 2}

    space = {"x": Domain(uniform=(-5.0, 5.0))}
    first = carry_out(SweepSearch(config(space=space, search="tpe", num_samples=14), stage_of, "sweeps/a"), store, facts)
    again = carry_out(SweepSearch(config(space=space, search="tpe", num_samples=20), stage_of, "sweeps/a"), store, facts)
    assert again[:14] == first
    assert len({point["x"] for point in again}) == 20, "no draw is repeated"


def test_a_changed_space_keeps_the_points_that_it_still_contains(store):
    def facts(point):
        return {"loss": point["x"]}

    first = carry_out(SweepSearch(config(space={"x": Domain(uniform=(0.0, 10.0))}), stage_of, "sweeps/a"), store, facts)
    narrower = carry_out(SweepSearch(config(space={"x": Domain(uniform=(0.0, 5.0))}), stage_of, "sweeps/a"), store, facts)
    kept = [point for point in first if point["x"] <= 5.0]
    assert 0 < len(kept) < len(first)
    assert narrower[:len(kept)] == kept
    assert all(point["x"] <= 5.0 for point in narrower)


def test_two_who_ask_at_the_same_time_get_the_same_points(store):
    searches = [SweepSearch(config(search="tpe"), stage_of, "sweeps/a") for _ in range(2)]
    for search in searches:
        search.remember(store.board)
    first, second = [], []
    for _ in range(6):
        first.append(searches[0].ask().point)
        second.append(searches[1].ask().point)
    assert first == second


def test_a_failed_trial_teaches_nothing_and_stops_nothing(store):
    search = SweepSearch(config(search="tpe", num_samples=15), stage_of)
    search.remember(store.board)
    while (proposal := search.ask()) is not None:
        search.tell(proposal, proposal.ended(None, "no memory"))
    assert search.ask() is None


def test_the_identity_is_of_space_search_and_rungs():
    def identity(**changes):
        return SweepSearch(config(**changes), stage_of, "sweeps/a").identity

    assert identity() == identity()
    assert len({identity(), identity(rungs=RungsConfig()), identity(num_samples=7), identity(repeats=2)}) == 4


@pytest.mark.parametrize(("make", "path", "says"), [
    (lambda: Domain(), "", "nothing given; give one of uniform"),
    (lambda: Domain(uniform=(0.0, 1.0), integer=(1, 2)), "", "uniform, integer given; give one"),
    (lambda: Domain(uniform=(1.0, 1.0)), "uniform", r"\[1.0, 1.0\] is empty"),
    (lambda: Domain(log_uniform=(0.0, 1.0)), "log_uniform", "is not above 0"),
    (lambda: Simplex(languages=("en",)), "languages", "no mix"),
    (lambda: Simplex(languages=("en", "th"), floors={"vi": 0.1}), "floors.vi", "not in languages"),
    (lambda: Simplex(languages=("en", "th"), floors={"en": -0.1}), "floors.en", "negative"),
    (lambda: Simplex(languages=("en", "th"), floors={"en": 0.5, "th": 0.5}), "floors", "sum to 1"),
    (lambda: Simplex(languages=("en", "th"), concentration=0.0), "concentration", "below 0.05"),
    (lambda: config(search="grid"), "space.rate", "a grid needs a list of values"),
    (lambda: config(num_samples=0), "num_samples", "say how many points"),
    (lambda: config(space={"a": (1,)}, search="grid"), "num_samples", "a grid has the points that it has"),
    (lambda: config(repeats=0), "repeats", "below 1"),
    (lambda: config(objectives={}), "objectives", "empty"),
    (lambda: RungsConfig(reduction=1), "reduction", "every trial would pass"),
    (lambda: RungsConfig(first=0), "first", "below 1"),
])
def test_a_space_that_makes_no_sense_is_refused(make, path, says):
    with pytest.raises(ConfigError, match=says) as caught:
        make()
    assert caught.value.path == path


def test_a_stage_key_tells_points_apart():
    keys = {one.stage.key.fingerprint for one in asked(SweepSearch(config(), stage_of))}
    assert len(keys) == 6
    assert isinstance(next(iter(asked(SweepSearch(config(), stage_of)))).stage.key, StageKey)


def test_a_sweeps_points_are_kept_apart_from_what_it_does_not_depend_on():
    def place(*overrides):
        config = compose_experiment(["experiment=demo", "sweep/mixes=language_mix", *overrides])
        return _history(config, config.sweep.mixes, "sft")

    assert place() == place("cluster.num_cpus=1", "store.url=elsewhere", "ending.webhook=https://example.org/x", "name=other",
                            "evaluation.items=9", "budget.max_hours=1", "sweep.mixes.num_samples=30")
    assert len({place(), place("sft.broad.steps=9"), place("seed=1"), place("sweep.mixes.search_seed=1")}) == 4
