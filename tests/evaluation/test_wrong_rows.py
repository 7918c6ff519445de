"""What a benchmark file with a wrong row gets: file and line, before anything is loaded or asked."""

import json
from pathlib import Path

import benchmark_files as public
import httpx
import pytest
from rich.console import Console

from sea_ray.errors import ConfigError, DataError
from sea_ray.evaluation import harness_models, remote
from sea_ray.evaluation.benchmark_sources import BENCHMARKS, published
from sea_ray.launch.evaluate_command import evaluate

XCOPA = {"premise": "p", "choice1": "a", "choice2": "b", "question": "cause", "label": 0, "idx": 1}
BELEBELE = {"link": "x", "question_number": 1, "flores_passage": "p", "question": "q", **{f"mc_answer{k}": "o" for k in "1234"},
            "correct_answer_num": "1"}
MATH = {"problem": "p", "solution": "\\boxed{1}", "unique_id": "1"}
M3EXAM = {"question_text": "q", "answer_text": "A", "options": ["A. x", "B. y"]}
SIB200 = {"index_id": "1", "category": "travel", "text": "t"}
TABLE = {"question": "q", "A": "a", "B": "b", "C": "c", "D": "d", "answer": "A"}
GLOBAL = {"sample_id": "1", "question": "q", "subject": "s", "answer": "A", **{f"option_{k}": k for k in "abcd"}}


def lines(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(sep, *rows):
    return "".join(sep.join(map(str, row)) + "\n" for row in rows)


FORMATS = {
    "xcopa": ("th", "th/test.th.jsonl", XCOPA, lines),
    "belebele": ("th", "tha_Thai.jsonl", BELEBELE, lines),
    "math": ("en", "test.jsonl", MATH, lines),
    "m3exam": ("th", "thai-questions-test.json", M3EXAM, lambda *rows: json.dumps(rows)),
    "sib200": ("th", "tha_Thai.tsv", SIB200, lambda *rows: table("\t", list(rows[0]), *(row.values() for row in rows))),
    "mmlu": ("en", "test/anatomy_test.csv", TABLE, lambda *rows: table(",", *(row.values() for row in rows))),
    "global_mmlu": ("th", "th/test.jsonl", GLOBAL, lines),
    "mgsm": ("th", "mgsm_th.tsv", {"question": "q", "answer_number": "1"},
             lambda *rows: table("\t", *(row.values() for row in rows))),
    "flores": ("th", "devtest/tha_Thai.devtest", {"text": "t"}, lambda *rows: "".join(row["text"] + "\n" for row in rows)),
}
"""Benchmark -> language, file, good row, and how rows are written."""
IDS = ("idx", "link", "unique_id", "index_id", "sample_id")


def read(root, name, *rows):
    code, file, _, write = FORMATS[name]
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(write(*rows), encoding="utf-8")
    return published(name, code, str(root))["test"]


def refusal(root, name, *rows):
    with pytest.raises(DataError) as caught:
        read(root, name, *rows)
    assert str(caught.value).startswith(str(root / FORMATS[name][1]))
    return str(caught.value).removeprefix(f"{root}/{FORMATS[name][1]}:")


def test_every_benchmark_is_tried_here():
    assert set(FORMATS) == set(BENCHMARKS) - {"mgsm_cot"}  # the rows of mgsm


@pytest.mark.parametrize(("name", "field"), [
    *(("xcopa", field) for field in ("premise", "choice1", "choice2", "question", "label")),
    *(("belebele", field) for field in ("flores_passage", "question", "mc_answer3", "correct_answer_num")),
    *(("math", field) for field in ("problem", "solution")), *(("m3exam", field) for field in ("question_text", "answer_text")),
    *(("mmlu", field) for field in TABLE), *(("global_mmlu", field) for field in ("question", "option_d", "answer")),
    ("sib200", "text"),
    *(("mgsm", field) for field in ("question", "answer_number")), ("flores", "text"),
])  # fmt: skip
def test_an_empty_field_is_named_with_its_line(name, field, tmp_path):
    good = FORMATS[name][2]
    other = {key: f"{value}0" if key in IDS else value for key, value in good.items()}
    number = 3 if name == "sib200" else 2
    assert len(read(tmp_path, name, good)) == 1
    assert refusal(tmp_path, name, good, other | {field: " "}) == f"{number}: no text in field {field!r}"


@pytest.mark.parametrize(("name", "field"), [("xcopa", "premise"), ("belebele", "question"), ("math", "solution"),
                                             ("m3exam", "question_text"), ("global_mmlu", "option_a"), ("sib200", "text")])
def test_a_missing_field_is_named_with_its_line(name, field, tmp_path):
    lacking = {key: value for key, value in FORMATS[name][2].items() if key != field}
    number = 2 if name == "sib200" else 1
    assert refusal(tmp_path, name, lacking) == f"{number}: no text in field {field!r}"


@pytest.mark.parametrize(("name", "wrong", "message"), [
    ("xcopa", {"label": 2}, "label '2' is neither 0 nor 1"),
    ("belebele", {"correct_answer_num": "5"}, "correct_answer_num '5' is none of 1 2 3 4"),
    ("m3exam", {"answer_text": "C"}, "answer 'C' names none of the 2 options"),
    ("m3exam", {"options": []}, "answer 'A' names none of the 0 options"),
    ("mmlu", {"answer": "E"}, "label 'E' is none of A B C D"),
    ("global_mmlu", {"answer": "E"}, "label 'E' is none of A B C D"),
    ("mgsm", {"answer_number": "many"}, "'many' is no number"),
    ("math", {"solution": "It is 1."}, "the solution boxes no answer"),
])
def test_a_wrong_label_is_named_with_its_line(name, wrong, message, tmp_path):
    assert refusal(tmp_path, name, FORMATS[name][2] | wrong).startswith(f"1: {message}")


@pytest.mark.parametrize("name", ["xcopa", "belebele", "math", "sib200", "global_mmlu"])
def test_a_doubled_id_is_named_with_both_lines(name, tmp_path):
    good, first = FORMATS[name][2], 2 if name == "sib200" else 1
    assert f"is that of line {first} too; remove or rename one" in refusal(tmp_path, name, good, good)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_without_a_row_is_refused(name, tmp_path):
    code, file, good, write = FORMATS[name]
    read(tmp_path, name, good)
    (tmp_path / file).write_text(write(good).splitlines()[0] + "\n" if name == "sib200" else "[]" if name == "m3exam" else "")
    with pytest.raises(DataError, match="it holds no row; take the file out, or put the rows in"):
        published(name, code, str(tmp_path))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A good benchmark, and after it one whose last row is wrong; to load a model is an error."""
    public.mgsm(tmp_path / "mgsm", "th", 4)
    monkeypatch.setattr(harness_models, "in_process", lambda *_: pytest.fail("a model was made ready"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("name", "file", "rows", "message"), [
    ("xcopa", "xcopa/th/test.th.jsonl", [XCOPA, XCOPA | {"idx": 2, "label": 7}], r"test\.th\.jsonl:2: label '7'"),
    ("xstest", "xs.jsonl", [{"prompt": "p", "label": "safe"}, {"prompt": "p", "label": "maybe"}], r"xs\.jsonl:2: label 'maybe'"),
    ("multijail", "mj.csv", ["id,en,th", "1,hello,"], r"mj\.csv:2: no text in field 'th'"),
    ("seabench", "sb.jsonl", [{"unit_id": "1", "lang": "", "type": "math"}], r"sb\.jsonl:1: no text in field 'lang'"),
])
def test_a_wrong_row_is_refused_before_anything_is_loaded_or_asked(name, file, rows, message, root):
    public.write_lines(root / file, rows)
    place = f"files={{{name}: {file}}}" if Path(file).parent == Path() else "files={}"
    with pytest.raises(DataError, match=message):
        evaluate(["model=nowhere", f"root={root}", f"tasks=[mgsm,{name}]", "languages=[th,en]", place, "out=found"], Console())
    assert not (root / "found").exists()


def test_an_endpoint_that_would_score_chance_is_refused_before_the_run(root, folder, monkeypatch):
    public.xcopa(root / "xcopa", "th", 4)

    def answer(request):
        choices = [{"index": 0, "text": "", "logprobs": {"token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0}]}}]
        return httpx.Response(200, json={"choices": choices})

    client = httpx.Client(transport=httpx.MockTransport(answer))
    monkeypatch.setattr(remote.httpx, "Client", lambda **_: client)
    with pytest.raises(ConfigError, match="no log-probabilities of the prompt"):
        evaluate(["endpoint=http://server/v1", f"tokenizer={folder}", f"root={root}", "tasks=[xcopa]", "out=found"], Console())
    assert not (root / "found").exists()
