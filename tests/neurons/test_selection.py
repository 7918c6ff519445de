from dataclasses import replace

import numpy as np
import pytest

from sea_ray.errors import ConfigError
from sea_ray.neurons.config import SelectionConfig
from sea_ray.neurons.selection import random_neurons, select_neurons, stability
from sea_ray.neurons.sets import overlap_matrix
from sea_ray.neurons.sites import Architecture
from sea_ray.neurons.statistics import ImportanceStats, SiteStatistics

SHAPE = Architecture(
    model_type="qwen2", num_layers=2, d_model=16, d_mlp=50, num_heads=4, num_kv_heads=2, d_head=4, total_values=9999)
LANGUAGES = ("en", "id", "ms", "th")


def stats_of(importance, active=None, window_tokens=8):
    """Return statistics of given windows: language -> Imp [W, L, N]; every site but ffn gets small constants."""
    parts = {}
    for language, values in importance.items():
        part = SiteStatistics.zeros(*values.shape[1:], 1, gated=True)
        for number, window in enumerate(values):
            part.add(number % 2, window[None], (5,))
            part.tokens[number % 2] += window_tokens
            if active is not None:
                part.active[number % 2] += active[language]
        parts[language, "ffn"] = part
    return ImportanceStats(window_tokens=window_tokens, ranks={"ffn": (5,)}, parts=parts)


def planted(noise=0.0, windows=6):
    """Each language's own ten channels of layer 1 have Imp 4; id and ms share ten more; the rest have 1."""
    generator = np.random.default_rng(0)
    importance = {}
    for place, language in enumerate(LANGUAGES):
        values = np.ones((windows, 2, 50))
        values[:, 1, 10 * place:10 * place + 10] = 4
        if language in ("id", "ms"):
            values[:, 0, :10] = 3
        importance[language] = values * np.exp(noise * generator.normal(size=values.shape))
    return importance


CONFIG = SelectionConfig(sites=("ffn",), top_frac=0.1)


def test_rank_finds_the_planted_neurons_of_each_language():
    sets = select_neurons(stats_of(planted(noise=0.1)), SHAPE, CONFIG)
    for place, language in enumerate(LANGUAGES):
        assert sets[language].indices["ffn", 1].tolist() == list(range(10 * place, 10 * place + 10))
        assert sets[language].count == 10


def test_rank_with_a_threshold_takes_the_active_neurons_that_are_strongest_here():
    sets = select_neurons(stats_of(planted()), SHAPE, replace(CONFIG, top_frac=0.0, threshold=2.0))
    assert [sets[language].count for language in LANGUAGES] == [10, 10, 10, 10]


@pytest.mark.parametrize(("others", "shared"), [(1, 0), (2, 10)])
def test_minus_drops_neurons_active_in_m_other_languages(others, shared):
    config = replace(CONFIG, top_frac=0.0, threshold=2.0, specificity="minus", minus_min_languages=others)
    sets = select_neurons(stats_of(planted()), SHAPE, config)
    assert [sets[language].count for language in LANGUAGES] == [10, 10 + shared, 10 + shared, 10]
    assert overlap_matrix(sets).shares[1][2] == shared / (10 + shared)


def test_tau_decides_how_many_windows_must_reach_the_threshold():
    importance = planted(windows=10)
    importance["th"][0, 1, 30] = 0.001  # one outlier window
    config = replace(CONFIG, top_frac=0.0, threshold=2.0)
    assert select_neurons(stats_of(importance), SHAPE, replace(config, tau=1.0))["th"].count == 9
    assert select_neurons(stats_of(importance), SHAPE, replace(config, tau=0.9))["th"].count == 10


def test_share_of_windows_above_a_threshold_follows_the_windows():
    values = np.exp(np.random.default_rng(1).normal(size=(400, 1, 6)))
    part = stats_of({"th": values})["th", "ffn"]
    for threshold in (0.3, 1.0, 2.7):
        np.testing.assert_allclose(part.share_at_least(threshold), (values >= threshold).mean(0), atol=0.03)
    assert (part.share_at_least(1e-9) == 1).all()


def test_lape_takes_channels_whose_gates_open_for_few_languages():
    active = {language: np.full((2, 50), 4) for language in LANGUAGES}  # of 8 tokens of each window
    for place, language in enumerate(LANGUAGES):
        for other in LANGUAGES:
            active[other][1, place] = 8 if other == language else 0
    config = SelectionConfig(method="lape", sites=("ffn",), top_frac=0.04)
    sets = select_neurons(stats_of(planted(), active), SHAPE, config)
    for place, language in enumerate(LANGUAGES):
        assert {key: found.tolist() for key, found in sets[language].indices.items()} == {("ffn", 1): [place]}


def test_matched_random_control_has_the_same_counts_per_layer_and_no_neuron_of_the_reference():
    stats = stats_of(planted(noise=0.5))
    reference = select_neurons(stats, SHAPE, CONFIG)
    control = select_neurons(stats, SHAPE, replace(CONFIG, method="random_matched", seed=3))
    for language in LANGUAGES:
        assert control[language].counts("ffn", 2) == reference[language].counts("ffn", 2)
        assert (control[language] & reference[language]).count == 0
    assert control == select_neurons(stats, SHAPE, replace(CONFIG, method="random_matched", seed=3))
    assert control != select_neurons(stats, SHAPE, replace(CONFIG, method="random_matched", seed=4))


def test_unmatched_random_control_spreads_over_layers():
    reference = select_neurons(stats_of(planted()), SHAPE, CONFIG)["th"]
    control = random_neurons(reference, SHAPE, seed=0, matched=False)
    assert control.count == reference.count
    assert control.counts("ffn", 2)[0] > 0


def test_a_layer_that_is_nearly_taken_still_gets_a_control_of_equal_size():
    values = {language: np.ones((2, 2, 50)) for language in LANGUAGES}
    values["th"][:, 1, :40] = 9
    sets = select_neurons(stats_of(values), SHAPE, replace(CONFIG, top_frac=0.4))
    assert random_neurons(sets["th"], SHAPE, seed=0).counts("ffn", 2) == [0, 40]


def test_shared_neurons_are_the_same_for_all_and_strong_everywhere():
    importance = planted()
    for values in importance.values():
        values[:, 0, 40:] = 5
    sets = select_neurons(stats_of(importance), SHAPE, replace(CONFIG, method="shared"))
    for language in LANGUAGES:
        assert sets[language].indices["ffn", 0].tolist() == list(range(40, 50))


def test_budget_holds_per_kind_of_site():
    for frac in (0.02, 0.1, 0.3):
        sets = select_neurons(stats_of(planted(noise=1)), SHAPE, replace(CONFIG, top_frac=frac))
        assert {found.count for found in sets.values()} == {round(frac * 100)}


def test_stability_is_high_for_planted_neurons_and_low_for_noise():
    assert min(stability(stats_of(planted(noise=0.1)), SHAPE, CONFIG).values()) == 1
    noise = {language: np.exp(np.random.default_rng(i).normal(size=(6, 2, 50))) for i, language in enumerate(LANGUAGES)}
    assert max(stability(stats_of(noise), SHAPE, CONFIG).values()) < 0.7


def test_too_high_a_threshold_is_refused_with_the_numbers():
    with pytest.raises(ConfigError, match=(
            r"selection\.threshold: threshold 90 selects 0 of 100 neurons for 'en' \(highest mean Imp: ffn 4\): "
            r"lower selection\.threshold, or check the 'en' corpus \(6 windows\)")):
        select_neurons(stats_of(planted()), SHAPE, replace(CONFIG, threshold=90.0))


def test_nearly_everything_is_refused_with_the_numbers():
    message = r"top_frac 0\.9 selects 90 of 100 ffn neurons for 'en', nearly everything .* 50%"
    with pytest.raises(ConfigError, match=message):
        select_neurons(stats_of(planted()), SHAPE, replace(CONFIG, top_frac=0.9))


def test_languages_that_share_everything_leave_the_strict_rule_empty_and_say_so():
    importance = planted()
    importance["ms"] = importance["id"]
    config = replace(CONFIG, top_frac=0.0, threshold=2.0, specificity="minus")
    with pytest.raises(ConfigError, match=r"0 of 100 neurons for 'id'.* raise selection\.minus_min_languages \(1\)"):
        select_neurons(stats_of(importance), SHAPE, config)
    sets = select_neurons(stats_of(importance), SHAPE, CONFIG)
    assert overlap_matrix({"id": sets["id"], "ms": sets["ms"]}).shares == ((1, 1), (1, 1))


def test_a_site_that_was_not_measured_is_refused():
    with pytest.raises(ConfigError, match=r"'q' was not measured; detection\.sites has ffn"):
        select_neurons(stats_of(planted()), SHAPE, replace(CONFIG, sites=("ffn", "q")))


@pytest.mark.parametrize(("values", "path"), [
    ({"top_frac": 1.5}, "top_frac"), ({"top_frac": 0.0}, "top_frac"), ({"threshold": -1.0}, "threshold"),
    ({"tau": 1.1}, "tau"), ({"minus_min_languages": 0}, "minus_min_languages"), ({"method": "lape"}, "sites"),
    ({"sites": ("ffn", "mlp")}, "sites")])
def test_bad_selection_settings_name_their_key(values, path):
    with pytest.raises(ConfigError) as caught:
        SelectionConfig(**values)
    assert caught.value.path == path
