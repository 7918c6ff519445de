import random

import pytest

from sea_ray.demo import World
from sea_ray.languages import LANGUAGES
from sea_ray.near_duplicates import NearDuplicates


def documents(code, count):
    """Return documents of ten sentences that share no sentence."""
    sentences = list(dict.fromkeys(
        line for text in World(3, (code,)).documents(code, "train", 40 * count) for line in text.splitlines() if line))
    random.Random(0).shuffle(sentences)
    return ["\n".join(sentences[start : start + 10]) for start in range(0, 10 * count, 10)]


def edited(text, generator, frac):
    """Return a text with a share of its characters replaced, in runs of up to six."""
    letters = list(text)
    for _ in range(max(1, round(len(letters) * frac / 3.5))):
        place, length = generator.randrange(len(letters)), generator.randint(1, 6)
        letters[place : place + length] = letters[generator.randrange(len(letters)):][:length]
    return "".join(letters)


@pytest.mark.parametrize("code", LANGUAGES)
def test_edited_copies_are_found_in_every_script(code):
    originals, generator = documents(code, 30), random.Random(1)
    index = NearDuplicates(0.7)
    for text in originals:
        index(text)
    copies = [edited(text, generator, 0.04) for text in originals]
    assert sum(index(copy) is None for copy in copies) >= 0.95 * len(copies)


def test_other_documents_pass():
    index = NearDuplicates(0.7)
    texts = [f"{number * 7919:x} river {number * 104729:x} bridge {number * 1299709:x} harvest {number**3:x}" for number in
             range(1, 600)]
    assert sum(index(text) is None for text in texts) <= 0.01 * len(texts)


def test_the_first_of_several_stays_and_case_and_spaces_do_not_count():
    index = NearDuplicates(0.7)
    assert index("The old bridge stands near the river.") == "The old bridge stands near the river."
    assert index("THE OLD  BRIDGE\nstands near the river!") is None
    assert index("ก") == "ก"
    assert index("") == ""
