import subprocess
import sys
from pathlib import Path

import pytest
import regex
from known_names import PERSONS, PLACES

from sea_ray.errors import DataError
from sea_ray.languages import LANGUAGES
from sea_ray.near_duplicates import folded
from sea_ray.sft.invented import MIN_NAMES, counterparts

LISTS = [pytest.param(code, names[code], id=f"{code}-{kind}") for code in LANGUAGES
         for kind, names in (("persons", PERSONS), ("places", PLACES))]
SCRIPTS = {"CJK": "Han", "LATIN": "Latin", "THAI": "Thai", "MYANMAR": "Myanmar", "KHMER": "Khmer", "LAO": "Lao", "TAMIL": "Tamil"}


def distance(one: str, other: str) -> int:
    """Return the edit distance (Levenshtein), the slow way."""
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        before, row = row, [number]
        for place, against in enumerate(other):
            row.append(min(before[place + 1] + 1, row[-1] + 1, before[place] + (letter != against)))
    return row[-1]


@pytest.mark.parametrize(("code", "known"), LISTS)
def test_every_name_has_a_new_one_of_its_own_in_its_script(code, known):
    made = counterparts(known, 0, code)
    assert list(made) == list(known)
    assert len(set(map(folded, made.values()))) == len(known)
    script = SCRIPTS[LANGUAGES[code].script]
    for name in made.values():
        assert regex.fullmatch(rf"[\p{{{script}}}\p{{M}} ]+", name)
        assert not regex.search(r"(?:^| )\p{M}", name), "no sign without its letter"


@pytest.mark.parametrize(("code", "known"), LISTS)
def test_no_new_name_is_or_copies_or_shortens_or_holds_a_known_one(code, known):
    words = {word for name in known for word in name.split()}
    for new in counterparts(known, 3, code).values():
        assert set(new.split()) - words, "known words in another order may be somebody"
        for name in known:
            assert folded(new) not in folded(name)
            assert folded(name) not in folded(new)
            assert distance(folded(new), folded(name)) > (1 if len(folded(name)) > 3 else 0), (new, name)


@pytest.mark.parametrize(("code", "known"), LISTS)
def test_two_letters_beside_each_other_stood_so_in_a_known_name(code, known):
    """But for syllables: Chinese characters, and Latin consonants before vowels."""
    seen = {name[at : at + 2] for name in known for at in range(len(name) - 1)}
    free = r"\p{Han}{2}|[\p{Latin}--[aeiouy]]\p{Latin}"
    for new in counterparts(known, 1, code).values():
        for word in new.split():
            odd = [pair for pair in (word[at : at + 2] for at in range(len(word) - 1)) if pair not in seen]
            assert all(regex.fullmatch(free, pair, regex.V1) for pair in odd), (new, odd)


def test_the_seed_decides_and_nothing_else():
    code = ("from known_names import PERSONS; from sea_ray.sft.invented import counterparts\n"
            "for names in PERSONS.values(): print(counterparts(names, 5, ''))")
    here = Path(__file__).resolve()
    path = {"PYTHONPATH": f"{here.parent}:{here.parents[2]}", "PYTHONUTF8": "1"}
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True,
                           env=path | {"PYTHONHASHSEED": seed}).stdout for seed in ("1", "2")}
    assert len(runs) == 1
    assert counterparts(PERSONS["th"], 5, "") != counterparts(PERSONS["th"], 6, "")


def test_common_words_stay_and_spellings_of_one_name_share_a_new_one():
    known = [f"University of {place}" for place in PLACES["en"]] + ["university  of MANCHESTER"]
    made = counterparts(known, 0, "organisation in 'en'")
    assert all(name.startswith("University of ") for name in made.values())
    assert made[known[0]] == made[known[-1]]


def test_too_few_names_are_refused_with_the_number_that_is_needed():
    with pytest.raises(DataError, match=f"3 different names of kind person in 'th'; at least {MIN_NAMES} are needed"):
        counterparts(PERSONS["th"][:3] * 4, 0, "person in 'th'")
    with pytest.raises(DataError, match=r"give only \d+ new ones .*, 9 are needed: add rows about others"):
        counterparts([letter * 4 for letter in "abcdefghi"], 0, "x")
