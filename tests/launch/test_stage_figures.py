"""What a finished stage shows of itself."""

import pytest

from sea_ray.artifacts import StageKey, Store
from sea_ray.execution import Stage
from sea_ray.launch.stage_figures import figures, made, neuron_map

FACTS = {"gain_sea": 0.2, "after": {"id": 1.5, "th": 1.25}, "runs": {"th": {"training": {}}}, "language": "all",
         "counts": {"th": {"ffn": [3, 0], "q": [1, 2]}}, "losses": [[0, 1.0]]}


def committed(store, kind="neurons", facts=FACTS, **parents):
    key = StageKey(kind=kind, name=kind, config={}, parents=parents)
    with store.building(key) as folder:
        return store.commit(key, folder, facts, {"peak_memory_bytes": 1 << 30}, 1800.0)


def test_numbers_are_figures_and_those_of_languages_carry_their_code(tmp_path):
    artifact = committed(Store(str(tmp_path)))
    assert figures(artifact, 0.0) == {"gain_sea": 0.2, "after/id": 1.5, "after/th": 1.25, "cost/seconds": 1800.0,
                                      "cost/peak_memory_bytes": 1 << 30}
    assert figures(artifact, 3.0)["cost/usd"] == pytest.approx(1.5)


def test_the_neuron_map_has_a_row_per_language_site_and_layer(tmp_path):
    store = Store(str(tmp_path))
    assert neuron_map(committed(store)) == [("th", "ffn", 0, 3), ("th", "ffn", 1, 0), ("th", "q", 0, 1), ("th", "q", 1, 2)]
    assert neuron_map(committed(store, kind="base", facts={})) == []


def test_a_result_is_told_with_its_place_and_what_it_was_made_from(tmp_path):
    store = Store(str(tmp_path))
    base = committed(store, kind="base", facts={})
    artifact = committed(store, base=base.fingerprint)
    told = made(artifact, store, Stage(kind="neurons", name="n", function="", config={}, parents={"base": base}))
    assert (told.kind, told.fingerprint, told.address) == ("neurons", artifact.fingerprint, str(artifact.folder))
    assert told.record.is_file()
    assert [(parent.kind, parent.fingerprint) for parent in told.parents] == [("base", base.fingerprint)]
