import csv
from pathlib import Path

import pytest

from sea_ray.corpus.identification import is_language, is_written_in
from sea_ray.evaluation.fidelity import fidelity, keeps_language
from sea_ray.languages import LANGUAGES

SIB = Path(__file__).resolve().parents[3] / "shared" / "data" / "eval" / "sib200_dev"
SAID = {
    "en": "Rice is eaten with every meal in this town.", "zh": "这座城市的人每餐都吃米饭。",
    "id": "Nasi dimakan setiap kali makan karena murah.", "vi": "Ở thị trấn này bữa nào người ta cũng ăn cơm.",
    "th": "คนในเมืองนี้กินข้าวทุกมื้อ", "tl": "Kumakain ng kanin ang mga tao sa bayang ito sa bawat kainan.",
    "ms": "Nasi dimakan setiap kali makan kerana ia murah.", "my": "ဤမြို့မှလူများသည်ထမင်းကိုနေ့တိုင်းစားကြသည်။",
    "km": "មនុស្សនៅទីក្រុងនេះញ៉ាំបាយរាល់ថ្ងៃ។", "lo": "ຄົນໃນເມືອງນີ້ກິນເຂົ້າທຸກໆມື້", "ta": "இந்த ஊர் மக்கள் தினமும் சோறு சாப்பிடுகிறார்கள்.",
    "jv": "Wong-wong ing kutha iki mangan sega saben dina.",
}


@pytest.mark.parametrize("code", LANGUAGES)
def test_an_answer_keeps_its_own_language_and_no_other(code):
    assert [other for other in LANGUAGES if keeps_language(SAID[code], other, is_written_in)] == [code]


def test_javanese_answered_in_indonesian_is_not_kept_though_a_corpus_may_take_it():
    assert is_language(SAID["id"], "jv")
    assert not is_written_in(SAID["id"], "jv")


def test_a_foreign_name_is_no_other_language_and_an_answer_in_foreign_letters_is():
    assert keeps_language("Budi Santoso อาศัยอยู่ที่เมืองน่านกับครอบครัวของเขา", "th", lambda *_: True)
    assert not keeps_language("The answer is: เมืองน่าน", "th", lambda *_: True)


def test_answers_without_letters_are_in_every_language_and_none_is_judged():
    assert keeps_language("42", "th", lambda *_: False)
    assert fidelity("t", "th", ["42", ""], is_written_in) == []
    (figure,) = fidelity("t", "th", ["42", SAID["th"], SAID["lo"]], is_written_in)
    assert (figure.metric, figure.value, figure.n) == ("in_language", 0.5, 2)


@pytest.mark.skipif(not SIB.exists(), reason="shared/data is not here")
@pytest.mark.parametrize("code", LANGUAGES)
def test_real_sentences_keep_their_language(code):
    with (SIB / f"{LANGUAGES[code].flores}.tsv").open(encoding="utf-8-sig") as stream:
        texts = [row["text"] for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)]
    assert sum(keeps_language(text, code, is_written_in) for text in texts) >= 0.98 * len(texts)
    assert sum(keeps_language(text[:40], code, is_written_in) for text in texts) >= 0.95 * len(texts)
