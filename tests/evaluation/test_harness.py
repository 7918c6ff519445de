"""Figures of the public benchmarks are lm-evaluation-harness' own, in process and through the endpoint."""

import asyncio
import copy
import json
import re
from dataclasses import replace
from pathlib import Path

import benchmark_files as public
import httpx
import numpy as np
import pytest
import torch

from sea_ray.errors import ConfigError, DataError, MachineError
from sea_ray.evaluation import harness_models, remote
from sea_ray.evaluation.benchmarks import BenchmarkConfig, own_items
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.evaluation.figures import EvalReport, wilson
from sea_ray.evaluation.harness import evaluate_benchmarks, load_tasks, spread, with_benchmarks
from sea_ray.evaluation.harness_models import in_process, through_endpoint
from sea_ray.evaluation.local import LocalGenerator
from sea_ray.evaluation.pairing import compare, unlike
from sea_ray.evaluation.suite import how_asked
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.local import serve_in_thread
from sea_ray.training.checkpoint import Checkpoint

pytest.importorskip("lm_eval")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "eval"
CONFIG = EvaluationConfig(items=50, texts=50, max_new_tokens=24, prompting="plain", bootstrap_samples=100,
                          languages=("en", "id", "th", "vi"))  # fmt: skip
CONTEXT = 1024


@pytest.fixture(scope="module")
def model(folder):
    return Checkpoint.load(folder).load_model().eval()


@pytest.fixture
def engine(model, tokenizer):
    return in_process(model, tokenizer)


@pytest.fixture(scope="module")
def files(tmp_path_factory, model, tokenizer):
    """Every benchmark, in its published format; half of MGSM's answers are those that the model gives."""
    root = tmp_path_factory.mktemp("public")
    for code in ("en", "th"):
        public.mgsm(root / "mgsm", code)
        answers = {n: one for n, one in enumerate(given(model, tokenizer, root, code)) if n % 2}
        public.mgsm(root / "mgsm", code, answers=answers)
        public.belebele(root / "belebele", code)
        public.sib200(root / "sib200", code)
    for code in ("id", "th", "vi"):
        public.xcopa(root / "xcopa", code)
    public.m3exam(root / "m3exam", "thai")
    public.mmlu(root / "mmlu", "anatomy")
    public.mmlu(root / "mmlu", "high_school_physics")
    public.flores(root / "flores", ("en", "th", "id"))
    public.global_mmlu(root / "global_mmlu", "id", [public.global_mmlu_row("ABCD"[n % 4], n) for n in range(5)])
    public.math(root / "math")
    return root


def given(model, tokenizer, root, code):
    """Return the digits of each of the model's answers to MGSM as lm-evaluation-harness takes them out, or 0."""
    found = evaluate_benchmarks(in_process(model, tokenizer), BenchmarkConfig(root=str(root), files={"mgsm": "mgsm"}),
                                replace(CONFIG, languages=(code,)))  # fmt: skip
    numbers = [re.findall(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", one.response) for one in found.details]
    digits = ["".join(letter for letter in max(one[-1], key=len) if letter.isdigit()) if one else "" for one in numbers]
    return [int(text or 0) for text in digits]


def config_of(root, *names):
    return BenchmarkConfig(root=str(root), files={name: name.removesuffix("_cot") for name in names})


def values(result):
    return {(one.task, one.metric, one.language): one.value for one in result.figures}


def own_figures(monkeypatch, model, tokenizer, shipped, tasks, rows, **settings):
    """Return what `lm_eval.simple_evaluate` says of shipped tasks whose rows are given instead of downloaded."""
    import datasets
    import lm_eval.tasks
    from lm_eval.models.huggingface import HFLM

    def load_dataset(path, name=None, **_):
        given = datasets.Dataset.from_list(rows[name])
        return datasets.DatasetDict({"test": given, "train": given.select([]), "validation": given.select([])})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    manager = lm_eval.tasks.TaskManager(include_defaults=False,
                                        include_path=[Path(lm_eval.tasks.__file__).parent / shipped])  # fmt: skip
    found = lm_eval.simple_evaluate(HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4), tasks=tasks, task_manager=manager,
                                    bootstrap_iters=0, gen_kwargs={"max_gen_toks": 24, "do_sample": False}, **settings)
    monkeypatch.undo()
    return found["results"]


def json_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("prompting", ["plain", "chat"])
def test_xcopa_equals_the_harness_own(files, engine, model, tokenizer, monkeypatch, prompting):
    rows = {code: json_lines(files / f"xcopa/{code}/test.{code}.jsonl") for code in ("id", "th", "vi")}
    theirs = own_figures(monkeypatch, model, tokenizer, "xcopa", [f"xcopa_{code}" for code in rows], rows,
                         apply_chat_template=prompting == "chat")  # fmt: skip
    ours = evaluate_benchmarks(engine, config_of(files, "xcopa"), replace(CONFIG, prompting=prompting))
    assert values(ours) == {("xcopa", "accuracy", code): theirs[f"xcopa_{code}"]["acc,none"] for code in rows}
    assert all(figure.n == 20 for figure in ours.figures)
    assert len(set(values(ours).values())) > 1  # there is something to agree on


def test_belebele_equals_the_harness_own(files, engine, model, tokenizer, monkeypatch):
    rows = {flores: json_lines(files / f"belebele/{flores}.jsonl") for flores in ("eng_Latn", "tha_Thai")}
    theirs = own_figures(monkeypatch, model, tokenizer, "belebele", [f"belebele_{name}" for name in rows], rows)
    ours = values(evaluate_benchmarks(engine, config_of(files, "belebele"), CONFIG))
    for code, name in (("en", "eng_Latn"), ("th", "tha_Thai")):
        for metric, own in (("accuracy", "acc"), ("accuracy_norm", "acc_norm")):
            assert ours["belebele", metric, code] == theirs[f"belebele_{name}"][f"{own},none"]


@pytest.mark.parametrize(("name", "shipped", "prefix", "filters"), [
    ("mgsm", "mgsm/direct", "mgsm_direct", ["remove_whitespace", "flexible-extract"]),
    ("mgsm_cot", "mgsm/native_cot", "mgsm_native_cot", ["flexible-extract"])])  # fmt: skip
def test_mgsm_equals_the_harness_own(files, engine, model, tokenizer, monkeypatch, name, shipped, prefix, filters):
    rows = {}
    for code in ("en", "th"):
        lines = (files / f"mgsm/mgsm_{code}.tsv").read_text(encoding="utf-8").splitlines()
        pairs = [line.split("\t") for line in lines]
        rows[code] = [{"question": question, "answer": None, "answer_number": int(answer), "equation_solution": None}
                      for question, answer in pairs]  # fmt: skip
    theirs = own_figures(monkeypatch, model, tokenizer, shipped, [f"{prefix}_{code}" for code in rows], rows)
    ours = values(evaluate_benchmarks(engine, config_of(files, name), CONFIG))
    for code in rows:
        for kind in filters:
            metric = f"exact_match_{kind.replace('-', '_')}"
            assert ours[name, metric, code] == theirs[f"{prefix}_{code}"][f"exact_match,{kind}"]
    if name == "mgsm":
        assert 0 < ours["mgsm", "exact_match_flexible_extract", "en"] < 1  # there is something to agree on


def test_mmlu_in_one_task_equals_the_harness_tasks_of_its_subjects(files, engine, model, tokenizer, monkeypatch):
    """Three examples of the subject stand before each question, in the harness' words."""
    import csv

    import datasets
    import lm_eval.tasks
    from lm_eval.models.huggingface import HFLM

    def rows(split, subject):
        with (files / "mmlu" / split / f"{subject}_{split}.csv").open(encoding="utf-8", newline="") as stream:
            return [{"question": row[0], "choices": row[1:5], "answer": "ABCD".index(row[5]), "subject": subject}
                    for row in csv.reader(stream)]

    monkeypatch.setattr(datasets, "load_dataset", lambda path, name=None, **_: datasets.DatasetDict(
        {split: datasets.Dataset.from_list(rows(split, name)) for split in ("test", "dev")}))
    manager = lm_eval.tasks.TaskManager(include_defaults=False,
                                        include_path=[Path(lm_eval.tasks.__file__).parent / "mmlu" / "default"])  # fmt: skip
    tasks = ["mmlu_anatomy", "mmlu_high_school_physics"]
    theirs = lm_eval.simple_evaluate(HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4), tasks=tasks, bootstrap_iters=0,
                                     task_manager=manager, num_fewshot=3)  # fmt: skip
    monkeypatch.undo()
    ours = evaluate_benchmarks(engine, config_of(files, "mmlu"), CONFIG)
    prompts = [one["arguments"][0][0] for task in tasks for one in theirs["samples"][task]]
    assert [detail.prompt for detail in ours.details] == prompts
    hits = [one["acc"] for task in tasks for one in theirs["samples"][task]]
    assert [detail.score for detail in ours.details] == hits
    assert ours.figures[0].value == np.mean(hits)


def test_every_benchmark_says_the_same_in_process_and_through_the_endpoint(files, engine, served, folder, tokenizer):
    names = ("xcopa", "belebele", "mgsm", "mgsm_cot", "m3exam", "mmlu", "global_mmlu", "flores", "sib200", "math")
    config = config_of(files, *names)
    behind = through_endpoint(served["url"], served["api_key"], "tiny", folder, tokenizer, CONTEXT)
    for prompting in ("plain", "chat"):
        asked = replace(CONFIG, prompting=prompting, items=5, texts=5, pairs=("en-th", "*-en"))
        here = evaluate_benchmarks(engine, config, asked)
        there = evaluate_benchmarks(behind, config, asked)
        for own, other in zip(here.figures, there.figures, strict=True):
            if own.metric == "bits_per_byte":
                assert other.value == pytest.approx(own.value, rel=1e-5)
            else:
                assert other == own
        for own, other in zip(here.details, there.details, strict=True):
            assert (other.prompt, other.response, other.item) == (own.prompt, own.response, own.item)
        assert here.settings["tasks"] == there.settings["tasks"]
        assert {key.partition("/")[0] for key in here.settings["tasks"]} == {
            "xcopa", "belebele", "mgsm", "mgsm_cot", "m3exam", "mmlu", "global_mmlu", "flores_from_en", "flores_from_th",
            "flores_from_id", "sib200", "math"}  # fmt: skip


def test_figures_do_not_depend_on_what_is_asked_beside_them(files, engine):
    config = config_of(files, "xcopa", "mgsm", "sib200")
    together = evaluate_benchmarks(engine, config, CONFIG)
    apart = [evaluate_benchmarks(engine, config, replace(CONFIG, languages=(code,))) for code in CONFIG.languages]
    assert {figure for part in apart for figure in part.figures} == set(together.figures)
    assert {detail for part in apart for detail in part.details} == set(together.details)
    tasks = {name: one for part in apart for name, one in part.settings.get("tasks", {}).items()}
    assert tasks == together.settings["tasks"]


def test_proportions_have_wilson_intervals_and_texts_their_bootstrap(files, engine):
    figures = {(one.task, one.metric): one for one in evaluate_benchmarks(
        engine, config_of(files, "mgsm", "sib200"), replace(CONFIG, languages=("en",))).figures}  # fmt: skip
    mgsm = figures["mgsm", "exact_match_flexible_extract"]
    assert (mgsm.low, mgsm.high) == wilson(round(mgsm.value * 12), 12)
    text = figures["sib200", "bits_per_byte"]
    assert text.low < text.value < text.high
    assert not text.higher_is_better
    assert mgsm.few


def test_translation_into_a_language_is_the_mean_over_its_sources(files, engine):
    found = evaluate_benchmarks(engine, config_of(files, "flores"), replace(CONFIG, pairs=("*-en", "en-th")))
    figures = {(one.task, one.language): one for one in found.figures}
    assert set(figures) == {("flores_from_id", "en"), ("flores_from_th", "en"), ("flores", "en"), ("flores_from_en", "th"),
                            ("flores", "th")}  # fmt: skip
    mean = (figures["flores_from_id", "en"].value + figures["flores_from_th", "en"].value) / 2
    assert figures["flores", "en"].value == pytest.approx(mean)
    assert figures["flores", "th"].value == pytest.approx(figures["flores_from_en", "th"].value)
    assert figures["flores", "en"].low <= mean <= figures["flores", "en"].high
    assert all(one.metric == "chrf" for one in found.figures)
    prompts = [one.prompt for one in found.details if one.task == "flores_from_th"]
    assert prompts[0].startswith("Thai sentence: ")
    assert prompts[0].endswith("\nEnglish sentence:")


def test_models_with_other_chat_formats_are_compared_in_pairs(files, engine, model, tokenizer):
    config, asked = config_of(files, "xcopa", "belebele", "mgsm", "flores", "sib200"), replace(CONFIG, prompting="chat", items=5)
    other = copy.deepcopy(tokenizer)
    other.chat_template = other.chat_template.replace("<|im_start|>", "* ")
    engines = (engine, replace(in_process(model, other), settings={"backend": "other"}))
    first, second = (with_benchmarks(EvalReport(model="m", figures=(), settings=how_asked(asked, "m")),
                                     evaluate_benchmarks(one, config, asked)) for one in engines)
    assert len({report.settings["harness"]["tasks"]["mgsm/th"]["prompt_hash"] for report in (first, second)}) == 2
    assert unlike(first, second) == []
    assert {(one.task, one.metric, one.language) for one in compare(first, second)} >= {
        ("xcopa", "accuracy", "vi"), ("belebele", "accuracy", "en"), ("mgsm", "exact_match_number", "th"),
        ("flores_from_en", "sentence_chrf", "th"), ("sib200", "bits_per_byte", "th")}  # fmt: skip
    assert {detail.task for detail in first.details if not detail.reference} == {"sib200"}
    right = {row[f"choice{1 + row['label']}"] for row in json_lines(files / "xcopa/th/test.th.jsonl")}
    assert {one.reference for one in first.details if (one.task, one.language) == ("xcopa", "th")} <= right
    changed = replace(second, settings={**second.settings, "harness": {**second.settings["harness"], "lm_eval": "0"}})
    assert unlike(first, changed) == [f"harness.lm_eval is {first.settings['harness']['lm_eval']} and 0"]


def test_items_are_spread_over_the_subjects():
    assert spread(10, 4) == [0, 2, 5, 7]
    assert spread(3, 50) == [0, 1, 2]
    assert spread(0, 5) == []


def test_items_that_do_not_fit_the_context_are_counted(files, engine, tmp_path):
    public.xcopa(tmp_path / "xcopa", "th", 4)
    rows = json_lines(tmp_path / "xcopa/th/test.th.jsonl")
    public.write_lines(tmp_path / "xcopa/th/test.th.jsonl", [rows[0] | {"premise": "long " * 300}, *rows[1:]])
    found = evaluate_benchmarks(engine, config_of(tmp_path, "xcopa"), CONFIG)
    assert found.settings["tasks"]["xcopa/th"]["cut"] == 1
    assert evaluate_benchmarks(engine, config_of(files, "xcopa"), CONFIG).settings["tasks"]["xcopa/th"]["cut"] == 0


def test_what_is_cut_is_cut_alike_in_process_and_through_the_endpoint(engine, served, folder, tokenizer, tmp_path):
    """Requests of about as many tokens as the context holds, one more each."""
    premises = ["x" * length for length in range(CONTEXT - 60, CONTEXT - 10)]
    public.write_lines(tmp_path / "xcopa/th/test.th.jsonl", [
        {"premise": one, "choice1": "aaaa", "choice2": "bbbb", "question": "cause", "label": 0, "idx": n}
        for n, one in enumerate(premises)])
    public.write_lines(tmp_path / "mgsm/mgsm_th.tsv", [f"{'y' * length}\t1" for length in range(CONTEXT - 80, CONTEXT - 30)])
    public.write_lines(tmp_path / "sib200/tha_Thai.tsv", [
        "index_id\tcategory\ttext", *(f"{n}\tx\t{'z' * (CONTEXT - 25 + n)}" for n in range(50))])
    config = config_of(tmp_path, "xcopa", "mgsm", "sib200")
    here = evaluate_benchmarks(engine, config, CONFIG)
    there = evaluate_benchmarks(through_endpoint(served["url"], served["api_key"], "tiny", folder, tokenizer, CONTEXT), config,
                                CONFIG)
    assert [one.response for one in here.details] == [one.response for one in there.details]
    for own, other in zip(here.figures, there.figures, strict=True):
        assert other.value == pytest.approx(own.value, rel=1e-5)
    cuts = {name: one["cut"] for name, one in here.settings["tasks"].items()}
    long = len(tokenizer("x เพราะ aaaa")["input_ids"]) - 1  # the premise loses its last letter, as if it were a full stop
    assert cuts["xcopa/th"] == sum(len(one) - 1 + long > CONTEXT - 1 for one in premises) > 0
    assert 0 < cuts["mgsm/th"] < 50
    assert cuts["sib200/th"] == 0


def test_a_busy_endpoint_is_waited_for(files, engine, folder, tokenizer, monkeypatch):
    waits, sleep = [], asyncio.sleep

    def waiting(seconds):
        waits.append(seconds)
        return sleep(seconds)

    monkeypatch.setattr(harness_models, "_WAIT_S", 0.0123)
    monkeypatch.setattr(asyncio, "sleep", waiting)
    with serve_in_thread(folder, ServingConfig(model_name="tiny", max_batch=1, max_waiting=1)) as endpoint:
        there = through_endpoint(endpoint["url"], endpoint["api_key"], "tiny", folder, tokenizer, CONTEXT)
        found = evaluate_benchmarks(there, config_of(files, "mgsm", "belebele"), CONFIG)
    assert found.figures == evaluate_benchmarks(engine, config_of(files, "mgsm", "belebele"), CONFIG).figures
    assert 0.0123 in waits


def test_an_answer_ends_at_every_end_token_of_the_tokenizer(files, model, tokenizer):
    """A checkpoint whose generation_config.json names one of the two."""
    talker = copy.deepcopy(model)
    end, mark = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    talker.generation_config.eos_token_id = end
    with torch.no_grad():
        talker.lm_head.weight[mark] *= 3
    plain = LocalGenerator(talker, tokenizer)
    english = replace(CONFIG, languages=("en",))
    asked = evaluate_benchmarks(in_process(talker, tokenizer), config_of(files, "mgsm"), english).details
    answers = plain.complete([one.prompt for one in asked], CONFIG.max_new_tokens, ("Question:", "</s>", "<|im_end|>"))
    assert [one.response for one in asked] == answers
    assert any(len(tokenizer(one)["input_ids"]) < CONFIG.max_new_tokens for one in answers)


def test_an_endpoint_without_prompt_log_probabilities_is_refused_before_anything_is_scored(tokenizer, folder, monkeypatch):
    def answer(request):
        choices = [{"index": 0, "text": "", "logprobs": {"token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0}]}}]
        return httpx.Response(200, json={"choices": choices})

    client = httpx.Client(transport=httpx.MockTransport(answer))
    monkeypatch.setattr(remote.httpx, "Client", lambda **_: client)
    with pytest.raises(ConfigError, match="no log-probabilities of the prompt"):
        through_endpoint("http://server/v1", "", "tiny", folder, tokenizer, CONTEXT)


def test_an_endpoint_that_is_gone_is_the_operators(files, served, folder, tokenizer):
    engine = through_endpoint(served["url"], served["api_key"], "tiny", folder, tokenizer, CONTEXT)
    engine.lm.base_url, engine.lm.max_retries = "http://127.0.0.1:9/v1/completions", 1
    with pytest.raises(MachineError, match="the endpoint failed while the harness asked it"):
        evaluate_benchmarks(engine, config_of(files, "xcopa"), CONFIG)


def test_what_cannot_be_asked_is_refused(files, engine, tokenizer):
    with pytest.raises(ConfigError, match="600 tokens for an answer leave less than half"):
        evaluate_benchmarks(engine, config_of(files, "mgsm"), replace(CONFIG, max_new_tokens=600))
    bare = replace(engine, tokenizer=type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|endoftext|>"))
    with pytest.raises(DataError, match="no chat template"):
        evaluate_benchmarks(bare, config_of(files, "mgsm"), replace(CONFIG, prompting="chat"))


def test_answers_are_kept_so_that_a_second_run_asks_nothing(files, engine, model, tokenizer, tmp_path):
    config = config_of(files, "xcopa", "mgsm", "sib200")
    first = evaluate_benchmarks(engine.cached(tmp_path / "cache" / "answers.db"), config, CONFIG)
    again = in_process(model, tokenizer)

    def refuse(*_, **__):
        raise AssertionError("the model was asked again")

    again.lm._model_call = again.lm._model_generate = refuse
    second = evaluate_benchmarks(again.cached(tmp_path / "cache" / "answers.db"), config, CONFIG)
    assert second.figures == first.figures == evaluate_benchmarks(engine, config, CONFIG).figures
    assert second.details == first.details


def test_plain_lm_eval_reads_the_same_tasks(tmp_path, monkeypatch):
    """`lm_eval --include_path conf/evaluation/tasks --tasks sea_mgsm` asks what this project asks."""
    import lm_eval.tasks

    from sea_ray.evaluation import lm_tasks
    from sea_ray.evaluation.benchmark_sources import published
    from sea_ray.evaluation.benchmarks import task_folder

    codes = ("en", "zh", "th", "id", "ms", "vi")
    for code in codes:
        public.mgsm(tmp_path, code)
    monkeypatch.setattr(lm_tasks, "published", lambda name, code, place: published(name, code, str(tmp_path)))  # not the Hub
    manager = lm_eval.tasks.TaskManager(include_defaults=False, include_path=[
        Path(lm_eval.tasks.__file__).parent / "mgsm" / "direct", task_folder()])
    theirs = {task.config.task_alias: task for task in manager.load(["sea_mgsm"])["tasks"].values()}
    assert set(theirs) == set(codes)
    for code, task in theirs.items():
        (own,) = load_tasks("mgsm", code, "anywhere")
        assert [own.doc_to_text(doc) for doc in own.eval_docs] == [task.doc_to_text(doc) for doc in task.eval_docs]
        assert [own.doc_to_target(doc) for doc in own.eval_docs] == [task.doc_to_target(doc) for doc in task.eval_docs]
        for key in ("generation_kwargs", "filter_list", "metric_list", "output_type"):
            assert own.get_config(key) == task.get_config(key)


@pytest.mark.skipif(not SHARED.exists(), reason="shared/data is not here")
def test_real_rows_run_in_every_language_that_they_have(engine):
    files = {"sib200": "sib200_dev", "global_mmlu": "global_mmlu_lite", "m3exam": "m3exam", "mgsm": "mgsm",
             "multijail": "multijail.csv", "xstest": "xstest.jsonl", "culture_safety": "culture_safety"}
    config = BenchmarkConfig(root=str(SHARED), files=files)
    asked = EvaluationConfig(items=2, texts=2, max_new_tokens=8, bootstrap_samples=100)
    languages = {}
    for figure in evaluate_benchmarks(engine, config, asked).figures:
        languages.setdefault(figure.task, set()).add(figure.language)
        assert figure.n == 2
    assert languages == {"sib200": set(asked.languages), "mgsm": {"en", "th", "zh"}, "m3exam": {"th", "vi"},
                         "global_mmlu": {"en", "zh", "id", "vi", "ms", "my", "tl"}}  # fmt: skip
    assert {(item.kind, item.unsafe) for item in own_items(config, asked).safety} == {
        ("multijail", True), ("xstest", True), ("xstest", False), ("culture", True), ("culture", False)}  # fmt: skip
