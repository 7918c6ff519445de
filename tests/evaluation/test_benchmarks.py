import json
from pathlib import Path

import pytest

from sea_ray.errors import ConfigError, DataError
from sea_ray.evaluation.benchmarks import BenchmarkConfig, read_benchmarks
from sea_ray.evaluation.config import EvaluationConfig

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "eval"
CONFIG = EvaluationConfig(items=4, texts=5)


def read(root, **files):
    return read_benchmarks(BenchmarkConfig(root=str(root), files=files), CONFIG)


def write_lines(path, *rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")


def mmlu(label="C", **changes):
    return {
        "prompts": [{"question": "q?", **{f"option_{letter}": letter for letter in "abcd"}, **changes}],
        "label": label,
    }


def test_exam_rows_keep_options_and_answer(tmp_path):
    write_lines(tmp_path / "mmlu/x_id_dev.jsonl", mmlu())
    (item,) = read(tmp_path, global_mmlu="mmlu").exam
    assert (item.language, item.question, item.options, item.answer_index) == ("id", "q?", ("a", "b", "c", "d"), 2)


def test_m3exam_answers_by_letter_or_native_digit_and_options_lose_their_marks(tmp_path):
    rows = [{"question_text": "q", "answer_text": "2", "options": ["๑. หนึ่ง", "๒. สอง", "(3) 4 ตัว"]}]
    write_lines(tmp_path / "m3/thai-questions-test.json", rows)
    (item,) = read(tmp_path, m3exam="m3").exam
    assert (item.answer_index, item.options) == (1, ("หนึ่ง", "สอง", "4 ตัว"))
    write_lines(tmp_path / "m3/thai-questions-test.json", [rows[0] | {"answer_text": "5"}])
    with pytest.raises(DataError, match="answer '5' names none of the 3 options"):
        read(tmp_path, m3exam="m3")


def test_missing_field_and_wrong_label_are_named_with_file_and_line(tmp_path):
    write_lines(tmp_path / "mmlu/x_id_dev.jsonl", mmlu(), mmlu(option_d=" "))
    with pytest.raises(DataError, match=r"x_id_dev\.jsonl:2: no text in field 'prompts.0.option_d'"):
        read(tmp_path, global_mmlu="mmlu")
    write_lines(tmp_path / "mmlu/x_id_dev.jsonl", mmlu("E"))
    with pytest.raises(DataError, match=r"x_id_dev\.jsonl:1: label 'E' is none of A B C D"):
        read(tmp_path, global_mmlu="mmlu")
    write_lines(tmp_path / "xs.jsonl", {"prompt": "p", "label": "maybe"})
    with pytest.raises(DataError, match=r"xs\.jsonl:1: label 'maybe'"):
        read(tmp_path, xstest="xs.jsonl")
    write_lines(tmp_path / "mgsm/mgsm_th.tsv", "question\ttwelve")
    with pytest.raises(DataError, match=r"mgsm_th\.tsv:1: 'twelve' is no number"):
        read(tmp_path, mgsm="mgsm")
    write_lines(tmp_path / "xs.jsonl", "{broken")
    with pytest.raises(DataError, match="not readable"):
        read(tmp_path, xstest="xs.jsonl")


def test_unknown_and_absent_benchmarks_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"files\.sib20: unknown benchmark; did you mean sib200"):
        BenchmarkConfig(files={"sib20": "x"})
    with pytest.raises(DataError, match="'sib200' is not there"):
        read(tmp_path, sib200="absent")


def test_safe_and_unsafe_prompts_are_taken_alike(tmp_path):
    rows = [{"prompt": f"p{i}", "label": "safe" if i < 9 else "unsafe"} for i in range(12)]
    write_lines(tmp_path / "xs.jsonl", *rows)
    taken = read(tmp_path, xstest="xs.jsonl").safety
    assert [item.unsafe for item in taken] == [False, False, True, True]


def test_the_number_of_a_multijail_row_is_no_indonesian_request(tmp_path):
    (tmp_path / "multijail.csv").write_text("id,en,th\n7,harm,อันตราย\n", encoding="utf-8")
    asked = read(tmp_path, multijail="multijail.csv").safety
    assert [(item.language, item.prompt) for item in asked] == [("en", "harm"), ("th", "อันตราย")]


@pytest.mark.skipif(not SHARED.exists(), reason="shared/data is not here")
def test_real_benchmark_files_are_read():
    suite = read(
        SHARED, sib200="sib200_dev", global_mmlu="global_mmlu_lite", m3exam="m3exam", mgsm="mgsm",
        multijail="multijail.csv", xstest="xstest.jsonl", culture_safety="culture_safety",
    )  # fmt: skip
    assert len(suite.texts) == 12 * 5
    assert {item.language for item in suite.exam} == {"en", "zh", "id", "vi", "ms", "my", "tl", "th"}
    assert {item.language for item in suite.arithmetic} == {"en", "th", "zh"}
    assert {(item.kind, item.unsafe) for item in suite.safety} == {
        ("multijail", True), ("xstest", True), ("xstest", False), ("culture", True), ("culture", False)
    }  # fmt: skip
