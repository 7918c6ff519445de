import json

import benchmark_files as public
import pytest

from sea_ray.errors import DataError
from sea_ray.evaluation.benchmark_sources import BENCHMARKS, published
from sea_ray.evaluation.lm_tasks import documents
from sea_ray.languages import LANGUAGES


def refusal(name, code, folder):
    with pytest.raises(DataError) as caught:
        published(name, code, str(folder))
    return str(caught.value).removeprefix(f"{folder}/")


def test_exam_rows_keep_options_and_answer(tmp_path):
    public.global_mmlu(tmp_path, "id", [public.global_mmlu_row()])
    (asked,) = published("global_mmlu", "id", str(tmp_path))["test"]
    assert (asked.fields["prompt"], asked.fields["answer"]) == ("q?\nA. a\nB. b\nC. c\nD. d\nAnswer:", 2)
    assert asked.passages == ("q?", "q?\nA. a\nB. b\nC. c\nD. d")
    assert published("global_mmlu", "vi", str(tmp_path))["test"] == []


def test_burmese_letters_name_options(tmp_path):
    public.global_mmlu(tmp_path, "my", [public.global_mmlu_row(label, n) for n, label in enumerate("ကခဂဃ")])
    assert [one.fields["answer"] for one in published("global_mmlu", "my", str(tmp_path))["test"]] == [0, 1, 2, 3]


def test_global_mmlu_is_read_as_the_hub_has_it_from_parquet_too(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    row = {"sample_id": "a/test/0", "subject": "a", "question": "q?", "answer": "D", **{f"option_{k}": k for k in "abcd"}}
    (tmp_path / "zh").mkdir()
    pa.parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "zh" / "test-00000-of-00001.parquet")
    (asked,) = published("global_mmlu", "zh", str(tmp_path))["test"]
    assert asked.fields["answer"] == 3


def test_m3exam_answers_by_letter_or_native_digit_and_options_lose_their_marks(tmp_path):
    row = {"question_text": "q", "answer_text": "๒", "options": ["๑. หนึ่ง", "๒. สอง", "(3) 4 ตัว"],
           "background_description": ["Read this."]}
    (tmp_path / "thai-questions-test.json").write_text(json.dumps([row, row | {"need_image": "yes"}]))
    (asked,) = published("m3exam", "th", str(tmp_path))["test"]
    assert asked.fields["answer"] == 1
    assert asked.fields["prompt"] == "Read this.\nq\nA. หนึ่ง\nB. สอง\nC. 4 ตัว\nAnswer:"
    assert asked.fields["letters"] == ["A", "B", "C"]
    (tmp_path / "thai-questions-test.json").write_text(json.dumps([row, row | {"answer_text": "5"}]))
    assert refusal("m3exam", "th", tmp_path) == "thai-questions-test.json:2: answer '5' names none of the 3 options"


def test_three_examples_of_the_same_subject_stand_before_an_exam_question(tmp_path):
    public.m3exam(tmp_path, "vietnamese")
    for row in documents(benchmark="m3exam", code="vi", place=str(tmp_path), shots=3)["test"]:
        shots = row["shots"].split("\n\n")[:-1]
        parity = int(row["prompt"].split()[1]) % 2
        assert [int(shot.split()[1]) for shot in shots] == [parity, parity + 2, parity + 4]
        assert [shot[-9:] for shot in shots] == [f"Answer: {'ABCD'[n % 4]}" for n in (parity, parity + 2, parity + 4)]
    (tmp_path / "vietnamese-questions-dev.json").unlink()
    assert set(documents(benchmark="m3exam", code="vi", place=str(tmp_path), shots=3)["test"]["shots"]) == {""}


@pytest.mark.parametrize(("rows", "message"), [
    ([public.global_mmlu_row(), public.global_mmlu_row(number=1, option_d=" ")], "2: no text in field 'prompts.0.option_d'"),
    ([public.global_mmlu_row("E")], "1: label 'E' is none of A B C D က ခ ဂ ဃ"),
    ([public.global_mmlu_row()] * 2, "2: id 'astronomy/dev/0' is that of line 1 too; remove or rename one"),
    (["[1, 2]"], "1: a row of named fields is needed, this is list"),
])  # fmt: skip
def test_a_missing_field_a_wrong_label_and_a_doubled_id_are_named_with_their_line(tmp_path, rows, message):
    public.global_mmlu(tmp_path, "id", rows)
    assert refusal("global_mmlu", "id", tmp_path) == f"global_mmlu_lite_id_dev.jsonl:{message}"


def test_other_wrong_rows_are_refused(tmp_path):
    public.write_lines(tmp_path / "mgsm_th.tsv", ["question\t1,200", "question\ttwelve"])
    assert refusal("mgsm", "th", tmp_path) == "mgsm_th.tsv:2: 'twelve' is no number; a row is question TAB number"
    public.write_lines(tmp_path / "mgsm_th.tsv", ["question\t1.5"])
    assert "1: '1.5' is no whole number" in refusal("mgsm", "th", tmp_path)
    public.write_lines(tmp_path / "th/test.th.jsonl", ["{broken"])
    assert refusal("xcopa", "th", tmp_path).startswith("th/test.th.jsonl: not readable")
    row = {"premise": "p", "choice1": "a", "choice2": "b", "question": "why", "label": 0}
    public.write_lines(tmp_path / "th/test.th.jsonl", [row])
    assert refusal("xcopa", "th", tmp_path) == "th/test.th.jsonl:1: question 'why' is neither cause nor effect"
    public.belebele(tmp_path, "lo", 1)
    row = json.loads((tmp_path / "lao_Laoo.jsonl").read_text())
    public.write_lines(tmp_path / "lao_Laoo.jsonl", [row | {"correct_answer_num": "5"}])
    assert refusal("belebele", "lo", tmp_path) == "lao_Laoo.jsonl:1: correct_answer_num '5' is none of 1 2 3 4"
    public.write_lines(tmp_path / "test/algebra/7.json", [{"problem": "p", "solution": "It is 4."}])
    assert refusal("math", "en", tmp_path).startswith("test/algebra/7.json:1: the solution boxes no answer")


def test_an_empty_language_is_refused(tmp_path):
    (tmp_path / "tha_Thai.tsv").write_text("index_id\tcategory\ttext\n")
    assert refusal("sib200", "th", tmp_path) == "tha_Thai.tsv: it holds no row; take the file out, or put the rows in"
    public.flores(tmp_path, ["en", "th"])
    file = tmp_path / "devtest" / "tha_Thai.devtest"
    lines = file.read_text().splitlines()
    public.write_lines(file, ["", *lines[1:]])
    assert refusal("flores", "th", tmp_path) == "devtest/tha_Thai.devtest:1: no text in field 'text'"
    public.write_lines(file, lines[1:])
    with pytest.raises(DataError, match="8 sentences in 'en' and 7 in 'th'"):
        documents(benchmark="flores", code="th", source="en", place=str(tmp_path))


def test_every_benchmark_of_the_hub_names_languages_that_there_are():
    for benchmark in BENCHMARKS.values():
        assert set(benchmark.hub.names) <= set(LANGUAGES)
        assert benchmark.hub.splits["test"]


def test_rows_of_the_hub_are_those_of_its_layout(tmp_path, monkeypatch):
    """A folder in the Hub's layout stands in for the Hub."""
    from dataclasses import replace

    public.write_lines(tmp_path / "tha_Thai" / "test.jsonl", [{"index_id": 1, "category": "x", "text": "ก"}])
    public.write_lines(tmp_path / "README.md", ["---", "configs:", "- config_name: tha_Thai", "  data_files:", "  - split: test",
                                                "    path: tha_Thai/test.jsonl", "---"])
    hub = replace(BENCHMARKS["sib200"].hub, dataset=str(tmp_path))
    monkeypatch.setitem(BENCHMARKS, "sib200", replace(BENCHMARKS["sib200"], hub=hub))
    (asked,) = published("sib200", "th", "hub")["test"]
    assert asked.fields == {"text": "ก"}
