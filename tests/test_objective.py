"""What a sweep searches and how its winner is chosen."""

import dataclasses

import pytest

from sea_ray.artifacts import StageKey, Store
from sea_ray.errors import ConfigError, SeaRayError
from sea_ray.execution import Trial
from sea_ray.objective import SweepConfig, choose, set_path


@pytest.fixture
def trial(tmp_path):
    """Make a finished trial with figures, or a failed one with an error."""
    store = Store(str(tmp_path))

    def make(number, error=None, **facts):
        if error:
            return Trial(point={"n": number}, artifact=None, error=error)
        key = StageKey(kind="trial", name=str(number), config={"n": number, "facts": str(facts)})
        with store.building(key) as folder:
            artifact = store.commit(key, folder, {"seen": "text", **facts}, {}, 0.0)
        return Trial(point={"n": number}, artifact=artifact)

    return make


def search(**changes):
    return SweepConfig(**{"space": {"n": (1, 2)}, "objectives": {"gain": "max"}, "at_most": {"english": 1.01}, **changes})


def test_points_are_every_combination_in_order():
    sweep = SweepConfig(space={"a.b": (1, 2), "c": ("x", "y")}, objectives={"m": "max"})
    assert [tuple(point.values()) for point in sweep.grid()] == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]
    assert all(list(point) == ["a.b", "c"] for point in sweep.grid())


def test_an_empty_space_is_refused():
    with pytest.raises(ConfigError, match=r"^space: empty"):
        SweepConfig(space={}, objectives={"m": "max"})
    with pytest.raises(ConfigError, match=r"^space\.a\.b: no values"):
        SweepConfig(space={"a.b": ()}, objectives={"m": "max"})


def test_a_path_is_set_in_place():
    values = {"a": {"b": {"c": 1, "d": 2}}}
    set_path(values, "a.b.c", [3])
    assert values == {"a": {"b": {"c": [3], "d": 2}}}


@pytest.mark.parametrize(("path", "wrong", "suggestion"), [
    ("neuron.top_frac", "neuron", "did you mean neurons?"),
    ("neurons.top_fraq", "neurons.top_fraq", "did you mean top_frac?"),
    ("neurons.top_frac.x", "neurons.top_frac.x", "unknown path"),
])
def test_an_unknown_path_is_refused_with_the_nearest_names(path, wrong, suggestion):
    values = {"neurons": {"top_frac": 0.1}}
    with pytest.raises(ConfigError, match=suggestion) as caught:
        set_path(values, path, 1)
    assert caught.value.path == wrong
    assert values == {"neurons": {"top_frac": 0.1}}


@pytest.mark.parametrize(("mode", "winner"), [("max", 3), ("min", 1)])
def test_the_best_in_the_asked_direction_wins(trial, mode, winner):
    trials = [trial(1, gain=0.1, english=1.0), trial(2, gain=0.2, english=1.0), trial(3, gain=0.3, english=1.0)]
    choice = choose(search(objectives={"gain": mode}), trials)
    assert choice.winner is trials[winner - 1]
    assert choice.keeps_limits
    assert choice.trials == tuple(trials)
    assert f"gain 0.{winner}000 is the {'highest' if mode == 'max' else 'lowest'} of 3 trials" in choice.reason


def test_a_trial_beyond_a_limit_does_not_win(trial):
    trials = [trial(1, gain=0.1, english=1.01), trial(2, gain=0.9, english=1.0101)]
    choice = choose(search(), trials)
    assert choice.winner is trials[0]
    assert "of 1 trials within the limits" in choice.reason


def test_if_none_keeps_the_limits_the_least_violating_wins_and_it_is_said(trial):
    trials = [trial(1, gain=0.9, english=1.20), trial(2, gain=0.1, english=1.05), trial(3, gain=0.2, english=1.05)]
    choice = choose(search(), trials)
    assert choice.winner is trials[2]
    assert not choice.keeps_limits
    assert "no trial keeps {'english': 1.01}; this one exceeds them least, by 0.0400" in choice.reason


def test_failed_trials_do_not_take_part(trial):
    trials = [trial(1, error="out of memory"), trial(2, gain=0.1, english=1.0)]
    assert choose(search(), trials).winner is trials[1]


def test_if_all_trials_fail_their_reasons_are_told(trial):
    with pytest.raises(SeaRayError, match=r"all 2 trials of the sweep failed: .*'n': 1.*no room.*'n': 2.*no text"):
        choose(search(), [trial(1, error="no room"), trial(2, error="no text")])


def test_an_unknown_metric_names_the_figures_that_there_are(trial):
    trials = [trial(1, gain=0.1, english=1.0)]
    with pytest.raises(ConfigError, match=r"no stage reports 'gian'; did you mean gain\?"):
        choose(search(objectives={"gian": "max"}), trials)
    with pytest.raises(ConfigError, match=r"no stage reports 'englsh'; did you mean english\?"):
        choose(search(at_most={"englsh": 1.0}), trials)


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("lost", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_that_is_no_number_never_wins(trial, mode, lost):
    trials = [trial(1, gain=lost, english=1.0), trial(2, gain=0.1, english=1.0)]
    assert choose(search(objectives={"gain": mode}), trials).winner is trials[1]


def test_a_limited_figure_that_is_no_number_keeps_no_limit(trial):
    trials = [trial(1, gain=0.9, english=float("nan")), trial(2, gain=0.1, english=1.0)]
    assert choose(search(), trials).winner is trials[1]


def test_of_equal_trials_the_first_wins(trial):
    trials = [trial(1, gain=0.1, english=1.0), trial(2, gain=0.1, english=1.0)]
    assert choose(search(), trials).winner is trials[0]


def repeated(make, number, *gains, outcome="finished"):
    trials = [dataclasses.replace(make(number, gain=gain, english=1.0, harm=number), point={"n": number}, repetition=repetition)
              for repetition, gain in enumerate(gains)]
    return trials if outcome == "finished" else [*trials, Trial(point={"n": number}, artifact=None, error="behind",
                                                                repetition=len(gains), outcome=outcome)]


def test_of_repeated_points_the_best_mean_wins_and_not_the_luckiest_seed(trial):
    lucky, steady = repeated(trial, 1, 0.1, 0.9, 0.1), repeated(trial, 2, 0.5, 0.52, 0.51)
    choice = choose(search(repeats=3), [*lucky, *steady])
    assert choice.winner is steady[0]
    assert "gain 0.5100 ± " in choice.reason
    assert "the mean of 3 seeds, is the highest of 2 points" in choice.reason


def test_what_chance_may_have_chosen_is_said(trial):
    near, far = repeated(trial, 1, 0.50, 0.54, 0.52), repeated(trial, 3, 0.1, 0.14, 0.12)
    choice = choose(search(repeats=3), [*near, *repeated(trial, 2, 0.51, 0.53, 0.55), *far])
    assert choice.reason.endswith("not told from chance: n=1")
    apart = choose(search(repeats=3), [*near, *far])
    assert apart.reason.endswith("further apart than chance explains")
    # pooled variance 4e-4 with 4 degrees of freedom, Student's 97.5 % quantile 2.776: 2.776 * 0.02 / sqrt(3)
    assert "0.5200 ± 0.0321 (95 %)" in apart.reason


def test_a_point_with_a_pruned_repetition_does_not_win(trial):
    cut, whole = repeated(trial, 1, 0.9, outcome="pruned"), repeated(trial, 2, 0.1, 0.2)
    assert choose(search(repeats=2), [*cut, *whole]).winner is whole[0]
    assert choose(search(repeats=2), cut).winner is cut[0], "if all are cut, one of them still wins"


def test_a_point_of_which_one_seed_failed_is_judged_by_the_others(trial):
    trials = [*repeated(trial, 1, 0.9, outcome="failed"), *repeated(trial, 2, 0.1, 0.2)]
    assert choose(search(repeats=2), trials).winner is trials[0]


def test_with_several_objectives_the_front_is_kept_and_the_first_decides(trial):
    trials = [trial(1, gain=0.1, english=0.90), trial(2, gain=0.3, english=1.0), trial(3, gain=0.2, english=1.005),
              trial(4, gain=0.9, english=1.5)]
    choice = choose(search(objectives={"gain": "max", "english": "min"}), trials)
    assert choice.winner is trials[1]
    assert choice.front == ({"n": 1}, {"n": 2}), "3 is beaten in both by 2, and 4 keeps no limit"
    assert choose(search(), trials).front == ()
