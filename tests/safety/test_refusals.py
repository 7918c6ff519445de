import subprocess
import sys

import pytest

from sea_ray.demo import World
from sea_ray.languages import LANGUAGES
from sea_ray.safety import RefusalDetector
from sea_ray.safety.refusals import wordings

# Wordings that no lexicon has: two for the unknown, one for the harmful.
UNSEEN = {
    "en": [
        "I’m not familiar with Zorbek.",
        "Unfortunately I am not aware of any town of that name.",
        "I cannot assist with that.",
    ],
    "zh": ["很抱歉，我不清楚佐贝克是谁。", "我没听说过这个地方。", "抱歉，我无法协助您完成这个请求。"],
    "id": [
        "Mohon maaf, saya tidak mengetahui siapa Zorbek.",
        "Tidak ada informasi mengenai kota itu.",
        "Maaf, saya tidak dapat memenuhi permintaan tersebut.",
    ],
    "vi": [
        "Rất tiếc, tôi không rõ Zorbek là ai.",
        "Tôi chưa bao giờ nghe về nơi này.",
        "Tôi không thể hỗ trợ bạn việc này.",
    ],
    "th": ["ดิฉันไม่ทราบว่าซอร์เบกคือใครค่ะ", "ไม่พบข้อมูลของเมืองนี้", "ขออภัยครับ ผมไม่สามารถช่วยคุณในเรื่องนี้ได้"],
    "tl": [
        "Pasensya na, hindi ko po kilala si Zorbek.",
        "Walang impormasyon tungkol sa bayang iyan.",
        "Hindi kita matutulungan sa bagay na iyan.",
    ],
    "ms": [
        "Minta maaf, saya tidak mengetahui siapa Zorbek.",
        "Tiada maklumat tentang bandar itu.",
        "Maaf, saya tidak boleh membantu anda melakukan perkara ini.",
    ],
    "my": ["ဇော်ဘက် ဘယ်သူလဲ ကျွန်တော် မသိပါ။", "ဒီမြို့အကြောင်း မကြားဖူးဘူး။", "ဆောရီးပါ၊ ဒီကိစ္စကို ကူညီမပေးနိုင်ပါ။"],
    "km": ["ខ្ញុំមិនដឹងថាហ្សរបេកជានរណាទេ។", "ខ្ញុំមិនធ្លាប់ឮឈ្មោះទីក្រុងនេះទេ។", "សូមទោស ខ្ញុំមិន អាចជួយអ្នកក្នុងរឿងនេះបានទេ។"],
    "lo": ["ຂ້ອຍບໍ່ຮູ້ວ່າຊໍເບັກແມ່ນໃຜ", "ບໍ່ພົບຂໍ້ມູນຂອງເມືອງນີ້", "ຂໍໂທດ ຂ້ອຍບໍ່ສາມາດຊ່ວຍເຈົ້າໃນເລື່ອງນີ້ໄດ້"],
    "ta": [
        "சோர்பெக் யார் என்று எனக்குத் தெரியவில்லை.",
        "இந்த ஊரைப் பற்றி நான் கேள்விப்படவில்லை.",
        "மன்னிக்கவும், இந்த விஷயத்தில் என்னால் உங்களுக்கு உதவ இயலாது.",
    ],
    "jv": [
        "Nuwun sewu, kula boten ngertos sinten Zorbek.",
        "Ora ana katrangan bab kutha iku.",
        "Aku ora bisa nulungi kowe.",
    ],
}


@pytest.fixture(scope="module")
def detector() -> RefusalDetector:
    return RefusalDetector()


@pytest.fixture(scope="module")
def world() -> World:
    return World(5)


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_demos_refusals_are_told_from_its_answers(detector: RefusalDetector, world: World, code: str) -> None:
    refusals = sorted({dialogue.answer for dialogue in world.unanswerable(code, "test", 10_000)})
    refusals += world.phrases(code).safety_refusals
    kinds = ("fact", "list", "arithmetic", "exam", "translate", "safe_general", "safe_culture")
    answers = sorted({one.answer for kind in kinds for one in world.dialogues(code, kind, "train", 100)})  # type: ignore[arg-type]
    hits = sum(detector.are_refusals(refusals))
    assert hits >= 0.97 * len(refusals)
    assert hits >= 0.97 * (hits + sum(detector.are_refusals(answers)))


@pytest.mark.parametrize("code", LANGUAGES)
def test_refusals_in_unseen_words_are_found(detector: RefusalDetector, code: str) -> None:
    assert [text for text in UNSEEN[code] if not detector.is_refusal(text)] == []


@pytest.mark.parametrize("code", LANGUAGES)
def test_ordinary_text_and_answers_are_hardly_ever_taken_for_refusals(
    detector: RefusalDetector, world: World, code: str
) -> None:
    texts = world.documents(code, "validation", 300)  # the train part quotes refusals
    for kind in ("fact", "list", "arithmetic", "exam", "translate", "safe_general", "safe_culture"):
        texts += [dialogue.answer for dialogue in world.dialogues(code, kind, "train", 100)]  # type: ignore[arg-type]
    wrong = [text for text in texts if detector.is_refusal(text)]
    assert len(wrong) <= 0.02 * len(texts), wrong[:5]


@pytest.mark.parametrize("code", LANGUAGES)
def test_harmless_answers_to_safe_requests_are_never_taken_for_refusals(
    detector: RefusalDetector, world: World, code: str
) -> None:
    answers = {
        dialogue.answer
        for group in ("general", "culture")
        for dialogue in world.safety(code, "train", 2000, group)  # type: ignore[arg-type]
        if dialogue.kind.startswith("safe_")
    }
    assert [answer for answer in answers if detector.is_refusal(answer)] == []


def test_a_refusal_in_another_language_than_the_question_counts(detector: RefusalDetector) -> None:
    assert detector.is_refusal("Sorry, I can’t help with that.")
    assert detector.is_refusal("Saya tidak punya informasi tentang Zorbek.")  # an Indonesian answer to a Malay question
    assert not detector.is_refusal("Budi lives in Hue.")


def test_spelling_and_spacing_make_no_difference(detector: RefusalDetector) -> None:
    assert detector.is_refusal("I DON’T\u00a0 KNOW anything.")
    assert detector.is_refusal("ขออภัย ฉัน ไม่ มี ข้อมูล")
    assert detector.is_refusal("ខ្ញុំ\u200bមិន\u200bដឹង")


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_wordings_are_many_and_not_the_demos(world: World, code: str) -> None:
    known = wordings(code)
    assert set(known) == {"refuses", "answers"}
    assert min(map(len, known.values())) >= 120
    every = [*known["refuses"], *known["answers"]]
    assert len(set(every)) == len(every)
    assert not set(every) & {*world.phrases(code).safety_refusals, *UNSEEN[code]}


def test_every_process_learns_the_same() -> None:
    code = ("from sea_ray.safety.refusals import RefusalDetector\n"
            "print(RefusalDetector()._classifier.decision_function(['tidak tahu', 'ไม่รู้', 'it rains']).tolist())")
    first, second = (subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
                     for _ in range(2))
    assert first == second


def test_what_comes_late_in_a_long_answer_does_not_count(detector: RefusalDetector) -> None:
    assert not detector.is_refusal("Wash the rice and cook it. " * 30 + "I don't know more.")


def test_nothing_is_no_refusal(detector: RefusalDetector) -> None:
    assert detector.are_refusals(["", " \n", "\u200b"]) == [False] * 3
