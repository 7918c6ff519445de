import random
import time

import pytest
from icu import Transliterator

from sea_ray.corpus import zawgyi as zawgyi_module
from sea_ray.corpus.config import CorpusConfig, FileSource
from sea_ray.corpus.zawgyi import is_zawgyi, to_unicode
from sea_ray.demo import World


@pytest.fixture(scope="module")
def burmese():
    return list(World(0, ("my",)).documents("my", "train", 300))


@pytest.fixture(scope="module")
def zawgyi(burmese):
    return list(map(Transliterator.createInstance("my-Zawgyi").transliterate, burmese))


def test_zawgyi_is_told_from_unicode(burmese, zawgyi):
    assert sum(map(is_zawgyi, zawgyi)) >= 0.99 * len(zawgyi)
    assert sum(map(is_zawgyi, burmese)) <= 0.01 * len(burmese)


def test_what_is_converted_is_unicode(zawgyi):
    assert to_unicode("ျမန္မာ") == "မြန်မာ"
    assert not any(is_zawgyi(to_unicode(text)) for text in zawgyi)


def whole(text):
    return Transliterator.createInstance("Zawgyi-my").transliterate(text)


def test_in_pieces_everything_is_converted_as_in_one(monkeypatch, zawgyi):
    monkeypatch.setattr(zawgyi_module, "_PIECE_CHARACTERS", 200)
    for joint in (" ", "\n", "\n\n", "။", " \u200b"):
        text = joint.join(zawgyi[:40])
        assert len(list(zawgyi_module._pieces(text))) > 10
        assert to_unicode(text) == whole(text)


def test_in_pieces_even_nonsense_is_converted_as_in_one(monkeypatch):
    monkeypatch.setattr(zawgyi_module, "_PIECE_CHARACTERS", 8)
    draw = random.Random(0)
    letters = [chr(code) for code in range(0x1000, 0x10A0)]
    for _ in range(300):
        text = ""
        for _ in range(20):  # a seam at least every eight characters
            text += "".join(draw.choices([*letters, " ", "\n", "\u200b", "0", "a"], k=draw.randint(0, 6)))
            text += draw.choice(" \n\u1038\u104a\u104b") + draw.choice(letters[:0x22])
        assert to_unicode(text) == whole(text)


@pytest.mark.parametrize("joint", [" ", ""])
def test_the_time_of_converting_is_proportional_to_the_length(zawgyi, joint):
    text = joint.join("".join(zawgyi).split()) * 4

    def seconds(length):
        best = float("inf")
        for _ in range(3):
            begun = time.process_time()
            to_unicode(text[:length])
            best = min(best, time.process_time() - begun)
        return best

    assert seconds(160_000) < 24 * seconds(20_000), "eight times the text; the square would be 64 times"


def test_text_without_myanmar_letters_is_not_judged():
    assert not is_zawgyi("plain English")
    assert not is_zawgyi("ภาษาไทย")
    assert not is_zawgyi("")


@pytest.mark.parametrize("rule", ["convert", "drop"])
def test_zawgyi_documents_are_converted_or_dropped_and_counted(tmp_path, burmese, zawgyi, rule, gather, in_memory):
    (tmp_path / "my.txt").write_text("\n".join(text.replace("\n", " ") for text in [*zawgyi[:10], *burmese[10:60]]))
    config = CorpusConfig(source="files", root=str(tmp_path), languages=("my",), paths={"my": (FileSource(glob="my.txt"),)},
                          zawgyi=rule, validation_frac=0.2, test_frac=0.2, near_duplicate_jaccard=0, deduplicate=False)
    documents = gather(config)
    row = next(row for row in documents.funnel if row.step == "zawgyi")
    assert (row.documents_in - row.documents_out, row.documents_changed) == ((10, 0) if rule == "drop" else (0, 10))
    kept = [text for part in in_memory(documents, "my").values() for text in part]
    assert len(kept) == (50 if rule == "drop" else 60)
    assert not any(map(is_zawgyi, kept))
