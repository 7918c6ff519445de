import pytest
from icu import Transliterator

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
