from dataclasses import replace

import numpy as np
import pytest

from sea_ray.errors import ConfigError
from sea_ray.neurons.config import SelectionConfig
from sea_ray.neurons.controls import least_related, random_neurons, wrong_language_neurons
from sea_ray.neurons.selection import select_neurons
from sea_ray.neurons.sets import NeuronSet

from .planted import LANGUAGES, SHAPE, planted, stats_of

CONFIG = SelectionConfig(sites=("ffn",), top_frac=0.1)


def set_of(language, members):
    return NeuronSet(language=language, indices={("ffn", 0): np.array(members, np.int64)})


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


def test_wrong_language_gives_each_the_set_of_the_least_related_and_ties_go_by_order():
    sets = {"en": set_of("en", [1, 2, 3, 4]), "id": set_of("id", [4, 5, 6, 7]), "ms": set_of("ms", [5, 6, 7, 8]),
            "th": set_of("th", [1, 2, 8, 9])}
    assert least_related(sets) == {"en": "ms", "id": "th", "ms": "en", "th": "id"}
    wrong = wrong_language_neurons(sets)
    assert wrong["ms"] == set_of("ms", [1, 2, 3, 4])
    disjoint = {code: set_of(code, [place]) for place, code in enumerate(LANGUAGES)}
    assert least_related(disjoint) == {"en": "id", "id": "en", "ms": "en", "th": "en"}


def test_wrong_language_is_selected_like_any_other_method():
    stats = stats_of(planted(noise=0.1))
    own = select_neurons(stats, SHAPE, CONFIG)
    wrong = select_neurons(stats, SHAPE, replace(CONFIG, method="wrong_language"))
    assert wrong == wrong_language_neurons(own)
    for language in LANGUAGES:
        assert wrong[language].language == language
        assert wrong[language].count == own[language].count
        assert (wrong[language] & own[language]).count == 0


def test_wrong_language_needs_another_language():
    stats = stats_of({"th": planted()["th"]})
    with pytest.raises(ConfigError, match="needs the set of another language than th; measure at least 2"):
        select_neurons(stats, SHAPE, replace(CONFIG, method="wrong_language"))
