"""lm-evaluation-harness says the same of a served checkpoint as of its folder: the two ways that people take."""

import copy
import json

import pytest
from small_world import CONTEXT, WORLD, exam_text

from sea_ray.languages import LANGUAGES
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.local import serve_in_thread

lm_eval = pytest.importorskip("lm_eval")
registry, harness_tasks = pytest.importorskip("lm_eval.api.registry"), pytest.importorskip("lm_eval.tasks")
TASKS = {
    "sea_choices": {"output_type": "multiple_choice", "doc_to_text": "{{start}}", "doc_to_choice": "{{options}}",
                    "doc_to_target": "{{answer}}", "target_delimiter": "",
                    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]},
    "sea_pages": {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}",
                  "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}]},
    "sea_answers": {"output_type": "generate_until", "doc_to_text": "{{text}}", "doc_to_target": "{{text}}",
                    "generation_kwargs": {"until": [".", "\n"], "do_sample": False, "max_gen_toks": 16},
                    "metric_list": [{"metric": "exact_match"}]},
}


def choices() -> list[dict]:
    """Return, per language, texts with their own end beside those of three other languages, and exam questions."""
    ends, rows = {}, []
    for code in LANGUAGES:
        ends[code] = [(text[:len(text) // 2], text[len(text) // 2:]) for text in WORLD.documents(code, "train", 4)[1:]]
    for place, code in enumerate(LANGUAGES):
        others = [other for other in LANGUAGES if other != code]
        for number, (start, end) in enumerate(ends[code]):
            options = [ends[others[(place + 4 * step + number) % len(others)]][number][1] for step in range(3)]
            options.insert((place + number) % 4, end)
            rows.append({"start": start, "options": options, "answer": (place + number) % 4})
        rows += [{"start": exam_text(item), "options": list(item.options), "answer": item.answer_index}
                 for item in WORLD.exam(code, "train", 1)]
    return rows


def pages(tokenizer) -> list[dict]:
    """Return a short and a long text of each language, the long one beyond 512 tokens, both within the context."""
    rows = []
    for code in LANGUAGES:
        documents = WORLD.documents(code, "validation", 40)
        long = documents[0]
        while len(tokenizer(long)["input_ids"]) <= 600:
            long += "\n" + documents.pop()
        rows += [{"text": documents[1]}, {"text": long}]
    lengths = [len(tokenizer(row["text"])["input_ids"]) for row in rows]
    assert max(lengths[::2]) < 512 < min(lengths[1::2])
    assert max(lengths) < CONTEXT - 2
    return rows


@pytest.fixture(scope="module")
def tasks(small, tmp_path_factory):
    """Return the three tasks, from JSON files of this test."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = {"sea_choices": choices(), "sea_pages": pages(small.tokenizer),
            "sea_answers": [{"text": text} for text in small.sure_texts[::3]]}
    tasks = []
    for name, task in TASKS.items():
        file = folder / f"{name}.json"
        file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows[name]), encoding="utf-8")
        tasks.append({"task": name, "dataset_path": "json", "test_split": "test", **task, "dataset_kwargs": {
            "data_files": {"test": str(file)}, "cache_dir": str(folder / "cache")}})
    return tasks


@pytest.fixture(scope="module")
def evaluate(tasks):
    """Return a function from a model's kind and arguments to its figures and its answers by task and document."""

    def run(kind, names=tuple(TASKS), **args):
        model = registry.get_model(kind)(**args)
        chosen = [copy.deepcopy(task) for task in tasks if task["task"] in names]
        found = lm_eval.evaluate(model, harness_tasks.get_task_dict(chosen), bootstrap_iters=0)
        figures = {name: {key: value for key, value in found["results"][name].items() if isinstance(value, float)}
                   for name in names}
        answers = {name: [sample["filtered_resps"] for sample in sorted(found["samples"][name], key=lambda one: one["doc_id"])]
                   for name in names}
        return figures, answers, model

    return run


@pytest.fixture(scope="module")
def from_folder(evaluate, small):
    """What the harness finds in the checkpoint folder itself."""
    return evaluate("hf", pretrained=str(small.folder), dtype="float32", device="cpu", batch_size=8)


@pytest.fixture(scope="module")
def endpoint(small):
    with serve_in_thread(small.folder, ServingConfig(model_name="small", max_batch=16)) as endpoint:
        yield endpoint


@pytest.fixture
def through_the_door(evaluate, endpoint, monkeypatch):
    """Return a function that evaluates the served model."""
    monkeypatch.setenv("OPENAI_API_KEY", endpoint["api_key"])
    return lambda **args: evaluate("local-completions", model=endpoint["model"], base_url=endpoint["url"] + "/completions",
                                   max_length=CONTEXT, **args)


@pytest.mark.parametrize(("num_concurrent", "batch_size", "remote"), [(1, 4, False), (8, 1, True)])
def test_served_figures_are_those_of_the_folder(from_folder, through_the_door, endpoint, small, num_concurrent, batch_size,
                                                remote):
    tokens = {"auth_token": endpoint["api_key"]} if remote else {"tokenizer": str(small.folder)}
    served, served_answers, model = through_the_door(num_concurrent=num_concurrent, batch_size=batch_size, **tokens)
    own, own_answers, _ = from_folder
    assert model.tokenizer_backend == ("remote" if remote else "huggingface")

    assert served["sea_choices"] == own["sea_choices"]
    assert own["sea_choices"]["acc,none"] > 0.4  # of four options: there is something to agree on
    for there, here in zip(served_answers["sea_choices"], own_answers["sea_choices"], strict=True):
        assert [greedy for _, greedy in there] == [greedy for _, greedy in here]
        assert [float(logprob) for logprob, _ in there] == pytest.approx([float(logprob) for logprob, _ in here], abs=1e-3, rel=0)

    logprobs = [[float(answer[0]) for answer in answers["sea_pages"]] for answers in (served_answers, own_answers)]
    assert logprobs[0][::2] == pytest.approx(logprobs[1][::2], abs=1e-3, rel=0)
    assert logprobs[0][1::2] == pytest.approx(logprobs[1][1::2], abs=0, rel=1e-6)
    assert served["sea_pages"] == pytest.approx(own["sea_pages"], rel=1e-5)

    assert served_answers["sea_answers"] == own_answers["sea_answers"]
    assert len({answer[0] for answer in own_answers["sea_answers"]}) > 6
