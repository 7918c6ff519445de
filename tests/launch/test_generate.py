"""`sea-ray generate`: what a person sees, and files that sft.data reads. Teachers are asked in tests/sft."""

import io
import json
import re

import pytest
from rich.console import Console
from scripted_endpoint import ScriptedEndpoint

from sea_ray.demo import World
from sea_ray.errors import ConfigError, DataError
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.generate import generate
from sea_ray.sft.stages import build_stage_data

NAMES = ["Manchester", "Liverpool", "Edinburgh", "Canterbury", "Bristol", "Cambridge", "Portsmouth", "Nottingham", "Winchester"]


@pytest.fixture
def overrides(miniature, tmp_path):
    rows = [{"question": f"Where is {name}?", "answer": "There.", "entity": name, "kind": "place"} for name in NAMES]
    (tmp_path / "en.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return [*miniature, f"store.url={tmp_path / 'runs'}", f"sft.data.root={tmp_path}", "sft.generate=swap",
            "sft.questions={en: en.jsonl}"]


def told(overrides):
    console = Console(file=io.StringIO(), soft_wrap=True, width=200)
    assert generate(overrides, console) == 0
    return console.file.getvalue()


def test_swapped_entities_become_files_of_fine_tuning(overrides, tmp_path):
    text = told(overrides)
    file = tmp_path / "runs" / "miniature" / "generated" / "swap" / "en.jsonl"
    assert f"{file}: pairs 9\n" in text
    assert "name the files in sft.data with format answerability" in text
    source = f"{{path: {file.relative_to(tmp_path)}, language: en, format: answerability}}"
    config = compose_experiment([*overrides, f"sft.data.broad.files=[{source}]"])
    data = build_stage_data(config.sft.data, config.sft.data.broad, World(0, config.corpus.languages))
    read = [one for one in data["en"] if one.messages[0].content.startswith("Where is ")]
    assert [one.kind for one in read] == ["fact", "unanswerable"] * 9
    first = file.read_bytes()
    told(overrides)
    assert file.read_bytes() == first
    told([*overrides, "seed=1"])
    assert file.read_bytes() != first


def test_stories_are_told_per_language_with_their_cost(overrides, tmp_path, monkeypatch):
    def story(number):
        named = re.search('"([^"]+)"', teacher.asked[number]["messages"][0]["content"].splitlines()[0])
        name = named[1] if named else f"Name {number}"
        return 200, json.dumps({"name": name, "questions": [{"question": f"{name} {number}?", "answer": "So."}]})

    monkeypatch.setenv("TEACHER_KEY", "secret")
    teacher = ScriptedEndpoint(story)
    with teacher.running() as url:
        text = told([*overrides, "sft.generate=stories", f"+sft.teacher={{url: '{url}', model: m, key_variable: TEACHER_KEY, "
                     "requests_per_language: 4, output_price: 1000}"])
    folder = tmp_path / "runs" / "miniature" / "generated" / "stories"
    for code in ("en", "id", "th"):
        assert f"{folder / code}.jsonl: accepted 4\n" in text
        assert (folder / f"{code}.jsonl").read_text().count("unanswerable") == 2
    assert "1,200 prompt tokens and 240 answer tokens cost 0.24\n" in text
    asked = [body["messages"][0]["content"] for body in teacher.asked]
    assert any(name in request for request in asked for name in NAMES), "rows of English name its entities"


def test_what_is_missing_is_named(overrides):
    with pytest.raises(ConfigError, match=r"sft.questions: there are none to swap"):
        told([one for one in overrides if not one.startswith("sft.questions")])
    for way in ("stories", "instructions"):
        with pytest.raises(ConfigError, match=r"sft.teacher: there is none"):
            told([*overrides, f"sft.generate={way}"])
    with pytest.raises(ConfigError, match=r"sft.questions.vi: 'vi' is not in corpus.languages"):
        told([*overrides, "sft.questions={vi: en.jsonl}"])
    with pytest.raises(DataError, match=r"none.jsonl: the file does not exist"):
        told([*overrides, "sft.questions={en: none.jsonl}"])
    with pytest.raises(ConfigError, match=r"swaps.*swap"):
        told([*overrides, "sft.generate=swaps"])
