import pytest

from sea_ray.corpus.occurrence import document_texts, occurring
from sea_ray.demo import SPLITS, World
from sea_ray.languages import LANGUAGES

PLANTED = {"en": "Shefferpool", "zh": "乌鲁家界", "id": "Yogyang", "vi": "Nguyễn Hươn", "th": "สุนทราชธน",
           "tl": "Zamboaguio", "ms": "Kuchor", "my": "ရန်တော်", "km": "ភ្នំបង", "lo": "ໂພນນະເຂດ", "ta": "மதுமரி", "jv": "Purworogo"}


@pytest.fixture(scope="module")
def world():
    return World(0)


@pytest.fixture(scope="module")
def documents(world):
    counts = dict(zip(SPLITS, (400, 100, 200), strict=True))
    return [(code, text) for code in world.languages for split, count in counts.items()
            for text in world.documents(code, split, count)]


def test_no_invented_name_of_the_demo_world_occurs_in_its_text(world, documents):
    names = [name for code in world.languages for kind in ("person", "town")
             for forms in world.lexicon(code).invented_names(kind).values() for name in forms.values()]
    asked = {talk.entity for code in world.languages for split in SPLITS for talk in world.unanswerable(code, split, 100_000)}
    assert len(names) > 6000
    assert asked <= set(names)
    assert occurring(names, documents) == {}


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_planted_name_is_found_in_every_script_wherever_it_stands(world, code):
    name = PLANTED[code]
    text = world.documents(code, "train", 1)[0]
    for planted in (f"{text} {name} {text}", f"({name})", name.upper(), f"{text}\n{name[:3]}\u200b{name[3:]}"):
        assert occurring([name, "Qqqq"], [("en", text), (code, planted)]) == {name: code}
    assert occurring([name], [(code, text)]) == {}


def test_a_name_counts_from_where_a_word_begins_in_spaced_scripts():
    assert occurring(["Ana"], [("id", "banana, ma na, kan-ana2")]) == {"Ana": "id"}, "a hyphen parts words"
    assert occurring(["Ana", "மரி"], [("id", "banana, ma nana"), ("ta", "குமரி")]) == {}
    assert occurring(["Ana", "மரி"], [("id", "Ananya"), ("ta", "மரியை")]) == {"Ana": "id", "மரி": "ta"}
    assert occurring(["กา"], [("th", "มากกาแฟ")]) == {"กา": "th"}


def test_overlapping_names_and_spellings_are_all_found_with_the_first_language():
    names = ["Siti Rahma", "SITI RAHMA", "Rahma", "Rahmawati", "Siti"]
    assert occurring(names, [("ms", "Siti  Rahma wati"), ("id", "Rahma")]) == dict.fromkeys(names, "ms")
    assert occurring([], iter([])) == {}
    assert occurring(["", " "], [("en", "a")]) == {}


def test_documents_of_every_split_are_read(make_documents):
    texts = {code: {split: [f"{code} {split} {number}" for number in range(3000)] for split in SPLITS} for code in ("th", "vi")}
    documents = make_documents(texts)
    assert list(document_texts(documents)) == [
        (code, text) for code, parts in texts.items() for split in SPLITS for text in parts[split]]
    assert occurring(["Vi test 2999", "Vi 3"], document_texts(documents)) == {"Vi test 2999": "vi"}
