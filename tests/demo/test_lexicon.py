import unicodedata
from importlib import resources

import pytest

from sea_ray.demo import World, load_lexicon
from sea_ray.demo.lexicon import parse_lexicon
from sea_ray.demo.patterns import Pattern
from sea_ray.errors import DataError
from sea_ray.languages import LANGUAGES

ENGLISH = (resources.files("sea_ray.demo") / "lexicon" / "en.yaml").read_text(encoding="utf-8")


def parse_changed(old: str, new: str) -> None:
    assert old in ENGLISH
    parse_lexicon(ENGLISH.replace(old, new, 1), "changed.yaml", load_lexicon("en"))


def texts(code: str) -> list[str]:
    """Return sentences, questions and answers of every kind but exams, whose options carry Latin letters."""
    world = World(0, (code,))
    kinds = ("fact", "list", "arithmetic", "unanswerable", "unsafe_general", "safe_general", "unsafe_culture")
    dialogues = [d for kind in (*kinds, "safe_culture") for d in world.dialogues(code, kind, "train", 150)]  # type: ignore[arg-type]
    said = [text for dialogue in dialogues for text in (dialogue.prompt, dialogue.answer)]
    asked = [text for item in world.exam(code, "train", 60) for text in (item.question, *item.options)]
    translate = load_lexicon(code).patterns["prompts.translate"]
    names = load_lexicon(code).words["language"].values()
    said += [translate.fill({"language": forms, "text": {"base": ""}}) for forms in names]
    return world.documents(code, "train", 300) + said + asked


def test_the_package_holds_exactly_the_twelve_languages() -> None:
    files = {file.name for file in (resources.files("sea_ray.demo") / "lexicon").iterdir()}
    assert files == {f"{code}.yaml" for code in LANGUAGES}


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_lexicon_has_the_keys_of_english_and_all_forms_that_its_patterns_ask_for(code: str) -> None:
    lexicon, english = load_lexicon(code), load_lexicon("en")
    assert lexicon.code == code
    assert set(lexicon.patterns) == set(english.patterns)
    for category, entries in english.words.items():
        if category != "item":
            assert set(lexicon.words[category]) == set(entries), category


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_lexicon_has_150_content_words_and_25_sentence_patterns(code: str) -> None:
    lexicon = load_lexicon(code)
    names = ("person", "town", "language", "category", "item")
    words = {
        forms["base"] for category, part in lexicon.words.items() if category not in names for forms in part.values()
    }
    sentences = {lexicon.patterns[path].parts for path in lexicon.paths("sentences")}
    assert len(words) >= 150
    assert len(sentences) >= 25


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_letter_is_of_the_script_of_its_language(code: str) -> None:
    script = LANGUAGES[code].script
    found = "".join(set("".join(texts(code))))
    wrong = {letter for letter in found if letter.isalpha() and not unicodedata.name(letter).startswith(script)}
    assert not wrong
    marks = {mark for mark in found if unicodedata.category(mark).startswith("M")}
    assert not {mark for mark in marks if not unicodedata.name(mark).startswith(script)}


@pytest.mark.parametrize("code", [code for code, known in LANGUAGES.items() if known.script == "LATIN"])
def test_latin_sentences_begin_with_a_capital(code: str) -> None:
    sentences = [
        sentence for document in World(0, (code,)).document_sentences(code, "train", 300) for sentence in document
    ]
    assert [sentence for sentence in sentences if not sentence[0].isupper()] == []


def test_no_two_words_of_a_category_look_alike_in_any_language() -> None:
    for code in LANGUAGES:
        for category, entries in load_lexicon(code).words.items():
            assert len({forms["base"] for forms in entries.values()}) == len(entries), (code, category)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('  goes: "', '  walks: "', r"changed.yaml: keys differ from en.yaml: missing \['sentences.goes'\].*walks"),
        ("    cat: {", "    kitten: {", r"changed.yaml: keys differ .*words.animal.cat"),
        ("{activity} {time}", "{activty} {time}", "changed.yaml: sentences.activity: there is no category 'activty'"),
        ("{fruit.plural} at", "{fruit.dual} at", r"changed.yaml: sentences.buys_fruit: .*'dual'.*words.fruit.banana"),
        ("Where does {person} live?", "Where does {person.x} live?", "facts.home.question: .*invented.person.ends"),
        ("{person} {activity} {time}", "{person} {activity}", r"sentences.activity: slots .*en.yaml has"),
        ("    tea: tea", "    tea: water", "words.drink: water and tea are both 'water'"),
        ("    tea: tea", "    water: tea", r"changed.yaml:\d+: key 'water' stands twice"),
        ("    tea: tea", "    tea:", r"changed.yaml:\d+: empty value"),
        ("{person} is very {feeling}", "{person is very {feeling}", "sentences.feeling: .*brace outside of a slot"),
        ("categories:\n", "kinds:\n", "changed.yaml: 'categories' is missing"),
        ("bek, mira, dor", "bek, bek, bek", r"invented.person.ends: 14 different entries, at least 16"),
    ],
)
def test_a_wrong_lexicon_is_refused_with_file_and_key(old: str, new: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_changed(old, new)


def test_a_missing_lexicon_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"lexicon/xx.yaml: the package has no lexicon"):
        load_lexicon("xx")


def test_a_pattern_puts_each_form_in_its_place() -> None:
    pattern = Pattern.parse("{person1} gives {object.a} to {person2}; {a} + {b}")
    assert pattern.categories == {
        "a": "number",
        "b": "number",
        "object": "object",
        "person1": "person",
        "person2": "person",
    }
    words = {"person1": {"base": "Linh"}, "person2": {"base": "Hoa"}, "object": {"base": "egg", "a": "an egg"}}
    assert pattern.fill({**words, "a": {"base": "one"}, "b": {"base": "two"}}) == "Linh gives an egg to Hoa; one + two"


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_refusal_begins_with_the_name_as_answers_do(code: str) -> None:
    assert not any(text.startswith("{name}") for text in World(0, (code,)).phrases(code).refusals)
