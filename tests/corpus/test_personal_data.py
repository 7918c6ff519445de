import time

import pytest
from phonenumbers import phonenumbermatcher

from sea_ray.corpus.personal_data import mask


@pytest.mark.parametrize(("code", "text", "masked"), [
    ("en", "Write to anna.lee+x@mail.example.com, please.", "Write to [email], please."),
    ("th", "โทร 081-234-5678 ครับ", "โทร [phone] ครับ"),
    ("vi", "Gọi 0912 345 678 ngay", "Gọi [phone] ngay"),
    ("my", "ဖုန်း ၀၉၂၅၀၁၂၃၄၅၆ ဆက်သွယ်", "ဖုန်း [phone] ဆက်သွယ်"),
    ("km", "ទូរស័ព្ទ 012 345 678", "ទូរស័ព្ទ [phone]"),
    ("jv", "Telpon 0812-3456-7890 wae", "Telpon [phone] wae"),
    ("en", "Call +65 9123 4567 or +60 12-345 6789.", "Call [phone] or [phone]."),
    ("th", "เลขบัตร 1-1017-00230-70-8 ของฉัน", "เลขบัตร [id] ของฉัน"),
    ("zh", "身份证 11010519491231002X。", "身份证 [id]。"),
    ("ms", "No. KP 770305-02-1234 sah", "No. KP [id] sah"),
    ("id", "NIK 3171011708450001 milik saya", "NIK [id] milik saya"),
    ("en", "NRIC S1234567D was shown.", "NRIC [id] was shown."),
    ("vi", "CCCD 001203004567 của tôi", "CCCD [id] của tôi"),
    ("zh", "请发邮件到我的邮箱zhangsan@example.com谢谢您", "请发邮件到我的邮箱[email]谢谢您"),
    ("th", "ติดต่อsomchai@gmail.comหรือโทร", "ติดต่อ[email]หรือโทร"),
    ("zh", "身份证号码是11010519491231002X", "身份证号码是[id]"),
    ("th", "เลขบัตรประชาชน1101700230708ครับ", "เลขบัตรประชาชน[id]ครับ"),
    ("tl", "SSS 34-1234567-8 ko", "SSS [id] ko"),
    ("my", "မှတ်ပုံတင် ၁၂/လမန(နိုင်)၁၂၃၄၅၆ ပါ", "မှတ်ပုံတင် [id] ပါ"),
])
def test_personal_data_are_masked(code, text, masked):
    assert mask(text, code) == masked


@pytest.mark.parametrize(("code", "text"), [
    ("en", "From 1998 to 2003 some 12,345,678 people lived there; 3.14159265 is pi."),
    ("en", "NRIC S1234567A has a wrong letter."),
    ("th", "รหัส 1101700230709 ผิด"),
    ("zh", "编号 110105194912310021 不对"),
    ("id", "Rp 1.250.000.000 pada 17-08-1945"),
    ("vi", "Năm 2020 có 97.338.579 người"),
    ("lo", "ປີ 1975 ມີ 2,886,000 ຄົນ"),
    ("en", "a @ b"),
    ("en", ""),
])
def test_other_numbers_stay(code, text):
    assert mask(text, code) == text


def test_long_words_and_many_numbers_take_time_in_proportion():
    started = time.process_time()
    assert mask("x" * 300_000 + " anna@example.com", "en").endswith(" [email]")
    assert time.process_time() - started < 5


def test_numbers_behind_very_many_that_are_none_are_masked():
    assert mask("1234567 " * 66_000 + "โทร 081-234-5678", "th").endswith("[phone]")


def test_short_numbers_are_not_even_parsed(monkeypatch):
    asked, parse = [], phonenumbermatcher.parse

    def counted(number, *rest, **options):
        asked.append(number)
        return parse(number, *rest, **options)

    monkeypatch.setattr(phonenumbermatcher, "parse", counted)
    assert mask("In 1945, 12 of 350 rang 081-234-5678.", "th") == "In 1945, 12 of 350 rang [phone]."
    assert asked == ["081-234-5678"]
