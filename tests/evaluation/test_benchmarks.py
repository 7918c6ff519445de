import importlib.util
import json

import benchmark_files as public
import pytest
import yaml

from sea_ray.errors import ConfigError, DataError
from sea_ray.evaluation.benchmark_sources import BENCHMARKS
from sea_ray.evaluation.benchmarks import (
    BenchmarkConfig,
    held_out,
    input_digests,
    own_items,
    task_digests,
    task_folder,
)
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.evaluation.contamination import Contamination
from sea_ray.languages import LANGUAGES


def safety(root, **files):
    return own_items(BenchmarkConfig(root=str(root), files=files), EvaluationConfig(items=4)).safety


def test_safe_and_unsafe_prompts_are_taken_alike(tmp_path):
    public.write_lines(tmp_path / "xs.jsonl", [{"prompt": f"p{i}", "label": "safe" if i < 9 else "unsafe"} for i in range(12)])
    assert [item.unsafe for item in safety(tmp_path, xstest="xs.jsonl")] == [False, False, True, True]


def test_the_number_of_a_multijail_row_is_no_indonesian_request(tmp_path):
    (tmp_path / "multijail.csv").write_text("id,en,th\n7,harm,อันตราย\n", encoding="utf-8")
    asked = safety(tmp_path, multijail="multijail.csv")
    assert [(item.language, item.prompt) for item in asked] == [("en", "harm"), ("th", "อันตราย")]


def test_wrong_labels_broken_files_and_empty_language_columns_are_refused(tmp_path):
    public.write_lines(tmp_path / "xs.jsonl", [{"prompt": "p", "label": "maybe"}])
    with pytest.raises(DataError, match=r"xs\.jsonl:1: label 'maybe' is neither safe nor unsafe"):
        safety(tmp_path, xstest="xs.jsonl")
    public.write_lines(tmp_path / "xs.jsonl", ["{broken"])
    with pytest.raises(DataError, match="not readable"):
        safety(tmp_path, xstest="xs.jsonl")
    public.write_lines(tmp_path / "mj.csv", ["en,th", "hello,", "there,"])
    with pytest.raises(DataError, match=r"mj\.csv:2: no text in field 'th'"):
        safety(tmp_path, multijail="mj.csv")


def test_unknown_benchmarks_and_directions_are_refused():
    with pytest.raises(ConfigError, match=r"files\.sib20: unknown benchmark; did you mean sib200"):
        BenchmarkConfig(files={"sib20": "x"})
    with pytest.raises(ConfigError, match=r"files\.xstest: this benchmark is read from files"):
        BenchmarkConfig(files={"xstest": "hub"})
    with pytest.raises(ConfigError, match=r"files\.xstest: '/data/x\.jsonl' is no path below benchmarks\.root"):
        BenchmarkConfig(root="/data", files={"xstest": "/data/x.jsonl"})
    with pytest.raises(ConfigError, match="'en_th' is no direction; write source-target"):
        EvaluationConfig(pairs=("en_th",))
    assert EvaluationConfig().sources("th") == ["en"]
    assert len(EvaluationConfig().sources("en")) == 11
    assert len(EvaluationConfig(pairs=("*-*",)).sources("th")) == 11


def test_files_that_are_not_there_are_named_before_anything_runs(tmp_path):
    with pytest.raises(DataError, match=r"no such benchmark; correct benchmarks\.root"):
        input_digests(BenchmarkConfig(root=str(tmp_path), files={"sib200": "absent"}))
    (tmp_path / "sib").mkdir()
    with pytest.raises(DataError, match=r"sib: it holds no file of sib200: \{flores\}\.tsv or .* in any language"):
        input_digests(BenchmarkConfig(root=str(tmp_path), files={"sib200": "sib"}))


@pytest.mark.parametrize("name", ["seabench", "searefuse_g", "culture_safety", "xstest", "multijail"])
def test_own_sets_that_are_not_there_are_refused_by_everything_that_reads_them(tmp_path, name):
    config = BenchmarkConfig(root=str(tmp_path), files={name: "absent"})
    for read in (input_digests, lambda one: list(held_out(one, ("th",))), lambda one: own_items(one, EvaluationConfig())):
        with pytest.raises(DataError, match=r"absent: there is no such benchmark; correct benchmarks\.root"):
            read(config)


def test_a_missing_harness_is_said_before_anything_runs(tmp_path, monkeypatch):
    public.sib200(tmp_path, "th")
    config = BenchmarkConfig(root=str(tmp_path), files={"sib200": "."})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install -c requirements\.lock -e '\.\[eval\]'"):
        input_digests(config)


def test_identity_is_content_commit_and_task(tmp_path):
    public.sib200(tmp_path / "sib", "th")
    config = BenchmarkConfig(root=str(tmp_path), files={"sib200": "sib", "belebele": "hub@abc"})
    before = input_digests(config)
    assert list(before) == ["sib/tha_Thai.tsv", "hub/belebele"]
    assert before["hub/belebele"] == "facebook/belebele@abc"
    public.sib200(tmp_path / "sib", "th", count=3)
    assert input_digests(config)["sib/tha_Thai.tsv"] != before["sib/tha_Thai.tsv"]
    assert list(task_digests(config)) == ["tasks/sib200", "tasks/belebele"]


class TaskLoader(yaml.SafeLoader):
    """Reads what the harness reads, with functions as their names."""


TaskLoader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_its_tasks(name):
    group = yaml.load((task_folder() / f"{name}.yaml").read_text(encoding="utf-8"), TaskLoader)
    codes = {item["task_alias"] for item in group["task"]}
    assert set(BENCHMARKS[name].hub.names) <= codes <= set(LANGUAGES)
    for item in group["task"]:
        given = item["dataset_kwargs"]
        assert (given["benchmark"], given["code"]) == (name, item["task_alias"])
    if name == "flores":
        pairs = {(item["dataset_kwargs"]["source"], item["task_alias"]) for item in group["task"]}
        assert pairs == {(source, target) for source in LANGUAGES for target in LANGUAGES if source != target}


def test_passages_questions_and_requests_are_held_out(tmp_path):
    public.sib200(tmp_path / "sib", "en", 1)
    public.global_mmlu(tmp_path / "mmlu", "en", [public.global_mmlu_row()])
    public.write_lines(tmp_path / "xs.jsonl", [{"prompt": "a request", "label": "safe"}])
    public.belebele(tmp_path / "bele", "en", 1)
    files = {"sib200": "sib", "global_mmlu": "mmlu", "belebele": "bele", "xstest": "xs.jsonl"}
    texts = [one.text for one in held_out(BenchmarkConfig(root=str(tmp_path), files=files), ("en", "th"))]
    bele = json.loads((tmp_path / "bele" / "eng_Latn.jsonl").read_text())
    sib = (tmp_path / "sib" / "eng_Latn.tsv").read_text().splitlines()[1].split("\t")[2]
    assert texts == [sib, "q?", "q?\nA. a\nB. b\nC. c\nD. d", bele["flores_passage"], bele["question"], "a request"]


def test_a_short_question_is_found_with_its_options(tmp_path):
    options = {"option_a": "The river flows north.", "option_b": "The mill was burnt.", "option_c": "The bridge is blue."}
    public.global_mmlu(tmp_path, "en", [public.global_mmlu_row(question="Which is true?", **options)])
    exam = Contamination(held_out(BenchmarkConfig(root=str(tmp_path), files={"global_mmlu": "."}), ("en",)))
    listed = "\nA. The river flows north.\nB. The mill was burnt.\nC. The bridge is blue.\nD. d"
    assert exam.find(f"Exam. Which is true?{listed} End.")
    assert exam.find("Which is true? The sea is deep.") is None
