import json
from pathlib import Path

import pytest

from sea_ray.errors import DataError
from sea_ray.evaluation.benchmarks import BenchmarkConfig, held_out, own_items
from sea_ray.evaluation.config import EvaluationConfig

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "eval"
DIALOGUE = {"unit_id": "th-1", "lang": "th", "type": "math", "user_1": "หนึ่งบวกหนึ่ง", "reference_1": "สอง", "user_2": "บวกอีกหนึ่ง",
            "reference_2": "สาม"}
QUESTION = {"id": "th-1", "language": "th", "prompt": "ใครคือซอร์เบก", "answerable": False}


def read(folder, name, *rows, **limits):
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return own_items(BenchmarkConfig(root=str(folder), files={name: "rows.jsonl"}), EvaluationConfig(**limits))


def test_a_dialogue_has_turns_references_and_type(tmp_path):
    (item,) = read(tmp_path, "seabench", DIALOGUE).dialogues
    assert (item.language, item.kind, item.task) == ("th", "math", "seabench")
    assert item.turns == ("หนึ่งบวกหนึ่ง", "บวกอีกหนึ่ง")
    assert item.references == ("สอง", "สาม")


def test_dialogues_are_taken_of_every_type_alike(tmp_path):
    rows = [DIALOGUE | {"unit_id": str(i), "type": "math" if i < 20 else "life" if i < 23 else "coding"} for i in range(26)]
    taken = read(tmp_path, "seabench", *rows, items=6).dialogues
    assert [item.kind for item in taken] == ["math"] * 2 + ["life"] * 2 + ["coding"] * 2
    assert len(read(tmp_path, "seabench", *rows, items=2).dialogues) == 2


def test_both_parts_of_searefuse_keep_sides_answers_and_kinds(tmp_path):
    rows = [QUESTION | {"id": str(i), "answerable": i < 9, "answer": "น่าน", "kind": "culture"} for i in range(12)]
    for name in ("searefuse_g", "searefuse_h"):
        taken = read(tmp_path, name, *rows, items=4).refusal
        assert [item.answerable for item in taken] == [True, True, False, False]
        assert {item.task for item in taken} == {name}
        assert [item.reference for item in taken] == ["น่าน", "น่าน", "", ""]
        assert {item.kind for item in taken} == {"culture"}


@pytest.mark.parametrize(("name", "row", "message"), [
    ("seabench", {"reference_2": " "}, "no text in field 'reference_2'"),
    ("seabench", {"lang": ""}, "no text in field 'lang'"),
    ("seabench", {"lang": "thai"}, "unknown language 'thai' in 'lang'"),
    ("seabench", {"type": "maths"}, "unknown type 'maths'; did you mean math"),
    ("searefuse_g", {"prompt": None}, "no text in field 'prompt'"),
    ("searefuse_g", {"answerable": "no"}, "answerable is 'no'; true or false is needed"),
    ("searefuse_h", {"kind": "cultural"}, "unknown kind 'cultural'; did you mean culture"),
    ("searefuse_h", {"language": ""}, "no text in field 'language'"),
])
def test_a_wrong_row_is_named_with_file_and_line(tmp_path, name, row, message):
    good, ids = (DIALOGUE, "unit_id") if name == "seabench" else (QUESTION, "id")
    with pytest.raises(DataError, match=r"rows\.jsonl:2: " + message):
        read(tmp_path, name, good, good | row | {ids: "th-2"})


@pytest.mark.parametrize(("name", "row"), [
    ("seabench", DIALOGUE), ("searefuse_g", QUESTION), ("xstest", {"id": "1", "prompt": "p", "label": "safe"}),
    ("multijail", {"id": 1, "th": "p"})])
def test_doubled_ids_are_refused_with_both_lines(tmp_path, name, row):
    with pytest.raises(DataError, match=r"rows\.jsonl:2: (unit_)?id .* is that of line 1 too"):
        read(tmp_path, name, row, row)


def test_a_row_that_is_no_row_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"rows\.jsonl:1: a row of named fields is needed, this is list"):
        read(tmp_path, "seabench", ["th"])


def test_turns_of_dialogues_are_kept_out_of_training(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(DIALOGUE), encoding="utf-8")
    (tmp_path / "questions.jsonl").write_text(json.dumps(QUESTION), encoding="utf-8")
    files = BenchmarkConfig(root=str(tmp_path), files={"seabench": "rows.jsonl", "searefuse_h": "questions.jsonl"})
    assert [(str(one), one.text) for one in held_out(files, ("th",))] == [
        ("seabench/th item 0", "หนึ่งบวกหนึ่ง"), ("seabench/th item 0", "บวกอีกหนึ่ง"), ("searefuse_h/th item 0", "ใครคือซอร์เบก")]
    assert list(held_out(files, ("vi",))) == []


@pytest.mark.skipif(not SHARED.exists(), reason="shared/data is not here")
def test_published_dialogues_are_read():
    files = BenchmarkConfig(root=str(SHARED), files={"seabench": "seabench_format.jsonl"})
    items = own_items(files, EvaluationConfig(languages=("id", "th", "vi", "en"))).dialogues
    assert [(item.language, item.kind) for item in items] == [("id", "safety"), ("th", "writing"), ("vi", "math")]
