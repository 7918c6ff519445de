"""The evaluation stage: public benchmarks beside its own questions, in any number of shards, here or through an endpoint."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sea_ray import plan
from sea_ray.artifacts import Store
from sea_ray.evaluation.figures import EvalReport
from sea_ray.execution import SoloPlatform
from sea_ray.launch.compose import compose_experiment
from sea_ray.serving.config import ServingConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "evaluation"))
import benchmark_files as public

pytest.importorskip("lm_eval")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def config(miniature, tmp_path_factory):
    root = tmp_path_factory.mktemp("public")
    for code in ("en", "th"):
        public.mgsm(root / "mgsm", code, 4)
        public.sib200(root / "sib200", code, 4)
    public.xcopa(root / "xcopa", "id", 6)
    public.flores(root / "flores", ("en", "id", "th"), 3)
    public.write_lines(root / "xs.jsonl", [{"prompt": f"Tell me {n}.", "label": "safe"} for n in range(3)])
    files = "{mgsm: mgsm, sib200: sib200, xcopa: xcopa, flores: flores, xstest: xs.jsonl}"
    return compose_experiment([*miniature, f"benchmarks.root={root}", f"benchmarks.files={files}"])


@pytest.fixture(scope="module")
def made(config, tmp_path_factory):
    """Return a store that holds the corpus and the base, and these."""
    folder = tmp_path_factory.mktemp("runs")
    platform = SoloPlatform(Store(str(folder)))
    corpus = platform.run(plan.corpus(config))
    return folder, corpus, platform.run(plan.base(config, corpus))


def evaluated(config, made, tmp_path, num_shards, serve=False, **changes):
    folder, corpus, base = made
    store = Store(str(shutil.copytree(folder, tmp_path / f"runs{num_shards}{serve}")))
    platform = SoloPlatform(store)
    corpus, base = (replace(one, folder=store.root / "artifacts" / one.kind / one.fingerprint) for one in (corpus, base))
    stage = replace(plan.evaluation(config, "base", base, corpus, chat=True, **changes), num_shards=num_shards)
    if not serve:
        return platform.run(stage)
    with platform.serving(base, ServingConfig()) as endpoint:
        return platform.run(replace(stage, endpoint={"url": endpoint.url, "api_key": endpoint.api_key, "model": endpoint.model}))


def test_figures_do_not_depend_on_shards_nor_on_where_the_model_is(config, made, tmp_path):
    whole, parts, served = (evaluated(config, made, tmp_path, *how) for how in ((1, False), (3, False), (2, True)))
    reports = [EvalReport.load(one.folder) for one in (whole, parts, served)]
    tasks = {figure.task for figure in reports[0].figures}
    assert tasks >= {"exam", "refusal", "mgsm", "sib200", "xcopa", "flores", "flores_from_en", "flores_from_th", "safety_xstest"}
    own = {"text", "exam", "arithmetic", "translation", "refusal", "safety_general", "safety_culture"}
    asked = [[one for one in report.figures if one.task not in own] for report in reports]
    assert asked[1] == asked[0]
    details = [[one for one in report.details if one.task not in own] for report in reports]
    assert details[1] == details[0]
    assert reports[1].settings["harness"] == reports[0].settings["harness"]
    assert set(reports[0].settings["harness"]["tasks"]) == {
        "mgsm/en", "mgsm/th", "sib200/en", "sib200/th", "xcopa/id", "flores_from_en/id", "flores_from_en/th",
        "flores_from_id/en", "flores_from_th/en"}
    for report in reports[1:]:
        for one, other in zip(reports[0].figures, report.figures, strict=True):
            assert (one.task, one.metric, one.language) == (other.task, other.metric, other.language)
            assert other.value == pytest.approx(one.value, rel=1e-4)
    assert whole.facts["xcopa/accuracy"] == reports[0].figure("xcopa", "accuracy", "id").value


def test_fewer_tasks_ask_fewer_benchmarks(config, made, tmp_path):
    report = EvalReport.load(evaluated(config, made, tmp_path, 1, tasks=("text",)).folder)
    assert {figure.task for figure in report.figures} == {"text", "sib200"}


def test_a_changed_task_file_is_another_evaluation(config, made, monkeypatch, tmp_path):
    from sea_ray.evaluation import benchmarks

    _, corpus, base = made
    before = plan.evaluation(config, "base", base, corpus, chat=True)
    folder = shutil.copytree(benchmarks.task_folder(), tmp_path / "tasks")
    with (folder / "xcopa.yaml").open("a") as stream:
        stream.write("# another\n")
    monkeypatch.setattr(benchmarks, "task_folder", lambda: folder)
    assert plan.evaluation(config, "base", base, corpus, chat=True).key.fingerprint != before.key.fingerprint
    assert plan.corpus(config).key.fingerprint == corpus.fingerprint
