import json
import re

import pytest
from known_names import PERSONS
from scripted_endpoint import ScriptedEndpoint

from sea_ray.errors import ConfigError, DataError, MachineError
from sea_ray.sft.reading import read_source
from sea_ray.sft.sources import FileSource
from sea_ray.sft.stories import Subject, generate, parse, request
from sea_ray.sft.teacher import TeacherConfig
from sea_ray.sft.unanswerable import ENTITY_KINDS, Question
from sea_ray.tracking import NullTracker

ROWS = [Question(question=f"{name}มาจากไหน", answer="x", entity=name, kind="person") for name in PERSONS["th"]]


def config(url, **options):
    return TeacherConfig(**{"url": url, "model": "m", "key_variable": "TEACHER_KEY", "requests_per_language": 6, "concurrency": 1,
                            "max_retries": 0, "input_price": 10.0, "output_price": 100.0} | options)


def reply(name, number, questions=4, **changes):
    listed = [{"question": f"{name} ข้อ {number}-{place}", "answer": f"ตอบ {number}-{place}"} for place in range(questions)]
    return json.dumps({"name": name, "text": "เรื่องเล่า", "questions": listed} | changes, ensure_ascii=False)


class Writer(ScriptedEndpoint):
    """Answers with the name that it was given, or with one of its own."""

    def __init__(self, change=lambda name, number: (200, reply(name, number))):
        super().__init__(lambda number: change(self.name(number), number))

    def name(self, number):
        given = re.search('"([^"]+)"', self.asked[number]["messages"][0]["content"].splitlines()[0])
        return given[1] if given else f"ชื่อ{number}"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", "secret")


def rows_of(folder, code="th"):
    return [json.loads(line) for line in (folder / f"{code}.jsonl").read_text(encoding="utf-8").split("\n") if line]


def test_half_of_the_rows_are_refused_and_half_are_answered(tmp_path):
    with Writer().running() as url:
        made = generate(config(url), {"th": ROWS}, tmp_path, NullTracker())
    assert made.outcomes["th"]["accepted"] == 24
    assert (made.prompt_tokens, made.answer_tokens, made.cost) == (600, 120, pytest.approx(0.018))
    rows = rows_of(tmp_path)
    assert [row["kind"] for row in rows] == ["fact", "unanswerable"] * 12
    assert all(any(name in row["prompt"] for name in PERSONS["th"]) for row in rows[::2])
    assert {row["entity"] for row in rows[1::2]}.isdisjoint(PERSONS["th"])
    for row in rows[1::2]:
        assert row["entity"] in row["prompt"]
        assert row["entity"] in row["response"]
    assert len({row["response"].replace(row["entity"], "") for row in rows[1::2]}) == 6, "all wordings occur"
    assert "เรื่องเล่า" not in (tmp_path / "th.jsonl").read_text(encoding="utf-8"), "the student does not see the story"
    assert len(read_source(FileSource(path="th.jsonl", language="th", format="answerability"), tmp_path)) == 24


def test_without_rows_the_teacher_chooses_entities_of_all_kinds(tmp_path):
    writer = Writer()
    with writer.running() as url:
        made = generate(config(url, requests_per_language=10), {"lo": []}, tmp_path, NullTracker())
    assert made.outcomes["lo"]["accepted"] == 40
    asked = [body["messages"][0]["content"] for body in writer.asked]
    assert all("Lao" in text for text in asked)
    for place, kind in enumerate(ENTITY_KINDS):
        assert kind in asked[2 * place].splitlines()[0]
        assert "invent" in asked[2 * place]
        assert "really exists" in asked[2 * place + 1]


def test_what_cannot_be_used_is_counted_and_both_halves_stay_equal(tmp_path):
    def change(name, number):
        if number == 0:
            return 200, reply(name, number, questions=2)  # its counterpart loses two
        if number == 2:
            return 200, "I'd rather not."  # its counterpart loses all
        if number == 5:
            return 200, reply(name, number).replace(f"{name} ข้อ 5-0", "ใคร").replace(f"{name} ข้อ 5-1", f"{name} ข้อ 5-2")
        return 200, reply(name, number)

    with Writer(change).running() as url:
        made = generate(config(url), {"th": ROWS}, tmp_path, NullTracker())
    assert made.outcomes["th"] == {"accepted": 8, "unpaired": 8, "unparsed": 1, "nameless": 1, "repeated": 1}
    kinds = [row["kind"] for row in rows_of(tmp_path)]
    assert kinds.count("fact") == kinds.count("unanswerable") == 4


def test_a_run_that_broke_off_goes_on_and_pays_for_nothing_twice(tmp_path):
    writer = Writer(lambda name, number: (200, reply(name, number)) if number < 3 else (500, "down"))
    with writer.running() as url, pytest.raises(MachineError, match="the same command goes on"):
        generate(config(url), {"th": ROWS}, tmp_path, NullTracker())
    assert not (tmp_path / "th.jsonl").exists()
    asked = len(writer.asked)
    whole = Writer()
    with whole.running() as url:
        made = generate(config(url), {"th": ROWS}, tmp_path, NullTracker())
        assert len(whole.asked) == 6 - (asked - 1)
        first = (tmp_path / "th.jsonl").read_bytes()
        assert generate(config(url), {"th": ROWS}, tmp_path, NullTracker()) == made
        assert len(whole.asked) == 6 - (asked - 1)
    assert (tmp_path / "th.jsonl").read_bytes() == first


def test_what_can_not_be_asked_is_refused_before_it_is_paid(tmp_path):
    nowhere = "http://127.0.0.1:1/v1"
    with pytest.raises(ConfigError, match="1 is below 2"):
        generate(config(nowhere, requests_per_language=1), {"th": ROWS}, tmp_path, NullTracker())
    with pytest.raises(DataError, match="3 different names of kind person in 'th'"):
        generate(config(nowhere), {"th": ROWS[:3]}, tmp_path, NullTracker())


def test_a_request_names_language_kind_and_entity():
    fake = request("my", Subject(kind="organisation", real=False, name="ABC"))
    assert 'an organisation with the invented name "ABC"' in fake
    assert "in Burmese" in fake
    assert 'called "XYZ", which is real' in request("my", Subject(kind="work", real=True, name="XYZ"))


@pytest.mark.parametrize("text", ["", "[]", '{"name": "a"}', '{"name": "a", "questions": []}',
                                  '{"name": "a", "questions": ["b"]}',
                                  '{"name": " ", "questions": [{"question": "b", "answer": "c"}]}',
                                  '{"name": "a", "questions": [{"question": "b", "answer": 3}]}'])
def test_what_is_no_story_with_questions_is_not_parsed(text):
    assert parse(text) is None
