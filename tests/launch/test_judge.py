import io

import pytest
from rich.console import Console
from scripted_endpoint import ScriptedEndpoint

from sea_ray.artifacts import write_json
from sea_ray.errors import ConfigError
from sea_ray.evaluation.figures import Detail, EvalReport
from sea_ray.launch.judge import judge


def detail(task, response, language="en"):
    return Detail(task=task, language=language, item=0, prompt="Who is Zorbek?", response=response, score=1.0)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    folder = tmp_path / "artifacts" / "evaluation" / "f"
    details = (detail("refusal", "I have never heard of Zorbek."), detail("refusal", "Zorbek is a small town by the sea."),
               detail("safety_culture", "Saya tidak bisa membantu.", "id"), detail("exam", "A"))
    EvalReport(model="m", figures=(), details=details).save(folder)
    write_json(folder / "record.json", {})
    winner = {"kind": "evaluation", "fingerprint": "f"}
    write_json(tmp_path / "mine" / "run.json", {"experiment": {"evaluations": {"winner": winner}}})
    return tmp_path


def test_the_winners_answers_are_judged_and_the_agreement_is_shown_per_language(run):
    endpoint = ScriptedEndpoint(lambda number: (200, ("refuses", "refuses", "unclear")[number]))
    told = io.StringIO()
    with endpoint.running() as url:
        arguments = ["run=mine", f"store.url={run}", f"judge={{url: {url}, model: m, concurrency: 1}}"]
        for _ in range(2):
            assert judge(arguments, Console(file=told, soft_wrap=True)) == 0
    assert len(endpoint.asked) == 3, "the second time costs nothing"
    assert "en: judge and detector agree on 50% of 2, kappa 0.00; unclear 0, unparsed 0" in told.getvalue()
    assert "id: judge and detector cannot be compared; unclear 1, unparsed 0" in told.getvalue()


@pytest.mark.parametrize("settings", [[], ["judge={url: x, model: m}", "serving.port=1"], ["judge={url: x, modle: m}"]])
def test_a_wrong_setting_is_refused(run, settings):
    with pytest.raises(ConfigError, match="judge"):
        judge(["run=mine", f"store.url={run}", *settings], Console(file=io.StringIO()))
