import json

import pytest
from known_names import PERSONS, PLACES

from sea_ray.demo import World
from sea_ray.errors import DataError
from sea_ray.languages import LANGUAGES
from sea_ray.sft.reading import read_source
from sea_ray.sft.sources import FileSource
from sea_ray.sft.unanswerable import ENTITY_KINDS, Question, read_questions, swap

WORDS = {"en": "Where does {} come from?", "th": "{}มาจากไหน", "zh": "{}来自哪里？", "my": "{}ဘယ်ကလဲ။", "km": "{}មកពីណា?",
         "lo": "{}ມາຈາກໃສ", "ta": "{} எங்கிருந்து வந்தது?"}
ROWS = {code: [Question(question=WORDS.get(code, "{}?").format(name), answer=f"A {number}", entity=name, kind=kind)
               for kind, names in (("person", PERSONS), ("place", PLACES)) for number, name in enumerate(names[code])]
        for code in LANGUAGES}


def lines_of(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


@pytest.mark.parametrize("code", LANGUAGES)
def test_each_question_stands_beside_one_about_nobody_refused_in_its_language(tmp_path, code):
    assert swap({code: ROWS[code]}, 0, tmp_path) == {code: {"pairs": len(ROWS[code])}}
    rows = lines_of(tmp_path / f"{code}.jsonl")
    wordings = set()
    for one, real, fake in zip(ROWS[code], rows[::2], rows[1::2], strict=True):
        assert real == {"prompt": one.question, "response": one.answer, "kind": "fact"}
        assert fake["prompt"] == one.question.replace(one.entity, fake["entity"]) != one.question
        assert fake["entity"] in fake["response"]
        wordings.add(fake["response"].replace(fake["entity"], "{name}"))
    phrases = World(0, (code,)).phrases(code).refusals
    assert wordings == {text[:1].upper() + text[1:] if LANGUAGES[code].script == "LATIN" else text for text in phrases}


def test_the_file_is_conversations_of_sft_with_kind_and_entity(tmp_path):
    swap({"th": ROWS["th"]}, 0, tmp_path)
    found = read_source(FileSource(path="th.jsonl", language="th", format="answerability"), tmp_path)
    assert [talk.kind for talk in found] == ["fact", "unanswerable"] * len(ROWS["th"])
    assert all((talk.entity is None) == (talk.kind == "fact") for talk in found)
    assert all(talk.entity in talk.messages[0].content for talk in found[1::2])


def test_one_entity_has_one_counterpart_and_a_repeated_question_is_left_out(tmp_path):
    name = PERSONS["en"][0]
    more = [Question(question=f"When was {name} born, and who raised {name}?", answer="x", entity=name, kind="person"),
            Question(question=ROWS["en"][0].question.upper().replace(name.upper(), name), answer="y", entity=name, kind="person")]
    made = swap({"en": [*ROWS["en"], *more]}, 0, tmp_path)
    assert made == {"en": {"pairs": len(ROWS["en"]) + 1, "repeated": 1}}
    rows = lines_of(tmp_path / "en.jsonl")
    assert rows[1]["entity"] == rows[-1]["entity"]
    assert rows[-1]["prompt"].count(rows[-1]["entity"]) == 2
    assert name not in rows[-1]["prompt"]


def test_the_seed_decides_the_files(tmp_path):
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        swap(ROWS, seed, tmp_path / folder)
    for code in LANGUAGES:
        same, again, other = ((tmp_path / folder / f"{code}.jsonl").read_bytes() for folder in "abc")
        assert same == again != other


def test_too_few_names_of_one_kind_write_no_file(tmp_path):
    few = [Question(question=f"{name}?", answer="x", entity=name, kind="work") for name in ("A", "B")]
    with pytest.raises(DataError, match="2 different names of kind work in 'vi'; at least 8 are needed"):
        swap({"th": ROWS["th"], "vi": few}, 0, tmp_path)
    assert not list(tmp_path.iterdir())


GOOD = {"question": "Who is A?", "answer": "x", "entity": "A", "kind": "person"}


@pytest.mark.parametrize(("row", "says"), [
    ({"question": "Who is A?", "answer": "x", "kind": "person"}, "entity is None; a row needs the texts question"),
    (GOOD | {"answer": " "}, "answer is ' '"),
    (GOOD | {"kind": "persn"}, "unknown kind 'persn'; did you mean person"),
    (GOOD | {"entity": "B"}, "the question does not hold the entity 'B'"),
    (["A"], "a row is an object")])
def test_a_bad_row_is_refused_with_file_line_and_reason(tmp_path, row, says):
    file = tmp_path / "q.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in (GOOD, row)))
    with pytest.raises(DataError, match=says) as caught:
        read_questions(file)
    assert str(caught.value).startswith(f"{file}:2: ")


def test_rows_are_read_in_order(tmp_path):
    rows = [GOOD | {"kind": kind} for kind in ENTITY_KINDS]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [one.kind for one in read_questions(tmp_path / "q.jsonl")] == list(ENTITY_KINDS)
