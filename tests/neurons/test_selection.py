from dataclasses import replace

import numpy as np
import pytest

from sea_ray.errors import ConfigError, DataError
from sea_ray.neurons.config import SelectionConfig
from sea_ray.neurons.selection import select_neurons
from sea_ray.neurons.sets import overlap_matrix
from sea_ray.neurons.statistics import ImportanceStats, SiteStatistics

from .planted import LANGUAGES, SHAPE, planted, shape_of, stats_of

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


def test_a_neuron_is_active_where_it_is_often_among_the_strongest():
    importance = planted(noise=0.6, windows=20)
    stats = stats_of(importance, ranks=(5, 20))
    for tau in (0.3, 0.9):
        config = replace(CONFIG, top_frac=0.0, hit_frac=0.2, tau=tau, specificity="minus", minus_min_languages=9)
        sets = select_neurons(stats, SHAPE, config)
        for language, values in importance.items():
            flat = values.reshape(20, 100)
            strongest = flat >= np.sort(flat, 1)[:, -20, None]
            expected = np.flatnonzero(strongest.mean(0) >= tau)
            found = [50 * layer + index for (_, layer), of_layer in sets[language].indices.items() for index in of_layer]
            assert found == expected.tolist()


def test_a_share_of_strongest_that_was_not_measured_is_refused_with_those_that_were():
    with pytest.raises(ConfigError, match=(
            r"selection\.hit_frac: .*strongest 0\.3 was not measured at ffn; detection\.top_fracs has 0\.05, 0\.2: choose")):
        select_neurons(stats_of(planted(), ranks=(5, 20)), SHAPE, replace(CONFIG, hit_frac=0.3))


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


def test_a_budget_is_a_share_or_a_number():
    stats = stats_of(planted(noise=1))
    numbered = select_neurons(stats, SHAPE, replace(CONFIG, top_frac=0.0, top_k=7))
    assert numbered == select_neurons(stats, SHAPE, replace(CONFIG, top_frac=0.07))
    assert numbered == select_neurons(stats, SHAPE, replace(CONFIG, top_frac=0.4, top_k=7))


@pytest.mark.parametrize("method", ["plnd", "shared"])
@pytest.mark.parametrize("budget", [{"top_k": 4}, {"top_frac": 0.08}])
def test_a_budget_per_layer_fills_every_layer_with_its_strongest(method, budget):
    stats = stats_of(planted(noise=0.3))
    config = replace(CONFIG, method=method, budget_per="layer", **budget)
    for language, found in select_neurons(stats, SHAPE, config).items():
        assert found.counts("ffn", 2) == [4, 4]
        if method == "plnd":
            planted_here = range(10 * LANGUAGES.index(language), 10 * LANGUAGES.index(language) + 10)
            assert set(found.indices["ffn", 1]) <= set(planted_here)


def released(site, hits, shape, windows=4):
    """Return statistics in which the released code's score put each index among the strongest so many times."""
    parts = {}
    for language, hits_LR in hits.items():
        part = SiteStatistics.zeros(2, shape.count(site), 1, gated=site == "ffn", num_released=len(hits_LR[0]))
        part.windows[:] = windows // 2
        part.released[:] = np.array([np.array(hits_LR) - np.array(hits_LR) // 2, np.array(hits_LR) // 2])
        parts[language, site] = part
    return ImportanceStats(window_tokens=8, ranks={site: (5,)}, parts=parts)


def test_the_released_rule_is_the_intersection_over_all_windows_less_what_others_have():
    shape = shape_of(2, 6)
    stats = released("ffn", {
        "en": [[4, 4, 3, 0, 0, 0], [0, 0, 0, 0, 4, 0]], "th": [[4, 0, 4, 0, 0, 0], [0] * 6],
        "vi": [[4, 0, 4, 0, 0, 4], [0] * 6]}, shape)
    config = SelectionConfig(method="plnd_released", sites=("ffn",))
    with pytest.raises(ConfigError, match=r"selection\.method: plnd_released selects 0 of 12 neurons for 'th'.*"
                       r"raise selection\.minus_min_languages \(1\) or measure fewer windows"):
        select_neurons(stats, shape, config)
    sets = select_neurons(stats, shape, replace(config, minus_min_languages=2))
    plain = {language: {key: found.tolist() for key, found in own.indices.items()} for language, own in sets.items()}
    assert plain == {"en": {("ffn", 0): [1], ("ffn", 1): [4]}, "th": {("ffn", 0): [2]}, "vi": {("ffn", 0): [2, 5]}}


@pytest.mark.parametrize(("site", "rows"), [("q", [0, 5, 14]), ("v", [0, 2, 7]), ("k", [0, 2, 7])])
def test_the_released_rule_divides_the_index_of_grouped_heads_by_their_number(site, rows):
    shape = shape_of(2, 50)  # 4 query heads on 2 kv heads of width 4: the released code's map is c // 2
    hits = np.zeros((2, 16), int)
    hits[1, [0, 5, 14]] = 4
    hits[1, [1, 4, 8]] = 3  # 1 and 4 map where a hit is, 8 alone
    stats = released(site, {"th": hits.tolist(), "en": np.full((2, 16), 3).tolist()}, shape)
    config = SelectionConfig(method="plnd_released", sites=(site,))
    with pytest.raises(ConfigError, match="'en'"):
        select_neurons(stats, shape, config)
    stats = ImportanceStats(window_tokens=8, ranks=stats.ranks, parts={("th", site): stats["th", site]})
    assert select_neurons(stats, shape, config)["th"].indices[site, 1].tolist() == rows


def test_the_released_rule_finds_what_the_released_score_ranks_high_in_every_window():
    importance = planted(noise=0.1)
    for place, values in enumerate(importance.values()):
        values[:, :, :] = np.where(np.arange(50) % 4 == place, 0.1, 1) * values  # a quarter of each layer is never strong
    config = SelectionConfig(method="plnd_released", sites=("ffn",), minus_min_languages=3, max_share=1.0)
    sets = select_neurons(stats_of(importance), SHAPE, config)
    for place, language in enumerate(LANGUAGES):
        assert (sets[language].indices["ffn", 1] % 4 != place).all()


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


def test_statistics_of_another_model_are_refused():
    with pytest.raises(DataError, match="hold 2 layers of 50 ffn neurons, the model has 3 of 44: they were measured on"):
        select_neurons(stats_of(planted()), shape_of(3, 44), CONFIG)


def test_lape_that_finds_nothing_says_which_settings_to_change():
    active = {language: np.full((2, 50), 4) for language in LANGUAGES}
    config = SelectionConfig(method="lape", sites=("ffn",), top_frac=0.04)
    with pytest.raises(ConfigError, match=r"raise selection\.top_frac or lower selection\.lape_quantile \(0\.95\)"):
        select_neurons(stats_of(planted(), active), SHAPE, config)


def test_a_site_that_was_not_measured_is_refused():
    with pytest.raises(ConfigError, match=r"'q' was not measured; detection\.sites has ffn"):
        select_neurons(stats_of(planted()), SHAPE, replace(CONFIG, sites=("ffn", "q")))


@pytest.mark.parametrize(("values", "path"), [
    ({"top_frac": 1.5}, "top_frac"), ({"top_frac": 0.0}, "top_frac"), ({"threshold": -1.0}, "threshold"),
    ({"tau": 1.1}, "tau"), ({"top_k": -1}, "top_k"), ({"hit_frac": 2.0}, "hit_frac"), ({"min_stability": 1.5}, "min_stability"),
    ({"threshold": 1.0, "hit_frac": 0.1}, "hit_frac"), ({"method": "shared", "top_frac": 0.0, "threshold": 1.0}, "top_frac"),
    ({"minus_min_languages": 0}, "minus_min_languages"), ({"method": "lape"}, "sites"),
    ({"sites": ("ffn", "mlp")}, "sites")])
def test_bad_selection_settings_name_their_key(values, path):
    with pytest.raises(ConfigError) as caught:
        SelectionConfig(**values)
    assert caught.value.path == path
