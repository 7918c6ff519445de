import random

import numpy as np
import pytest

from sea_ray.demo import World
from sea_ray.languages import LANGUAGES
from sea_ray.near_duplicates import repeats, signatures


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
    copies = [edited(text, generator, 0.04) for text in originals]
    assert repeats([*originals, *copies], 0.7)[len(originals) :].mean() >= 0.95


def test_other_documents_pass():
    texts = [f"{number * 7919:x} river {number * 104729:x} bridge {number * 1299709:x} harvest {number**3:x}" for number in
             range(1, 600)]
    assert repeats(texts, 0.7).mean() <= 0.01


def test_the_first_of_several_stays_and_case_and_spaces_do_not_count():
    texts = ["The old bridge stands near the river.", "THE OLD  BRIDGE\nstands near the river!", "ก", "", "ข"]
    assert repeats(texts, 0.7).tolist() == [False, True, False, False, False]


def test_shares_of_equal_values_estimate_the_jaccard_index():
    draw = random.Random(4)
    letters = [draw.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(4000)]
    for cut in (200, 800, 2000):
        one, other = "".join(letters[:3000]), "".join(letters[cut : 3000 + cut])
        exact = (3000 - cut - 4) / (3000 + cut - 4)
        first, second = signatures([one, other])
        assert (first == second).mean() == pytest.approx(exact, abs=4 * 0.044)


def test_what_is_dropped_does_not_depend_on_who_made_the_signatures():
    texts = documents("th", 12) * 2
    whole = signatures(texts)
    parts = np.concatenate([signatures(texts[:5]), signatures(texts[5:])])
    assert np.array_equal(whole, parts)
    assert repeats(texts, 0.7).tolist() == [False] * 12 + [True] * 12


def test_no_text_has_no_signature():
    assert signatures([]).shape == (0, 32, 4)
    assert repeats([], 0.7).tolist() == []
