import io

import pytest
from rich.console import Console
from scripted_endpoint import ScriptedEndpoint

from sea_ray.artifacts import write_json
from sea_ray.errors import ConfigError, DataError
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


def test_dialogues_are_judged_with_points_unparsed_and_agreement_and_kept(run):
    said = {"fair": "[[5]]", "good": "[[9]]", "bad": "no idea"}
    turns = [Detail(task="seabench", language="vi", item=number // 2, turn=number % 2 + 1, prompt=f"p{number}", response=answer,
                    reference="r", kind="life", score=rules, metric="points_rules")
             for number, (answer, rules) in enumerate([("fair", 5.0), ("good", 3.0), ("bad", 1.0), ("good", 8.0)])]
    folder = run / "artifacts" / "evaluation" / "f"
    EvalReport(model="m", figures=(), settings={"checkpoint": "c"}, details=tuple(turns)).save(folder)
    endpoint = ScriptedEndpoint(lambda number: (200, said[turns[number].response]))
    told = io.StringIO()
    with endpoint.running() as url:
        arguments = ["run=mine", f"store.url={run}", f"judge={{url: {url}, model: strict, concurrency: 1}}"]
        for _ in range(2):
            assert judge(arguments, Console(file=told, soft_wrap=True)) == 0
    assert len(endpoint.asked) == 4, "the second time costs nothing"
    assert endpoint.asked[0]["max_tokens"] == 1024
    assert "seabench points_judge" in told.getvalue()
    assert "SeaLLMs-v3-7B-Chat (published)" in told.getvalue()
    assert ("vi: judge and rules agree on poor, fair or good for 67% of 3 turns, kappa 0.50, rank correlation 0.00"
            in told.getvalue())
    kept = EvalReport.load(run / "mine" / "judged")
    assert (kept.settings["judge"], kept.settings["checkpoint"]) == ("strict", "c")
    assert kept.figure("seabench", "points_judge", "vi").value == pytest.approx((5 + 9 + 9) / 3)
    assert kept.figure("seabench_life", "unparsed", "vi").value == 0.25


def test_a_winner_that_was_asked_nothing_for_a_judge_is_refused(run):
    EvalReport(model="m", figures=(), details=(detail("exam", "A"),)).save(run / "artifacts" / "evaluation" / "f")
    with pytest.raises(DataError, match="asked nothing that a judge is for"):
        judge(["run=mine", f"store.url={run}", "judge={url: x, model: m}"], Console(file=io.StringIO()))


@pytest.mark.parametrize("settings", [[], ["judge={url: x, model: m}", "serving.port=1"], ["judge={url: x, modle: m}"]])
def test_a_wrong_setting_is_refused(run, settings):
    with pytest.raises(ConfigError, match="judge"):
        judge(["run=mine", f"store.url={run}", *settings], Console(file=io.StringIO()))
