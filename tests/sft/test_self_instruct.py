import json

import pytest
from scripted_endpoint import ScriptedEndpoint

from sea_ray.errors import ConfigError, DataError, MachineError
from sea_ray.sft.conversation import conversation
from sea_ray.sft.self_instruct import generate, parse, question
from sea_ray.sft.teacher import TeacherConfig
from sea_ray.tracking import NullTracker

EXAMPLES = {"th": [conversation(f"ถามเรื่องที่ {number} เกี่ยวกับบ้านเก่า", f"ตอบ {number}", "th", "list") for number in range(6)]}


def pair(number):
    return json.dumps({"prompt": f"{number * 7919:x} {number**5:x} แม่น้ำ {number * 104729:x}", "response": f"คำตอบ {number}"})


def config(url, **options):
    return TeacherConfig(**{"url": url, "model": "m", "key_variable": "TEACHER_KEY", "requests_per_language": 6, "max_retries": 2,
                            "input_price": 10.0, "output_price": 100.0} | options)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", "secret")


def lines_of(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def test_accepted_repeated_and_unparsed_answers_are_told_apart_and_paid(tmp_path):
    answers = [f"Sure!\n```json\n{pair(1)}\n```", pair(2), pair(2).replace("คำตอบ", "อีกคำตอบ"), "no idea", pair(3),
               json.dumps({"prompt": EXAMPLES["th"][0].messages[0].content, "response": "x"})]
    teacher = ScriptedEndpoint(lambda number: (200, answers[number]))
    with teacher.running() as url:
        made = generate(config(url, concurrency=1), EXAMPLES, tmp_path, NullTracker())
    assert made.outcomes["th"] == {"accepted": 3, "repeated": 2, "unparsed": 1}
    assert [row["response"] for row in lines_of(tmp_path / "th.jsonl")] == ["คำตอบ 1", "คำตอบ 2", "คำตอบ 3"]
    assert (made.prompt_tokens, made.answer_tokens) == (600, 120)
    assert made.cost == pytest.approx(0.018)
    assert set(teacher.keys) == {"Bearer secret"}
    assert "secret" not in "".join(file.read_text() for file in tmp_path.iterdir())


def test_a_run_that_broke_off_goes_on_and_pays_for_nothing_twice(tmp_path):
    teacher = ScriptedEndpoint(lambda number: (200, pair(number)) if number < 3 else (500, "down"))
    with teacher.running() as url, pytest.raises(MachineError, match="the same command goes on"):
        generate(config(url, concurrency=1, max_retries=0), EXAMPLES, tmp_path, NullTracker())
    with (tmp_path / "th.log.jsonl").open("a") as stream:
        stream.write('{"number": 5, "te')  # what a killed process leaves
    asked = len(teacher.asked)
    teacher.script = lambda number: (200, pair(number))
    with teacher.running() as url:
        made = generate(config(url, concurrency=2), EXAMPLES, tmp_path, NullTracker())
        assert len(teacher.asked) - asked == 3
        again = generate(config(url), EXAMPLES, tmp_path, NullTracker())
        assert len(teacher.asked) - asked == 3
        assert again == made
        assert made.outcomes["th"] == {"accepted": 6}
        few = generate(config(url, requests_per_language=2), EXAMPLES, tmp_path, NullTracker())
        assert few.outcomes["th"] == {"accepted": 2}
        assert len(teacher.asked) - asked == 3
        generate(config(url, model="other"), EXAMPLES, tmp_path, NullTracker())
    assert len(teacher.asked) - asked == 9, "another teacher's answers are not its own"


def test_an_answer_may_hold_any_letter_and_what_is_under_way_is_waited_for(tmp_path):
    odd = json.dumps({"prompt": "ก\u2028ข\u0085ค", "response": "ง"}, ensure_ascii=False)
    teacher = ScriptedEndpoint(lambda number: (500, "down") if number == 0 else (200, odd))
    with teacher.running() as url:
        with pytest.raises(MachineError):
            generate(config(url, concurrency=4, max_retries=0), EXAMPLES, tmp_path, NullTracker())
        asked = len(teacher.asked)
        assert len(lines_of(tmp_path / "th.log.jsonl")) == asked - 1, "what was paid is kept"
        made = generate(config(url), EXAMPLES, tmp_path, NullTracker())
    assert sum(made.outcomes["th"].values()) == 6
    assert lines_of(tmp_path / "th.jsonl")[0]["prompt"] == "ก\u2028ข\u0085ค"


def test_a_busy_teacher_is_asked_again(tmp_path):
    teacher = ScriptedEndpoint(lambda number: (503, "busy") if number % 2 == 0 else (200, pair(number)))
    with teacher.running() as url:
        made = generate(config(url, concurrency=1, requests_per_language=2), EXAMPLES, tmp_path, NullTracker())
    assert made.outcomes["th"]["accepted"] == 2


@pytest.mark.parametrize("status", [401, 404])
def test_a_refusal_is_the_configurations_fault_and_ends_at_once(tmp_path, status):
    teacher = ScriptedEndpoint(lambda number: (status, "unknown"))
    with teacher.running() as url, pytest.raises(ConfigError, match="refuses"):
        generate(config(url, concurrency=1), EXAMPLES, tmp_path, NullTracker())
    assert len(teacher.asked) == 1


def test_without_key_examples_or_a_sound_log_nothing_is_asked(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no conversation in 'vi'"):
        generate(config("http://127.0.0.1:1/v1"), {"vi": []}, tmp_path, NullTracker())
    (tmp_path / "th.log.jsonl").write_text("what\n")
    with pytest.raises(DataError, match="not an answer of a teacher"):
        generate(config("http://127.0.0.1:1/v1"), EXAMPLES, tmp_path, NullTracker())
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(ConfigError, match="has no TEACHER_KEY"):
        generate(config("http://127.0.0.1:1/v1"), EXAMPLES, tmp_path, NullTracker())


def test_the_number_decides_the_question():
    settings = config("http://127.0.0.1:1/v1")
    asked = [question(settings, "th", EXAMPLES["th"], number) for number in (1, 1, 2)]
    assert asked[0] == asked[1] != asked[2]
    assert "Thai" in asked[0]
    assert sum(one.messages[0].content in asked[0] for one in EXAMPLES["th"]) == settings.examples


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"prompt": "a"}', '{"prompt": "a", "response": " "}',
                                  '{"prompt": 1, "response": "b"}'])
def test_what_is_no_pair_is_not_parsed(text):
    assert parse(text) is None
