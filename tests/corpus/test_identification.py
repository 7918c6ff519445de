import csv
from pathlib import Path

import pytest

from sea_ray.corpus.identification import identify, is_language
from sea_ray.languages import LANGUAGES

SIB200 = Path(__file__).resolve().parents[3] / "shared/data/eval/sib200_dev"
NAMES = {"eng": "en", "zho": "zh", "ind": "id", "vie": "vi", "tha": "th", "tgl": "tl", "zsm": "ms", "mya": "my", "khm": "km",
         "lao": "lo", "tam": "ta", "jav": "jv"}
MALAY = "Kerajaan memberitahu bahawa hospital itu boleh membuka pejabat baharu kerana bilangan pesakit semakin ramai."
INDONESIAN = "Pemerintah mengatakan bahwa rumah sakit itu bisa membuka kantor baru karena jumlah pasien semakin banyak."
JAVANESE = "Aku arep menyang pasar tuku beras lan iwak, banjur mulih menyang omahe simbah ing desa."


def test_malay_and_indonesian_are_told_apart_by_their_words():
    assert identify(MALAY) == "ms"
    assert identify(INDONESIAN) == "id"
    assert identify(JAVANESE) == "jv"


def test_only_a_clear_case_is_held_to_be_in_the_wrong_one():
    assert is_language(MALAY, "ms")
    assert is_language(INDONESIAN, "id")
    assert not is_language(MALAY, "id")
    assert not is_language(INDONESIAN, "ms")
    both = "Ibu dan anak makan nasi di rumah."
    assert is_language(both, "id")
    assert is_language(both, "ms")


def test_javanese_is_taken_for_either_but_not_for_another_language():
    assert is_language(JAVANESE, "jv")
    assert is_language(JAVANESE, "id")
    assert not is_language(JAVANESE, "vi")


def test_held_out_sentences_of_sib200_are_identified():
    if not SIB200.is_dir():
        pytest.skip("the real data are not there")
    accuracy = {}
    for file in SIB200.glob("*.tsv"):
        code = NAMES[file.name[:3]]
        rows = [row["text"] for row in csv.DictReader(file.open(encoding="utf-8"), delimiter="\t", quoting=csv.QUOTE_NONE)]
        accuracy[code] = sum(identify(text) == code for text in rows) / len(rows)
    assert set(accuracy) == set(LANGUAGES)
    assert sum(accuracy.values()) / len(accuracy) >= 0.97
    assert accuracy["ms"] >= 0.90
    assert accuracy["id"] >= 0.90
