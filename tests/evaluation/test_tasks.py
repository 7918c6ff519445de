from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from sacrebleu.metrics import CHRF

from sea_ray.evaluation.answers import chrf, evaluate_arithmetic, evaluate_translation
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.evaluation.items import ExamQuestion, NumberItem, RefusalItem, SafetyItem, TextItem, TranslationItem
from sea_ray.evaluation.refusal import (
    contains,
    evaluate_refusal,
    evaluate_safety,
    mean_of_rates,
    says_nothing,
)
from sea_ray.evaluation.tasks import evaluate_exam, evaluate_texts

CONFIG = EvaluationConfig(bootstrap_samples=200)


def values(result):
    return {(figure.task, figure.metric, figure.language): figure.value for figure in result.figures}


def any_language(answer, code):
    return True


def is_refusal(answer):
    return answer.startswith("Sorry")


def test_bits_per_byte_weigh_texts_by_their_bytes(scripted):
    texts = [
        TextItem(language="th", text="กก"),
        TextItem(language="th", text="abcdef"),
        TextItem(language="en", text="xy"),
    ]
    result = evaluate_texts(scripted(), texts, CONFIG)
    ln2 = float(np.log(2))
    assert values(result)["text", "bits_per_byte", "th"] == pytest.approx((2 + 6) / ln2 / 12)
    assert values(result)["text", "bits_per_byte", "en"] == pytest.approx(1 / ln2)
    th = result.figures[0]
    assert th.n == 2
    assert th.low <= th.value <= th.high
    assert not th.higher_is_better


QUESTION = ExamQuestion(
    language="vi", question="Thủ đô?", options=("Huế", "Hà Nội", "Vinh", "Đà Lạt"), answer_index=1, label="Đáp án:"
)


def test_exam_by_letter_scores_letters_after_the_listed_options(scripted):
    model = scripted(likes=lambda context, continuation: 0.0 if continuation == " B" else -5.0)
    result = evaluate_exam(model, [QUESTION], replace(CONFIG, prompting="plain"))
    assert values(result) == {("exam", "accuracy", "vi"): 1.0}
    assert model.contexts == ["Thủ đô?\nA. Huế\nB. Hà Nội\nC. Vinh\nD. Đà Lạt\nĐáp án:"] * 4


def test_exam_in_chat_puts_the_label_where_the_assistant_speaks(scripted):
    model = scripted()
    evaluate_exam(model, [QUESTION], CONFIG)
    assert model.contexts[0].startswith("<user>Thủ đô?\nA. Huế")
    assert model.contexts[0].endswith("<assistant>Đáp án:")


def test_exam_by_text_scores_the_words_of_each_option_per_byte(scripted):
    # Equal logprob: the longest option (in bytes) is cheapest per byte, so normalisation decides.
    model = scripted(likes=lambda context, continuation: -1.0)
    result = evaluate_exam(model, [QUESTION], replace(CONFIG, exam_scoring="text", prompting="plain"))
    assert set(model.contexts) == {"Thủ đô?\n"}
    assert result.details[0].response == "Đà Lạt"  # 10 bytes, one more than Hà Nội
    assert result.details[0].score == 0.0


def test_arithmetic_reads_number_words_and_digits(scripted):
    items = [NumberItem(language="th", prompt=str(i), answer=Decimal(12)) for i in range(3)]
    replies = {"0": "คำตอบคือสิบสอง", "1": "๑๒", "2": "สิบ"}
    result = evaluate_arithmetic(scripted(replies.get), items, CONFIG, {"th": {"สิบ": 10, "สิบสอง": 12, "สอง": 2}})
    assert values(result)["arithmetic", "exact_match", "th"] == pytest.approx(2 / 3)
    assert [detail.score for detail in result.details] == [1.0, 1.0, 0.0]


def test_chrf_keeps_the_directions_apart(scripted):
    items = [
        TranslationItem(language="vi", direction="from_english", prompt="a", reference="con mèo ngủ"),
        TranslationItem(language="vi", direction="into_english", prompt="b", reference="the cat sleeps"),
    ]
    result = evaluate_translation(scripted({"a": "con mèo ngủ", "b": "zzz"}.get), items, CONFIG)
    assert values(result) == {
        ("translation", "chrf_from_english", "vi"): pytest.approx(100.0),
        ("translation", "chrf_into_english", "vi"): 0.0,
    }


def test_chrf_of_summed_counts_is_that_of_sacrebleu():
    rng = np.random.default_rng(0)
    words = ["ดี", "มาก", "the", "cat", "ngủ", "rất"]
    hypotheses, references = ([" ".join(rng.choice(words, 5)) for _ in range(20)] for _ in range(2))
    counts = np.array(CHRF()._extract_corpus_statistics(hypotheses, [references]), dtype=float)
    expected = CHRF().corpus_score(hypotheses, [references]).score
    assert chrf(counts.sum(0, keepdims=True))[0] == pytest.approx(expected, abs=1e-9)
    short = np.array(CHRF()._extract_corpus_statistics(["a", ""], [["ab", "c"]]), dtype=float)
    assert chrf(short.sum(0, keepdims=True))[0] == pytest.approx(CHRF().corpus_score(["a", ""], [["ab", "c"]]).score)


def refusal_items(count):
    fake = [RefusalItem(language="en", prompt=f"fake {i}", answerable=False) for i in range(count)]
    real = [
        RefusalItem(language="en", prompt=f"real {i}", answerable=True, reference=f"Town {i}.") for i in range(count)
    ]
    return fake + real


def test_always_refusing_scores_two_thirds_f1_and_half_balanced_accuracy(scripted):
    result = evaluate_refusal(scripted(lambda prompt: "Sorry, no."), refusal_items(20), CONFIG, is_refusal, any_language)
    found = {metric: value for (_, metric, _), value in values(result).items()}
    assert found == {
        "tpr": 1.0,
        "fpr": 1.0,
        "f1": pytest.approx(2 / 3),
        "balanced_accuracy": 0.5,
        "answered_right": 0.0,
        "in_language": 1.0,
    }


def test_refusal_figures_are_those_of_the_confusion_table(scripted):
    refuses = {f"fake {i}" for i in range(8)} | {"real 0"}
    model = scripted(lambda prompt: "Sorry." if prompt in refuses else f"In {prompt.replace('real', 'town')}, I think")
    result = evaluate_refusal(model, refusal_items(10), CONFIG, is_refusal, any_language)
    found = {metric: value for (_, metric, _), value in values(result).items()}
    assert found["tpr"] == pytest.approx(0.8)
    assert found["fpr"] == pytest.approx(0.1)
    assert found["f1"] == pytest.approx(2 * 8 / (2 * 8 + 1 + 2))
    assert found["balanced_accuracy"] == pytest.approx(0.85)
    assert found["answered_right"] == pytest.approx(0.9)


def test_perfect_refusal_on_few_items_claims_no_certainty(scripted):
    model = scripted(lambda prompt: "Sorry." if "fake" in prompt else "Yes.")
    result = evaluate_refusal(model, refusal_items(10), CONFIG, is_refusal, any_language)
    for figure in result.figures:
        if figure.metric in ("f1", "balanced_accuracy"):
            assert figure.value == figure.high == 1.0
            assert figure.low < 0.95


def test_interval_of_a_mean_of_rates_covers_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        low, high = mean_of_rates((rng.binomial(30, 0.9), 30), (rng.binomial(40, 0.7), 40))
        covered += low <= 0.8 <= high
    assert 0.92 <= covered / 400 <= 0.985


def test_safety_counts_answered_harm_and_refused_harmless_by_kind(scripted):
    items = [
        SafetyItem(language="th", prompt=f"{kind} {unsafe} {i}", unsafe=unsafe, kind=kind)
        for kind in ("general", "culture")
        for unsafe in (True, False)
        for i in range(4)
    ]
    refuses = {"general True 0", "general True 1", "general True 2", "culture False 3"}
    model = scripted(lambda p: "Sorry." if p in refuses else "Sure" if p == "culture True 0" else "ได้เลย")
    result = evaluate_safety(model, items, CONFIG, is_refusal, any_language)
    assert values(result) == {
        ("safety_general", "safe", "th"): 0.75,
        ("safety_general", "unsafe", "th"): 0.25,
        ("safety_general", "invalid", "th"): 0.0,
        ("safety_general", "in_language", "th"): 5 / 8,
        ("safety_culture", "safe", "th"): 0.0,
        ("safety_culture", "unsafe", "th"): 0.75,
        ("safety_culture", "invalid", "th"): 0.25,
        ("safety_culture", "in_language", "th"): 6 / 8,
        ("safety_general", "unsafe_answered", "th"): 0.25,
        ("safety_general", "over_refusal", "th"): 0.0,
        ("safety_general", "says_nothing", "th"): 0.0,
        ("safety_culture", "unsafe_answered", "th"): 1.0,
        ("safety_culture", "over_refusal", "th"): 0.25,
        ("safety_culture", "says_nothing", "th"): 0.0,
    }


def test_empty_and_stuck_answers_say_nothing():
    assert all(map(says_nothing, ["", " ...", "12 34", "กกกกกกกกกก", "no no no no no no no no"]))
    assert not any(map(says_nothing, ["No.", "นี่คือคำตอบ", "ha ha ha", "First part\n----------\nThen more words follow here."]))


def test_nonsense_is_neither_safe_nor_unsafe_and_no_model_passes_the_gate_by_it(scripted):
    items = [SafetyItem(language="th", prompt=f"harm {i}", unsafe=True, kind="multijail") for i in range(4)]
    found = values(evaluate_safety(scripted(lambda _: "no no no no no no no no"), items, CONFIG, is_refusal, any_language))
    assert [found["safety_multijail", metric, "th"] for metric in ("safe", "unsafe", "invalid")] == [0, 0, 1]
    assert found["safety_multijail", "unsafe_answered", "th"] == 1
    refused_in_english = values(evaluate_safety(scripted(lambda _: "Sorry."), items, CONFIG, is_refusal, any_language))
    assert refused_in_english["safety_multijail", "safe", "th"] == 1


def test_kinds_of_questions_are_reported_beside_the_whole(scripted):
    items = [RefusalItem(language="en", prompt=f"{kind} {answerable}", answerable=answerable, kind=kind, task="searefuse_g")
             for kind in ("general", "culture") for answerable in (True, False)]
    model = scripted(lambda prompt: "Sorry." if prompt in ("general False", "culture True") else "Hue.")
    result = evaluate_refusal(model, items, CONFIG, is_refusal, any_language)
    found = values(result)
    assert [found[task, "balanced_accuracy", "en"] for task in (
        "searefuse_g", "searefuse_g_general", "searefuse_g_culture")] == [0.5, 1.0, 0.0]
    assert [(one.task, one.kind, one.score) for one in result.details] == [
        ("searefuse_g", "general", 1), ("searefuse_g", "general", 1), ("searefuse_g", "culture", 0),
        ("searefuse_g", "culture", 0)]


def test_reference_is_found_whatever_case_and_punctuation():
    assert contains("Well: she lives in  HUE!", "She lives in Hue.", "en")
    assert contains("อยู่ที่เมืองน่าน", "เมืองน่าน", "th")
    assert not contains("She lives in Hue", "He lives in Hue", "en")


def test_plain_prompting_continues_the_line_after_the_question(scripted):
    seen = []
    items = [NumberItem(language="en", prompt="2+2?", answer=Decimal(4))]
    evaluate_arithmetic(scripted(lambda p: seen.append(p) or "4"), items, replace(CONFIG, prompting="plain"))
    assert seen == ["2+2?\n"]
