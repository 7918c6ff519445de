from dataclasses import replace

import numpy as np
import pytest

from sea_ray.errors import DataError
from sea_ray.neurons.config import SelectionConfig
from sea_ray.neurons.selection import select_neurons
from sea_ray.neurons.stability import stability, windows_for_jaccard

from .planted import LANGUAGES, SHAPE, planted, shape_of, stats_of

CONFIG = SelectionConfig(sites=("ffn",), top_frac=0.1)
WIDE = shape_of(2, 1500)


def test_stability_is_high_for_planted_neurons_and_low_for_noise():
    assert min(stability(stats_of(planted(noise=0.1)), SHAPE, CONFIG).values()) == 1
    noise = {language: np.exp(np.random.default_rng(i).normal(size=(6, 2, 50))) for i, language in enumerate(LANGUAGES)}
    assert max(stability(stats_of(noise), SHAPE, CONFIG).values()) < 0.7


def test_a_control_is_judged_by_the_sets_that_it_is_made_from():
    stats = stats_of(planted(noise=1))
    for method in ("random", "random_matched", "wrong_language"):
        assert stability(stats, SHAPE, replace(CONFIG, method=method)) == stability(stats, SHAPE, CONFIG)


def test_halves_that_find_nothing_do_not_agree():
    values = planted()
    values["th"][:2, 1, 30:40] = 0.5  # one window of each half
    config = replace(CONFIG, top_frac=0.0, threshold=2.0)
    assert stability(stats_of(values), SHAPE, config) == {"en": 1, "id": 1, "ms": 1, "th": 0}


def gamma_means(language_sd=0.5):
    """True mean Imp: a gamma-distributed part that all languages share times one of each language's own."""
    generator = np.random.default_rng(3)
    common = generator.gamma(1, 1, (2, 1500)) + 0.01
    shape = 1 / language_sd**2
    return {language: common * generator.gamma(shape, 1 / shape, (2, 1500)) for language in LANGUAGES}


def measure(means, windows, seed, shape=1.0):
    """Return statistics of windows whose Imp is gamma-distributed around its true mean."""
    generator = np.random.default_rng(seed)
    draws = {language: mean * generator.gamma(shape, 1 / shape, (windows, 2, 1500)) for language, mean in means.items()}
    return stats_of(draws)


def gates(windows, seed):
    """Return statistics of gates that open at random around a rate that differs from window to window."""
    rates = np.random.default_rng(7).beta(0.6, 1.2, (len(LANGUAGES), 1, 2, 1500))
    generator = np.random.default_rng(seed)
    own = generator.beta(5 * rates + 1e-6, 5 * (1 - rates) + 1e-6, (len(LANGUAGES), windows, 2, 1500))
    opened = dict(zip(LANGUAGES, generator.binomial(32, own), strict=True))
    return stats_of({language: np.ones((windows, 2, 1500)) for language in LANGUAGES}, opened, window_tokens=32)


def first_agreeing(take, config, target):
    """Return, per language, the windows of each half at which halves first agree on average; the slow obvious way."""
    found, windows = {}, 4
    while len(found) < len(LANGUAGES):
        repeats = [stability(take(2 * windows, 100 + seed), WIDE, config) for seed in range(4)]
        for language in LANGUAGES:
            if np.mean([repeat[language] for repeat in repeats]) >= target:
                found.setdefault(language, windows)
        windows = round(windows * 1.3) + 1
    return found


MINUS = replace(CONFIG, specificity="minus", minus_min_languages=2)
LAPE = SelectionConfig(method="lape", sites=("ffn",), top_frac=0.3, lape_quantile=0.6)


@pytest.mark.parametrize(("config", "source", "windows", "target"), [
    (CONFIG, "gamma", 64, 0.6), (CONFIG, "gamma", 32, 0.5), (MINUS, "gamma", 16, 0.6), (LAPE, "gates", 32, 0.75)])
def test_the_predicted_number_of_windows_is_right_within_a_factor_of_two(config, source, windows, target):
    def take(number, seed):
        return measure(gamma_means(), number, seed) if source == "gamma" else gates(number, seed)

    predicted = windows_for_jaccard(take(windows, 0), WIDE, config, target, seed=0)
    truth = first_agreeing(take, config, target)
    for language in LANGUAGES:
        assert truth[language] / 2 <= predicted[language] <= truth[language] * 2


def test_more_windows_agree_more_and_a_higher_target_needs_more():
    means = gamma_means()
    agreements = [np.mean(list(stability(measure(means, windows, 1), WIDE, CONFIG).values())) for windows in (8, 32, 128)]
    assert agreements == sorted(agreements)
    stats = measure(means, 32, 0)
    few, many = (windows_for_jaccard(stats, WIDE, CONFIG, target, seed=0) for target in (0.5, 0.7))
    assert all(few[language] < many[language] for language in LANGUAGES)
    assert few == windows_for_jaccard(stats, WIDE, CONFIG, 0.5, seed=0)


def test_what_never_settles_has_no_number_of_windows():
    stats = stats_of(planted(noise=0.3))
    nothing = dict.fromkeys(LANGUAGES)
    for config in (SelectionConfig(method="plnd_released", sites=("ffn",)), replace(CONFIG, threshold=1.0, tau=1.0)):
        assert windows_for_jaccard(stats, SHAPE, config, 0.5, seed=0) == nothing


def test_languages_that_do_not_differ_are_refused_without_a_promise():
    alike = dict.fromkeys(LANGUAGES, gamma_means()["en"])
    stats = measure(alike, 16, 0)
    assert set(windows_for_jaccard(stats, WIDE, CONFIG, 0.999, seed=0).values()) == {None}
    with pytest.raises(DataError, match=(
            r"'en' reaches 0\.\d\d with 16 windows \(128 tokens\) and is not predicted to with up to 2,097,152; 'id' .*: "
            r"select more neurons or by another rule, or lower selection\.min_stability")):
        select_neurons(stats, WIDE, replace(CONFIG, min_stability=0.999))


def test_unstable_neurons_are_refused_with_how_much_text_is_needed():
    stats = stats_of(planted(noise=0.8, windows=12))
    measured = stability(stats, SHAPE, CONFIG)
    needed = windows_for_jaccard(stats, SHAPE, CONFIG, 0.9, seed=0)
    with pytest.raises(DataError) as caught:
        select_neurons(stats, SHAPE, replace(CONFIG, min_stability=0.9))
    for language, agreement in measured.items():
        if agreement < 0.9:
            windows = 2 * needed[language]
            assert (f"'{language}' reaches {agreement:.2f} with 12 windows (96 tokens) and needs about {windows:,} "
                    f"({8 * windows:,} tokens)") in str(caught.value)
    most = 2 * max(needed[language] for language, agreement in measured.items() if agreement < 0.9)
    assert f"raise detection.windows_per_language to {most:,}, adding text" in str(caught.value)


def test_neurons_that_are_stable_enough_pass():
    stats = stats_of(planted(noise=0.1))
    assert select_neurons(stats, SHAPE, replace(CONFIG, min_stability=1.0)) == select_neurons(stats, SHAPE, CONFIG)
