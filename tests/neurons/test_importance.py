import numpy as np
import pytest
import torch

from sea_ray.neurons.attention_importance import HeadNorm, _exact, _first_order, _Heads, _hidden, _Turn
from sea_ray.neurons.config import DetectionConfig
from sea_ray.neurons.detection import collect_importance
from sea_ray.neurons.windows import Windows
from sea_ray.tracking import NullTracker

from .conftest import FAMILIES, TOKENS, brute_importance, make_model, ruled_windows, windows_of


@pytest.fixture
def _exact_softmax(monkeypatch):
    """transformers' eager attention rounds probabilities to float32, which a removed millionth would drown in."""
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda x, dim, dtype: torch.softmax(x, dim))


def measured(model, windows, **config):
    config = DetectionConfig(window_tokens=TOKENS, **config)
    stats = collect_importance(model, {"th": Windows.whole(windows)}, config, NullTracker())
    return {site: stats["th", site].mean for site in stats.sites}


def brute(model, windows, site, **options):
    return np.stack([
        np.mean([brute_importance(model, window, site, layer, **options) for window in windows], axis=0)
        for layer in range(model.config.num_hidden_layers)])


def spearman(first, second):
    ranks = [np.argsort(np.argsort(values, axis=None)) for values in (first, second)]
    return np.corrcoef(*ranks)[0, 1]


@pytest.mark.parametrize("site", ["ffn", "v", "q", "k"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("_exact_softmax")
def test_exact_importance_equals_removing_the_neuron(family, site):
    model, windows = make_model(num_layers=2, family=family).double(), windows_of(2)
    found = measured(model, windows, query_key="exact")[site]
    np.testing.assert_allclose(found, brute(model, windows, site), rtol=1e-5)


def test_float32_importance_equals_float64():
    windows = windows_of(2)
    single, double = measured(make_model(), windows), measured(make_model().double(), windows)
    for site in single:
        np.testing.assert_allclose(single[site], double[site], rtol=2e-4, err_msg=site)


@pytest.mark.parametrize("site", ["q", "k"])
@pytest.mark.parametrize("family", ["qwen2", "llama"])
@pytest.mark.usefixtures("_exact_softmax")
def test_first_order_importance_is_the_limit_of_removing_a_little_of_the_row(family, site):
    model, windows = make_model(num_layers=2, family=family).double(), windows_of(2)
    np.testing.assert_allclose(measured(model, windows)[site], brute(model, windows, site, removed=1e-6), rtol=1e-4)


@pytest.mark.parametrize("normed", [False, True])
def test_first_order_importance_is_the_softmax_linearised_at_the_removed_logits(normed):
    heads = random_heads(normed)
    hidden, ones = _hidden(torch.zeros(12, dtype=torch.int64), torch.float64), torch.ones(12, dtype=torch.float64)
    found = _first_order(heads, hidden, ones, 0)
    for number, kind in enumerate(("q", "k", "own")):
        torch.testing.assert_close(found[number], linearised(heads, hidden, kind), rtol=1e-9, atol=0)


@pytest.mark.parametrize("site", ["q", "k"])
def test_query_and_key_importance_ranks_like_removing_the_row_in_a_trained_model(trained_model, site):
    windows = ruled_windows(6, seed=1000)
    assert spearman(measured(trained_model, windows)[site], brute(trained_model, windows, site)) >= 0.97


def test_the_released_score_takes_away_the_rotated_rows_own_product_unscaled():
    heads = random_heads(normed=False)
    hidden, ones = _hidden(torch.zeros(12, dtype=torch.int64), torch.float64), torch.ones(12, dtype=torch.float64)
    products = heads.products()
    before = (products * heads.q_PTD.shape[2] ** -0.5 + hidden).softmax(2)
    own = heads.turned_q_PTD[:, :, None] * heads.turned_k_PTD[:, None]
    after = (products[..., None] * heads.q_PTD.shape[2] ** -0.5 - own + hidden[..., None]).softmax(2)
    expected = (after - before[..., None]).square().sum((1, 2))
    torch.testing.assert_close(_exact(heads, hidden, ones, 1 << 18)[2], expected)


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_chunking_of_attention_probabilities_changes_nothing(monkeypatch, family):
    model, windows = make_model(family=family).double(), windows_of(3)
    whole = measured(model, windows)
    exact = measured(model, windows, query_key="exact")
    monkeypatch.setattr("sea_ray.neurons.attention_importance.CPU_CHUNK_VALUES", 3 * TOKENS**2)
    monkeypatch.setattr("sea_ray.neurons.attention_importance.CPU_QUERY_TOKENS", TOKENS // 2 - 1)
    for mode, expected in (("first_order", whole), ("exact", exact)):
        for site, importance in measured(model, windows, query_key=mode).items():
            np.testing.assert_allclose(importance, expected[site], rtol=1e-12)


def random_heads(normed, num_heads=3, num_tokens=12, d_head=8):
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, num_heads, num_tokens, d_head, generator=generator, dtype=torch.float64)
    angles = torch.arange(num_tokens, dtype=torch.float64)[:, None] * torch.rand(d_head // 2, generator=generator)
    angles = torch.cat((angles, angles), 1)
    norm = HeadNorm(weight_D=1 + torch.rand(d_head, generator=generator, dtype=torch.float64), eps=1e-6)
    return _Heads.of(q, k, (norm, norm) if normed else None, _Turn.by(angles.cos(), angles.sin()))


def linearised(heads, hidden_IJ, kind):
    """Return the squared norm of -A (delta - mean) with the logits delta that each row takes away, [P, D]: row by row."""
    num_heads, _, d_head = heads.q_PTD.shape
    scale, products = d_head**-0.5, heads.products()
    a_PIJ = (products * scale + hidden_IJ).softmax(2)
    squares = torch.zeros(num_heads, d_head, dtype=torch.float64)
    for row in range(d_head):
        if kind == "own":
            delta = heads.turned_q_PTD[:, :, None, row] * heads.turned_k_PTD[:, None, :, row]
        else:
            own = heads.q_PTD if kind == "q" else heads.k_PTD
            growth = heads.growth_q_PTD if kind == "q" else heads.growth_k_PTD
            rest = own if growth is None else own * growth[..., row, None]
            rest = torch.where(torch.arange(d_head) == row, 0, rest)
            q, k = (heads.turn_q(rest), heads.turned_k_PTD) if kind == "q" else (heads.turned_q_PTD, heads.turn_k(rest))
            delta = (products - q @ k.mT) * scale
        mean = (a_PIJ * delta).sum(2, keepdim=True)
        squares[:, row] = (a_PIJ * (delta - mean)).square().sum((1, 2))
    return squares
