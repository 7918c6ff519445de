from decimal import Decimal

import pytest

from sea_ray.evaluation.number_reading import read_number

ENGLISH = {"two": 2, "twelve": 12, "one": 1, "twenty": 20}
THAI = {"สิบ": 10, "สิบเอ็ด": 11, "สอง": 2, "สิบสอง": 12}


@pytest.mark.parametrize(
    ("text", "language", "value"),
    [
        ("It costs $1,234.50 in all.", "en", "1234.5"),
        ("Totalnya 1.234,5 rupiah.", "id", "1234.5"),
        ("Tổng cộng 12.000 đồng.", "vi", "12000"),
        ("Hasilnya 3.5", "id", "3.5"),
        ("It is 3,5", "en", "3.5"),
        ("First 5, then 18.", "en", "18"),
        ("คำตอบคือ ๑๒", "th", "12"),
        ("အဖြေ ၄၅ ဖြစ်သည်", "my", "45"),
        ("ចម្លើយ ៧", "km", "7"),
        ("ຄຳຕອບ ໙", "lo", "9"),
        ("答案是18。", "zh", "18"),
        ("The change is -7", "en", "-7"),
        ("They won 5-3", "en", "3"),
        ("12,34,567 ரூபாய்", "ta", "1234567"),
        ("none here", "en", None),
    ],
)
def test_digits_are_read_as_the_language_writes_them(text, language, value):
    assert read_number(text, language) == (None if value is None else Decimal(value))


def test_last_number_counts_be_it_word_or_digits():
    assert read_number("Two and one make Twelve.", "en", ENGLISH) == 12
    assert read_number("12 is two", "en", ENGLISH) == 2
    assert read_number("two is 12", "en", ENGLISH) == 12


def test_number_words_have_borders_where_words_have_spaces():
    assert read_number("someone is often alone", "en", ENGLISH) is None
    assert read_number("பத்துக்கு", "ta", {"பத்து": 10}) is None
    assert read_number("விடை பத்து.", "ta", {"பத்து": 10}) == 10


def test_longest_number_word_wins_where_there_are_no_spaces():
    assert read_number("คำตอบคือสิบเอ็ด", "th", THAI) == 11
    assert read_number("สิบ", "th", THAI) == 10
