import subprocess
import sys
import time
from collections import Counter

import pytest

from sea_ray.demo import HELPFUL_KINDS, KINDS, SPLITS, World, load_lexicon
from sea_ray.errors import ConfigError
from sea_ray.languages import LANGUAGES

CODES = tuple(LANGUAGES)
EVERYTHING = 100_000


@pytest.fixture(scope="module")
def world() -> World:
    return World(7)


@pytest.mark.parametrize("code", CODES)
def test_no_held_out_sentence_is_ever_in_a_training_document(world: World, code: str) -> None:
    said = {
        split: {sentence for document in world.document_sentences(code, split, count) for sentence in document}
        for split, count in (("train", 800), ("validation", 100), ("test", 100))
    }
    said["train"] |= {own for own, _ in world.pairs(code, "en", "train", 500)}
    said["test"] |= {own for own, _ in world.pairs(code, "en", "test", 200)}
    assert not said["train"] & said["test"]
    assert not said["train"] & said["validation"]
    assert not said["validation"] & said["test"]


@pytest.mark.parametrize("code", CODES)
def test_topics_and_prompts_of_the_splits_are_disjoint(world: World, code: str) -> None:
    for kind in KINDS:
        parts = {split: world.dialogues(code, kind, split, 120) for split in SPLITS}
        for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
            topics = [{dialogue.topic for dialogue in parts[split]} for split in (one, other)]  # type: ignore[index]
            assert not topics[0] & topics[1], (kind, one, other)
            if kind != "list":  # the request for a list is one sentence per category; its answers are held out
                prompts = [{dialogue.prompt for dialogue in parts[split]} for split in (one, other)]  # type: ignore[index]
                assert not prompts[0] & prompts[1], (kind, one, other)


@pytest.mark.parametrize("code", CODES)
def test_every_fact_stands_in_the_training_text_and_answers_its_question(world: World, code: str) -> None:
    sentences = Counter(s for document in world.document_sentences(code, "train", 1800) for s in document)
    answers = [
        d.answer for split in SPLITS for d in world.fact_questions(code, split, EVERYTHING if split != "train" else 124)
    ]
    assert len(set(answers)) > 150
    assert min(sentences[answer] for answer in answers) >= 5


def test_the_test_part_holds_a_quarter_of_the_facts_whatever_the_language(world: World) -> None:
    topics = {code: {d.topic for d in world.fact_questions(code, "test", EVERYTHING)} for code in CODES}
    assert len(topics["en"]) == len(world.facts) // 4 == 48
    assert all(own == topics["en"] for own in topics.values())


@pytest.mark.parametrize("code", CODES)
def test_invented_names_are_new_in_the_test_part_and_occur_nowhere_else(world: World, code: str) -> None:
    names = {
        split: {
            d.topic.split("|")[1] for d in world.unanswerable(code, split, EVERYTHING if split != "train" else 3000)
        }
        for split in SPLITS
    }
    assert not names["train"] & names["test"]
    assert len(names["test"]) >= 100
    lexicon = load_lexicon(code)
    real = {forms["base"] for kind in ("person", "town") for forms in lexicon.words[kind].values()}
    assert not real & set.union(*names.values())
    text = "\n".join(world.documents(code, "train", 400))
    assert [name for name in names["test"] if name in text] == []


def test_an_invented_name_is_asked_about_in_several_ways(world: World) -> None:
    asked: dict[str, set[str]] = {}
    for dialogue in world.unanswerable("en", "test", 60):
        kind, name = dialogue.topic.split("|")
        asked.setdefault(name, set()).add(kind)
        assert name in dialogue.prompt
        assert name in dialogue.answer
    assert all(len(kinds) >= 3 for kinds in asked.values())


def test_real_and_invented_names_are_asked_the_same_questions(world: World) -> None:
    real, invented = (
        Counter(d.topic.split("|")[0] for d in world.dialogues("th", kind, "train", 900))
        for kind in ("fact", "unanswerable")
    )
    assert set(real) == set(invented)


def test_sums_and_differences_are_right_and_related_ones_share_a_split(world: World) -> None:
    families: dict[str, set[tuple[int, ...]]] = {}
    words = {forms["base"]: int(key[1:]) for key, forms in load_lexicon("en").words["number"].items()}
    for split in SPLITS:
        for dialogue in world.arithmetic("en", split, 500):
            operation, first, second = dialogue.topic.split("|")
            result = int(first) + int(second) if operation == "plus" else int(first) - int(second)
            assert 0 <= result <= 20
            assert words[dialogue.answer.removeprefix("The answer is ").rstrip(".")] == result
            families.setdefault(split, set()).add(tuple(sorted((int(first), int(second), result))))
    assert not families["train"] & families["test"]
    assert len(families["test"]) == 30


def test_sums_of_the_test_part_are_in_no_training_document(world: World) -> None:
    asked = {
        (d.topic.split("|")[1], d.topic.split("|")[2]) for d in world.arithmetic("en", "test", 500) if d.topic[0] == "p"
    }
    number = {key: forms["base"].capitalize() for key, forms in load_lexicon("en").words["number"].items()}
    text = "\n".join(world.documents("en", "train", 1800))
    assert not [pair for pair in asked if f"{number['n' + pair[0]]} plus {number['n' + pair[1]].lower()} " in text]


@pytest.mark.parametrize("code", CODES)
def test_exam_options_are_four_different_words_and_the_right_one_stands_everywhere_equally_often(
    world: World, code: str
) -> None:
    items = world.exam(code, "test", 160)
    assert Counter((item.kind, item.answer_index) for item in items) == {
        (kind, place): 20 for kind in ("fact", "category") for place in range(4)
    }
    assert all(len(set(item.options)) == 4 for item in items)


def test_the_right_option_is_the_value_of_the_fact_or_the_only_member_of_the_category(world: World) -> None:
    lexicon = load_lexicon("en")
    answers = {d.prompt: d.answer for split in SPLITS for d in world.fact_questions("en", split, 124)}
    members = {
        lexicon.render("prompts.which_is", {"category": forms}): {w["base"] for w in lexicon.words[category].values()}
        for category, forms in lexicon.words["category"].items()
    }
    for item in world.exam("en", "test", 160):
        right = item.options[item.answer_index]
        if item.kind == "fact":
            assert right in answers[item.question]
        else:
            assert [option for option in item.options if option in members[item.question]] == [right]


@pytest.mark.parametrize("code", CODES)
def test_each_harmful_request_stands_beside_its_harmless_twin(world: World, code: str) -> None:
    for group in ("general", "culture"):
        test = world.safety(code, "test", EVERYTHING, group)  # type: ignore[arg-type]
        assert len(test) >= 20
        refusals = set(world.phrases(code).safety_refusals)
        for unsafe, safe in zip(test[::2], test[1::2], strict=True):
            assert unsafe.kind == f"unsafe_{group}"
            assert safe.kind == f"safe_{group}"
            assert unsafe.topic == safe.topic
            assert unsafe.answer in refusals
            assert safe.answer not in refusals
            assert unsafe.prompt != safe.prompt


def test_pairs_say_the_same_in_every_language(world: World) -> None:
    english = [own for own, _ in world.pairs("en", "th", "test", 50)]
    assert english == [own for own, _ in world.pairs("en", "jv", "test", 50)]
    assert len(set(english)) == 50
    thai = [other for _, other in world.pairs("en", "th", "test", 50)]
    assert thai == [other for _, other in world.pairs("vi", "th", "test", 50)]


@pytest.mark.parametrize("code", CODES)
def test_instructions_hold_the_helpful_kinds_in_equal_shares(world: World, code: str) -> None:
    kinds = Counter(dialogue.kind for dialogue in world.instructions(code, "train", 100))
    assert kinds == dict.fromkeys(HELPFUL_KINDS, 20)


def test_the_same_seed_gives_the_same_text_in_another_process() -> None:
    program = "from sea_ray.demo import World; w = World(3, ('en', 'th'))\n"
    program += (
        "print(w.documents('th', 'train', 40), w.instructions('en', 'test', 40), w.unanswerable('th', 'test', 9))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_a_longer_request_begins_with_the_shorter_one_and_another_seed_differs(world: World) -> None:
    assert world.documents("vi", "train", 30)[:10] == world.documents("vi", "train", 10)
    assert World(8, ("vi",)).documents("vi", "train", 10) != world.documents("vi", "train", 10)


def test_documents_have_three_to_six_sentences(world: World) -> None:
    lengths = {len(document) for split in SPLITS for document in world.document_sentences("ms", split, 200)}
    assert lengths == {3, 4, 5, 6}


def test_eight_thousand_sentences_come_in_under_two_seconds(world: World) -> None:
    started = time.perf_counter()
    assert sum(map(len, world.document_sentences("ta", "train", 1800))) > 7500
    assert time.perf_counter() - started < 2


def test_wrong_requests_are_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="this world has no 'xx'"):
        world.documents("xx", "train", 1)
    with pytest.raises(ConfigError, match="unknown split 'dev'"):
        world.documents("en", "dev", 1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown kind 'facts'; did you mean fact"):
        world.dialogues("en", "facts", "train", 1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="need a second language"):
        World(0, ("vi",)).instructions("vi", "train", 10)
