"""Sums on a device are those that a loop over windows makes, and what a GPU computes is what the processor does."""

import numpy as np
import pytest
import torch

from sea_ray.neurons.config import RELEASED_ATTENTION_SHARE, RELEASED_FFN_SHARE, DetectionConfig
from sea_ray.neurons.detection import collect_importance
from sea_ray.neurons.importance import value_gram, value_importance
from sea_ray.neurons.statistics import NUM_BINS, SiteStatistics, bin_position
from sea_ray.neurons.sums import Observation, SiteSums
from sea_ray.neurons.windows import cut_windows
from sea_ray.tracking import NullTracker

from .conftest import TOKENS, VOCAB, make_model

L, N, R, RANKS = 3, 40, 24, (2, 7, 30)


def window_by_window(part: SiteStatistics, importance, released, active, parity, window_tokens) -> None:
    """The slow obvious way."""
    share = RELEASED_ATTENTION_SHARE if active is None else RELEASED_FFN_SHARE
    for row, half in enumerate(parity):
        importance_LN = importance[row].astype(np.float64)
        part.windows[half] += 1
        part.tokens[half] += window_tokens
        part.total[half] += importance_LN
        part.squares[half] += importance_LN**2
        for layer, neuron in np.ndindex(L, N):
            part.histogram[half, int(bin_position(importance_LN)[layer, neuron]), layer, neuron] += 1
        for place, rank in enumerate(RANKS):
            for index in np.argsort(-importance_LN, axis=None)[:rank]:
                part.hits[half, place, index // N, index % N] += 1
        for layer, score_R in enumerate(released[row]):
            part.released[half, layer, np.argsort(-score_R)[:round(share * R)]] += 1
        if active is not None:
            part.active[half] += active[row]


@pytest.fixture(params=[False, True], ids=["processor", "accelerator"])
def _kind(request, monkeypatch):
    """Compute as on either kind of device."""
    for module in ("importance", "sums", "attention_importance"):
        monkeypatch.setattr(f"sea_ray.neurons.{module}.on_processor", lambda _: not request.param)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.usefixtures("_kind")
def test_batches_of_windows_sum_to_what_a_loop_over_windows_makes(gated, dtype):
    generator = np.random.default_rng(0)
    importance = np.exp(8 * generator.normal(size=(9, L, N))).astype(dtype)
    importance[:, 1, 3], importance[2, 0, 0] = 0, 2.0**-20
    released, active = generator.random((9, L, R)).astype(dtype), generator.integers(0, 9, (9, L, N))
    parity = np.array([0, 0, 0, 1, 0, 1, 1, 0, 1])
    expected, nothing = (SiteStatistics.zeros(L, N, len(RANKS), gated, num_released=R) for _ in range(2))
    window_by_window(expected, importance, released, active if gated else None, parity, 8)
    sums = SiteSums(nothing, RANKS, torch.device("cpu"))
    for rows in (slice(0, 5), slice(5, 6), slice(6, 9)):
        seen = Observation(*(torch.from_numpy(values[rows]) for values in (importance, released, active)))
        sums.add(seen if gated else seen._replace(active_BLN=None), torch.from_numpy(parity[rows]), 8)
    assert sums.first_wrong() is None
    for name, value in vars(expected).items():
        found = getattr(sums.statistics(), name)
        assert found.dtype == value.dtype
        np.testing.assert_allclose(found, value, rtol=1e-13, err_msg=name)


def test_what_is_not_finite_is_found_by_layer_and_window_and_breaks_nothing_before():
    sums = SiteSums(SiteStatistics.zeros(L, N, 1, False, num_released=R), (2,), torch.device("cpu"))
    assert sums.first_wrong() is None
    for start in (0, 2):
        values = torch.ones(2, L, N)
        if start:
            values[1, 2, 5], values[0, 1, 7], values[1, 1, 0] = torch.nan, torch.inf, -torch.inf
        sums.add(Observation(values, torch.ones(2, L, R), None), torch.tensor([0, 1]), 8)
    assert sums.first_wrong() == (1, 2)
    assert sums.statistics().histogram.sum() == 4 * L * N
    assert sums.statistics().histogram[:, [0, NUM_BINS - 1]].sum() == 3


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize("query_key", ["first_order", "exact"])
def test_an_accelerators_way_to_sum_tokens_finds_what_the_processors_does(family, query_key, monkeypatch):
    """In windows of several documents, with tokens that do not count and padding, several to a batch."""
    text = np.random.default_rng(3).integers(1, VOCAB, 400)
    text[np.random.default_rng(4).choice(400, 30, replace=False)] = 0
    config = DetectionConfig(window_tokens=TOKENS, windows_per_language=7, query_key=query_key)
    windows = {"th": cut_windows(text, 0, config, "th")}
    assert not windows["th"].counted_WT.all()
    model, found = make_model(family=family).double(), []
    for own in (True, False):
        for module in ("importance", "sums", "attention_importance"):
            monkeypatch.setattr(f"sea_ray.neurons.{module}.on_processor", lambda _, own=own: own)
        found.append(collect_importance(model, windows, config, NullTracker(), batch_windows=3))
    for key, part in found[0].parts.items():
        for name, value in vars(part).items():
            np.testing.assert_allclose(getattr(found[1][key], name), value, rtol=1e-9, atol=1e-12, err_msg=f"{key} {name}")


def test_value_importance_meets_each_pair_of_heads_once():
    generator = torch.Generator().manual_seed(0)
    context_BTF = torch.randn(2, 5, 2 * 3 * 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(7, 2 * 3 * 4, generator=generator, dtype=torch.float64)
    counted_BT = torch.tensor([[1, 0, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.float64)
    found_BGD = value_importance(context_BTF, counted_BT, value_gram(weight, 2, 4)).unflatten(1, (2, 4))
    for group, dim in np.ndindex(2, 4):
        columns = [(group * 3 + rep) * 4 + dim for rep in range(3)]
        change_BTM = (context_BTF[..., columns] @ weight[:, columns].T) * counted_BT[..., None]
        torch.testing.assert_close(found_BGD[:, group, dim], change_BTM.flatten(1).norm(dim=1))
