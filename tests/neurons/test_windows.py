import numpy as np
import pytest

from sea_ray.errors import DataError
from sea_ray.neurons.config import DetectionConfig
from sea_ray.neurons.detection import collect_importance
from sea_ray.neurons.windows import Windows, cut_windows
from sea_ray.tracking import NullTracker

from .conftest import make_model

EOS, SIZE = 0, 6
CONFIG = DetectionConfig(window_tokens=SIZE, windows_per_language=2)
DOCUMENTS = ([11, 12, 13, 14], [21, 22, 23], [31, 32, 33, 34, 35, 36, 37], [41])


def text(documents=DOCUMENTS):
    return np.array([token for document in documents for token in (*document, EOS)])


def test_windows_count_each_documents_tokens_and_nothing_else():
    windows = cut_windows(text(), EOS, CONFIG, "th")
    rows = [ids[counted].tolist() for ids, counted in zip(windows.input_ids_WT, windows.counted_WT, strict=True)]
    assert rows == [[11, 12, 13, 14, 21, 22], [23, 31, 32, 33, 34, 35]]
    assert windows.first_document_W.tolist() == [0, 1]
    assert windows.numbers_W.tolist() == [0, 1]


def test_each_piece_opens_with_the_token_before_it_at_position_0():
    windows = cut_windows(text(), EOS, CONFIG, "th")
    assert windows.input_ids_WT.tolist() == [[EOS, 11, 12, 13, 14, EOS, 21, 22], [22, 23, EOS, 31, 32, 33, 34, 35]]
    assert windows.position_ids_WT.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2], [0, 1, 0, 1, 2, 3, 4, 5]]
    assert windows.segment_WT.tolist() == [[1, 1, 1, 1, 1, 2, 2, 2], [1, 1, 2, 2, 2, 2, 2, 2]]


def test_windows_are_disjoint_and_spread_over_the_text():
    windows = cut_windows(np.arange(1, 1000), EOS, CONFIG, "th")
    assert windows.input_ids_WT[:, 1].tolist() == [1, 499]
    with pytest.raises(DataError, match="'lo' has 11 tokens, 2 windows of 6 need 12"):
        cut_windows(np.arange(1, 12), EOS, CONFIG, "lo")


def test_a_row_of_several_documents_measures_what_each_shows_alone():
    """Sums over tokens add up over documents: squares of Imp of a shared row are those of the documents' own rows."""
    model = make_model(num_layers=1).double()
    shared = cut_windows(text(), EOS, CONFIG, "th")[:1]

    def squared(windows, counted):
        config = DetectionConfig(window_tokens=counted, query_key="exact")
        stats = collect_importance(model, {"th": windows}, config, NullTracker())
        return {site: stats["th", site].mean ** 2 for site in stats.sites}

    whole = squared(shared, SIZE)
    first = squared(_opened([11, 12, 13, 14]), 4)
    second = squared(_opened([21, 22]), 2)
    for site, values in whole.items():
        np.testing.assert_allclose(values, first[site] + second[site], rtol=1e-9, err_msg=site)


def test_padding_changes_nothing():
    model = make_model(num_layers=2).double()
    windows = cut_windows(text(), EOS, CONFIG, "th")
    padded = Windows(**{
        name: np.pad(value, ((0, 0), (0, 5))) if name.endswith("_WT") else value for name, value in vars(windows).items()})
    for mode in ("exact", "first_order"):
        config = DetectionConfig(window_tokens=SIZE, query_key=mode)
        plain, wide = (collect_importance(model, {"th": rows}, config, NullTracker()) for rows in (windows, padded))
        for key, part in plain.parts.items():
            np.testing.assert_allclose(wide[key].total, part.total, rtol=1e-10, err_msg=str(key))
            np.testing.assert_array_equal(wide[key].active, part.active)


def _opened(tokens):
    row = np.array([[EOS, *tokens]])
    windows = Windows.whole(row)
    return Windows(**vars(windows) | {"counted_WT": np.arange(row.shape[1])[None] > 0})
