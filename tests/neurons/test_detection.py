import numpy as np
import pytest
import torch

from sea_ray.errors import ConfigError, DataError
from sea_ray.neurons.config import DetectionConfig
from sea_ray.neurons.detection import collect_importance
from sea_ray.neurons.sites import describe
from sea_ray.neurons.untouched import tensor_digests
from sea_ray.neurons.windows import Windows
from sea_ray.tracking import NullTracker

from .conftest import TOKENS, VOCAB, make_model, windows_of

CONFIG = DetectionConfig(window_tokens=TOKENS, windows_per_language=4)


def collect(model, windows, config=CONFIG, first=0, **options):
    """Measure plain rows of token ids, or windows."""
    own = {name: rows if isinstance(rows, Windows) else Windows.whole(rows, first) for name, rows in windows.items()}
    return collect_importance(model, own, config, NullTracker(), **options)


def counts(part):
    return part.windows, part.tokens, part.histogram, part.hits, part.released, part.active


def test_batch_size_changes_nothing_but_rounding(model):
    windows = {"th": windows_of(9), "vi": windows_of(9, seed=1)}
    one, four = (collect(model.double(), windows, batch_windows=size) for size in (1, 4))
    for key, part in one.parts.items():
        np.testing.assert_allclose(part.total, four[key].total, rtol=1e-10)
        np.testing.assert_allclose(part.squares, four[key].squares, rtol=1e-10)
        for single, batched in zip(counts(part), counts(four[key]), strict=True):
            np.testing.assert_array_equal(single, batched)


def test_shards_merge_to_the_whole_in_any_order(model):
    windows = {"th": windows_of(10), "vi": windows_of(10, seed=1)}
    whole = collect(model.double(), windows)
    cuts = [(0, 3), (3, 4), (4, 10)]
    shards = [collect(model, {name: rows[a:b] for name, rows in windows.items()}, first=a) for a, b in cuts]
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        merged = shards[order[0]] + (shards[order[1]] + shards[order[2]])
        for key, part in whole.parts.items():
            np.testing.assert_allclose(merged[key].total, part.total, rtol=1e-12)
            np.testing.assert_allclose(merged[key].squares, part.squares, rtol=1e-12)
            for found, expected in zip(counts(merged[key]), counts(part), strict=True):
                np.testing.assert_array_equal(found, expected)


def test_statistics_agree_with_each_window_on_its_own(model):
    windows = windows_of(6)
    whole = collect(model, {"th": windows})["th", "ffn"]
    single = np.stack([collect(model, {"th": row[None]})["th", "ffn"].mean for row in windows])
    np.testing.assert_allclose(whole.mean, single.mean(0), rtol=1e-5)
    np.testing.assert_allclose(whole.squares[1], np.square(single[1::2]).sum(0), rtol=1e-5)
    assert whole.windows.tolist() == [3, 3]
    assert whole.tokens.tolist() == [3 * TOKENS, 3 * TOKENS]
    assert (whole.histogram.sum((0, 1)) == 6).all()
    strongest = (single.reshape(6, -1).argsort(1).argsort(1) >= single[0].size - round(0.1 * single[0].size)).sum(0)
    np.testing.assert_array_equal(whole.hits[:, -1].sum(0).ravel(), strongest)


def test_open_gates_are_counted_per_token(model):
    windows = windows_of(4)
    opened = []
    act_fn = model.model.layers[1].mlp.act_fn
    handle = act_fn.register_forward_hook(lambda _m, _i, out: opened.append((out > 0).sum((0, 1))))
    with torch.no_grad():
        model(input_ids=torch.from_numpy(windows))
    handle.remove()
    found = collect(model, {"th": windows})["th", "ffn"]
    np.testing.assert_array_equal(found.active.sum(0)[1], opened[0].numpy())
    np.testing.assert_allclose(found.probability[1], opened[0].numpy() / windows.size)


def test_the_model_is_left_as_it_was(model):
    model.train()
    before = tensor_digests(model)
    collect(model, {"th": windows_of(2)})
    assert model.training
    assert tensor_digests(model) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_only_the_asked_sites_are_measured(model):
    stats = collect(model, {"th": windows_of(2)}, DetectionConfig(window_tokens=TOKENS, sites=("v", "q")))
    assert stats.sites == ("v", "q")
    assert set(stats.parts) == {("th", "v"), ("th", "q")}


def test_statistics_survive_the_disk(model, tmp_path):
    stats = collect(model, {"th": windows_of(3), "vi": windows_of(2)})
    stats.save(tmp_path)
    loaded = type(stats).load(tmp_path)
    assert (loaded.window_tokens, loaded.ranks, loaded.languages) == (stats.window_tokens, stats.ranks, ("th", "vi"))
    for key, part in stats.parts.items():
        for name, value in vars(part).items():
            found = getattr(loaded[key], name)
            assert found.dtype == value.dtype
            np.testing.assert_array_equal(found, value)


def test_nan_names_layer_and_window(model):
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[5] = torch.nan
    with pytest.raises(DataError, match=r"layer 1 \(ffn\) in window 0 of 'th'"):
        collect(model, {"th": windows_of(2)})


def test_nan_of_one_document_names_that_window(model):
    windows = windows_of(6)
    windows[windows == 7] = 8
    windows[4, 3] = 7
    with torch.no_grad():
        model.model.embed_tokens.weight[7] = torch.nan
    with pytest.raises(DataError, match=r"layer 0 \(.*\) in window 14 of 'vi'"):
        collect(model, {"th": windows[:4], "vi": windows}, first=10)


def test_windows_of_another_length_are_refused(model):
    with pytest.raises(DataError, match="count 23 to 23 tokens, 24 are needed"):
        collect(model, {"th": windows_of(2)[:, :23]})


def test_statistics_of_other_windows_do_not_add(model):
    first = collect(model, {"th": windows_of(2)})
    second = collect(model, {"th": windows_of(2)[:, :8]}, DetectionConfig(window_tokens=8))
    with pytest.raises(DataError, match="windows of 24 and 8 tokens"):
        first + second


def test_text_of_another_tokenizer_is_refused(model):
    with pytest.raises(DataError, match=r"holds token 97, the model has 97: .* another base"):
        collect(model, {"th": np.full((2, TOKENS), VOCAB)})


def test_another_activation_is_refused(model):
    model.config.hidden_act = "gelu"
    with pytest.raises(ConfigError, match="activation 'gelu' is not known"):
        collect(model, {"th": windows_of(2)})


def test_unknown_family_is_refused_by_name(model):
    model.config.model_type = "mamba"
    with pytest.raises(ConfigError, match=r"'mamba' is not known .* qwen2"):
        collect(model, {"th": windows_of(2)})


def test_sliding_attention_is_refused_where_it_would_cut_a_window(model):
    model.config.layer_types = ["full_attention", "full_attention", "sliding_attention"]
    model.config.sliding_window = 16
    with pytest.raises(ConfigError, match="24 makes rows of 24 tokens, beyond the 16"):
        collect(model, {"th": windows_of(2)})


@pytest.mark.parametrize(("values", "path"), [
    ({"sites": ()}, "sites"), ({"sites": ("ffn", "fnn")}, "sites"), ({"sites": ("v", "v")}, "sites"),
    ({"window_tokens": 1}, "window_tokens"), ({"windows_per_language": 1}, "windows_per_language"),
    ({"top_fracs": (0.0,)}, "top_fracs")])
def test_bad_detection_settings_name_their_key(values, path):
    with pytest.raises(ConfigError) as caught:
        DetectionConfig(**values)
    assert caught.value.path == path


def test_the_architecture_counts_every_neuron_once():
    model = make_model()
    architecture = describe(model)
    every = list(architecture.keys())
    owned = sum(architecture.count(site) * architecture.values_per_neuron(site) for site, _ in every)
    blocks = sum(parameter.numel() for name, parameter in model.named_parameters() if "_proj" in name)
    assert owned == blocks
