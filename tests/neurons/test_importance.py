import numpy as np
import pytest
import torch

from sea_ray.neurons.config import DetectionConfig
from sea_ray.neurons.detection import collect_importance
from sea_ray.tracking import NullTracker

from .conftest import TOKENS, brute_importance, make_model, ruled_windows, windows_of


def measured(model, windows, **config):
    stats = collect_importance(model, {"th": windows}, DetectionConfig(window_tokens=TOKENS, **config), NullTracker())
    return {site: stats["th", site].mean for site in stats.sites}


def brute(model, windows, site, **options):
    return np.stack([
        np.mean([brute_importance(model, window, site, layer, **options) for window in windows], axis=0)
        for layer in range(model.config.num_hidden_layers)])


def spearman(first, second):
    ranks = [np.argsort(np.argsort(values, axis=None)) for values in (first, second)]
    return np.corrcoef(*ranks)[0, 1]


@pytest.mark.parametrize("site", ["ffn", "v"])
def test_ffn_and_value_importance_equal_removing_the_neuron(site):
    model, windows = make_model().double(), windows_of(2)
    np.testing.assert_allclose(measured(model, windows)[site], brute(model, windows, site), rtol=1e-5)


def test_float32_importance_equals_float64():
    windows = windows_of(2)
    single, double = measured(make_model(), windows), measured(make_model().double(), windows)
    for site in single:
        np.testing.assert_allclose(single[site], double[site], rtol=2e-4, err_msg=site)


@pytest.mark.parametrize("site", ["q", "k"])
def test_query_and_key_importance_is_the_first_order_of_removing_the_row(monkeypatch, site):
    # transformers' eager attention rounds probabilities to float32, which a removed millionth would drown in
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda x, dim, dtype: torch.softmax(x, dim))
    model, windows = make_model().double(), windows_of(2)
    np.testing.assert_allclose(measured(model, windows)[site], brute(model, windows, site, removed=1e-6), rtol=1e-4)


@pytest.mark.parametrize("site", ["q", "k"])
def test_query_and_key_importance_ranks_like_removing_the_row_in_a_trained_model(trained_model, site):
    windows = ruled_windows(6, seed=1000)
    assert spearman(measured(trained_model, windows)[site], brute(trained_model, windows, site)) >= 0.97


def test_chunking_of_attention_probabilities_changes_nothing(monkeypatch):
    model, windows = make_model().double(), windows_of(3)
    whole = measured(model, windows)
    monkeypatch.setattr("sea_ray.neurons.importance.CHUNK_PROBABILITIES", 3 * TOKENS**2)
    for site, importance in measured(model, windows).items():
        np.testing.assert_allclose(importance, whole[site], rtol=1e-12)
