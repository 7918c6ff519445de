"""notebooks/detection.ipynb runs from its first cell to its last, with small settings in place of its own."""

import json
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[1] / "notebooks" / "detection.ipynb"
SMALL = ["corpus.languages=[en,id,ms,th]", "neurons.languages=[id,ms,th]"]
KEPT = ("corpus.demo", "model", "training", "neurons.detection", "neurons.training")
"""Parts of the miniature experiment's overrides that suit the notebook's."""


@pytest.fixture(scope="module")
def cells():
    return json.loads(FILE.read_text(encoding="utf-8"))["cells"]


def is_parameters(cell):
    return "parameters" in cell["metadata"].get("tags", [])


def test_it_is_kept_without_outputs(cells):
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert sum(map(is_parameters, code)) == 1
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in cells}) == len(cells)


def test_its_cells_run_in_order(cells, miniature, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{FILE.name} {cell['id']}", "exec"), names)
        if is_parameters(cell):
            assert names["SETTINGS"]
            names["SETTINGS"] = [*SMALL, *(one for one in miniature if one.startswith(KEPT))]
    assert set(names["sets"]) == {"en", "id", "ms", "th"}
    assert all(names["sets"][code].count for code in ("id", "ms", "th"))
    assert (tmp_path / "runs" / "artifacts" / "detection").is_dir()
    own = names["lost"]["th", "th's own"]
    assert set(own) == {"en", "id", "ms", "th"}
    assert any(change != 0 for change in own.values())
    assert "without" in capsys.readouterr().out
