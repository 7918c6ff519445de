"""Benchmarks whose answers are written, asked through the chat route of an endpoint."""

import json
from dataclasses import replace

import benchmark_files as public
import httpx
import pytest
from rich.console import Console

from sea_ray.errors import ConfigError, MachineError
from sea_ray.evaluation.benchmark_sources import BENCHMARKS
from sea_ray.evaluation.benchmarks import BenchmarkConfig
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.evaluation.figures import EvalReport
from sea_ray.evaluation.pairing import unlike
from sea_ray.evaluation.remote import ChatGenerator
from sea_ray.launch.evaluate_command import evaluate
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.local import serve_in_thread

pytest.importorskip("lm_eval")
from sea_ray.evaluation.harness import evaluate_benchmarks, load_tasks, with_benchmarks
from sea_ray.evaluation.harness_models import in_process, through_chat
from sea_ray.evaluation.suite import how_asked
from sea_ray.training.checkpoint import Checkpoint

WRITTEN = ("mgsm", "mgsm_cot", "math", "flores")
CONFIG = EvaluationConfig(languages=("en", "th"), items=5, max_new_tokens=24, prompting="chat", pairs=("en-th", "th-en"),
                          bootstrap_samples=100)  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("written")
    for code in ("en", "th"):
        public.mgsm(root / "mgsm", code)
    public.flores(root / "flores", ("en", "th"))
    public.math(root / "math")
    public.xcopa(root / "xcopa", "th")
    return root


def config_of(root, *names):
    return BenchmarkConfig(root=str(root), files={name: name.removesuffix("_cot") for name in names})


def test_a_chat_route_says_what_the_checkpoint_says_in_its_chat_format(files, folder, served):
    config, model = config_of(files, *WRITTEN), Checkpoint.load(folder).load_model().eval()
    here = evaluate_benchmarks(in_process(model, Checkpoint.load(folder).load_tokenizer()), config, CONFIG)
    there = evaluate_benchmarks(through_chat(served["url"], served["api_key"], "tiny"), config, CONFIG)
    assert {one.task for one in there.figures} == {"mgsm", "mgsm_cot", "math", "flores", "flores_from_en", "flores_from_th"}
    assert there.figures == here.figures
    assert there.details == here.details
    assert len({one.response for one in there.details}) > 5
    assert there.settings["backend"] == "local-chat-completions"
    reports = [with_benchmarks(EvalReport(model="m", figures=(), settings=how_asked(CONFIG, "m")), one) for one in (here, there)]
    assert unlike(*reports) == []


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name not in WRITTEN])
def test_what_is_scored_is_refused_before_anything_is_asked(name, files, served):
    with pytest.raises(ConfigError, match=rf"tasks: {name}: scored by log-probabilities .* a chat route does not give; .*"
                                          "mgsm, mgsm_cot, math, flores, multijail"):
        evaluate([f"endpoint={served['url']}", "route=chat", f"tasks=[mgsm,{name}]", f"root={files}"], Console())
    engine = replace(through_chat(served["url"], served["api_key"], "tiny"), lm=None)
    with pytest.raises(ConfigError, match="scored by log-probabilities"):
        evaluate_benchmarks(engine, BenchmarkConfig(root=str(files), files={"mgsm": "mgsm", name: name}), CONFIG)


@pytest.mark.parametrize(("settings", "message"), [
    (["endpoint=http://x", "route=chat", "prompting=plain"], "prompting: 'plain': a chat route puts every question into"),
    (["model=x", "route=chat"], "route: a chat route is an endpoint's"),
    (["endpoint=http://x"], "tokenizer: .*, or set route=chat, which needs none"),
])
def test_settings_that_do_not_fit_a_chat_route_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        evaluate([*settings, "tasks=[mgsm]"], Console())


def test_the_command_needs_no_tokenizer_and_asks_own_sets_too(files, folder, served, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SEA_RAY_API_KEY", served["api_key"])
    public.write_lines(files / "xs.jsonl", [{"prompt": f"Tell me {n}.", "label": "safe"} for n in range(3)])
    asked = [f"root={files}", "files={xstest: xs.jsonl}", "tasks=[mgsm,xstest]", "languages=[en]", "max_new_tokens=8"]
    door = [f"endpoint={served['url']}", "route=chat", "served_model=tiny"]
    for name, place in (("here", [f"model={folder}"]), ("there", door)):
        assert evaluate([*place, *asked, f"out={tmp_path / name}"], Console(quiet=True)) == 0
    here, there = EvalReport.load(tmp_path / "here"), EvalReport.load(tmp_path / "there")
    assert there.figures == here.figures
    assert there.details == here.details
    first = capsys.readouterr().out
    monkeypatch.setattr("lm_eval.models.openai_completions.LocalChatCompletion.amodel_call", None)  # all is kept
    assert evaluate([*door, *asked, f"out={tmp_path / 'there'}"], Console(quiet=True)) == 0
    assert first.endswith(capsys.readouterr().out)


def test_a_busy_chat_route_is_waited_for(files, folder, served):
    with serve_in_thread(folder, ServingConfig(model_name="tiny", max_batch=1, max_waiting=1)) as endpoint:
        busy = evaluate_benchmarks(through_chat(endpoint["url"], endpoint["api_key"], "tiny"), config_of(files, "mgsm"), CONFIG)
    free = evaluate_benchmarks(through_chat(served["url"], served["api_key"], "tiny"), config_of(files, "mgsm"), CONFIG)
    assert busy.figures == free.figures


def test_a_chat_route_that_cannot_be_asked_is_named_before_the_run(served):
    with pytest.raises(ConfigError, match="refuses the API key"):
        through_chat(served["url"], "wrong", "tiny")
    with pytest.raises(ConfigError, match="'large' is unknown"):
        through_chat(served["url"], served["api_key"], "large")
    with pytest.raises(MachineError, match="see that the server is up"):
        through_chat("http://127.0.0.1:9/v1", "", "tiny")


def test_an_answer_that_is_kept_back_is_empty():
    kept_back = {"choices": [{"index": 0, "message": {"role": "assistant", "content": None}}]}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=json.dumps(kept_back)))
    generator = ChatGenerator("http://server/v1", "", "tiny", transport=transport)
    assert generator.chat([[{"role": "user", "content": "hello"}]], 4) == [""]


@pytest.mark.parametrize("name", WRITTEN)
def test_no_task_has_more_stop_strings_than_the_harness_sends_to_a_chat_route(name, files):
    for code in ("en", "th"):
        for task in load_tasks(name, code, str(files / name.removesuffix("_cot")), ("en", "th", "")):
            assert 1 <= len(task.get_config("generation_kwargs")["until"]) <= 4
