import numpy as np
import pytest
from scipy.stats import binomtest

from sea_ray.errors import ConfigError
from sea_ray.evaluation.figures import Detail, EvalReport
from sea_ray.evaluation.pairing import Difference, compare, holm, mcnemar, settings_differences, unlike

SETTINGS = {"prompting": "chat", "max_new_tokens": 32, "seconds": [1.0], "checkpoint": "a", "seed": 0}


def report(scores, *, model="m", metric="accuracy", task="exam", language="th", prompt="p", **settings):
    details = tuple(Detail(task=task, language=language, item=number, prompt=f"{prompt}{number}", response="", score=score,
                           metric=metric) for number, score in enumerate(scores))
    return EvalReport(model=model, figures=(), details=details, settings=SETTINGS | settings)


def test_binary_scores_are_tested_by_the_exact_mcnemar():
    first, second = [0.0] * 12 + [1.0] * 28, [1.0] * 10 + [0.0] * 2 + [1.0] * 26 + [0.0] * 2
    (found,) = compare(report(first), report(second))
    assert found.test == "McNemar"
    assert found.p == pytest.approx(binomtest(2, 12, 0.5).pvalue)
    assert (found.first, found.second, found.n) == (0.7, 0.9, 40)
    assert found.low < 0.2 < found.high
    assert found.better


def test_mcnemar_of_no_disagreement_is_one_and_is_the_same_both_ways():
    assert mcnemar([0, 1, 1], [0, 1, 1]) == 1
    assert mcnemar([0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 0]) == mcnemar([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1])
    assert mcnemar([0] * 5, [1] * 5) == pytest.approx(2 / 32)


def test_other_scores_are_tested_by_a_paired_bootstrap_that_sees_the_pairs():
    rng = np.random.default_rng(0)
    hard = rng.normal(40, 15, 60)
    first, second = hard + rng.normal(0, 1, 60), hard + 1 + rng.normal(0, 1, 60)
    (found,) = compare(report(first.tolist(), metric="sentence_chrf"), report(second.tolist(), metric="sentence_chrf"))
    assert found.test == "bootstrap"
    assert found.p < 0.001, "unpaired, a difference of 1 beside a spread of 15 would be lost"
    error = 1.96 * (second - first).std() / 60**0.5
    assert found.low == pytest.approx((second - first).mean() - error, abs=0.05)
    assert found.high == pytest.approx((second - first).mean() + error, abs=0.05)


def test_equal_scores_differ_by_nothing():
    (found,) = compare(report([0.3, 0.7, 2.5], metric="sentence_chrf"), report([0.3, 0.7, 2.5], metric="sentence_chrf"))
    assert (found.p, found.low, found.high) == (1, 0, 0)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_few_items_prove_nothing_however_far_apart(n):
    (found,) = compare(report([1.0] * n, metric="sentence_chrf"), report([90.0 + number for number in range(n)],
                                                                        metric="sentence_chrf"))
    assert found.p == 2.0 ** (1 - n)
    assert not found.is_real()


def test_bootstrap_finds_no_more_than_it_says_where_nothing_is():
    rng = np.random.default_rng(1)
    low = 0
    for _ in range(200):
        first, second = rng.normal(0, 1, (2, 40)).tolist()
        (found,) = compare(report(first, metric="sentence_chrf"), report(second, metric="sentence_chrf"))
        low += found.p < 0.05
    assert low / 200 < 0.11


def test_bits_per_byte_weigh_texts_by_their_bytes_and_less_is_better():
    def bits(second):
        return EvalReport(model="m", figures=(), settings=SETTINGS, details=tuple(
            Detail(task="text", language="th", item=number, prompt="x" * size, response="", score=score, metric="bits_per_byte")
            for number, (size, score) in enumerate(((10, 1.0), (30, second)))))

    (found,) = compare(bits(1.0), bits(0.5))
    assert found.second - found.first == pytest.approx(-0.5 * 30 / 40)
    assert found.better


def test_the_turns_of_a_dialogue_are_one_item_and_an_unread_one_is_left_out_and_counted():
    def dialogues(*scores):
        return EvalReport(model="m", figures=(), settings=SETTINGS, details=tuple(
            Detail(task="seabench", language="th", item=item, turn=turn, prompt=f"{item}.{turn}", response="", score=score,
                   metric="points_judge") for item, pair in enumerate(scores) for turn, score in enumerate(pair, 1)))

    (found,) = compare(dialogues((2, 4), (5, 5), (1, None)), dialogues((4, 6), (5, 7), (9, 9)))
    assert (found.first, found.second, found.n, found.unread) == (4, 5.5, 2, 1)
    assert compare(dialogues((None, 1)), dialogues((1, 1))) == ()


def one(p):
    return Difference(task="t", metric="m", language="th", first=0, second=1, low=0, high=1, n=40, unread=0, test="McNemar", p=p)


def test_holm_is_that_of_the_worked_example():
    # Step by step: 4 * .005, 3 * .01, 2 * .03, then 1 * .04, which may not be less than the one before.
    assert [round(found.holm, 6) for found in holm([one(0.01), one(0.04), one(0.03), one(0.005)])] == [0.03, 0.06, 0.06, 0.02]
    assert [found.holm for found in holm([one(0.6), one(0.7)])] == [1, 1]


def test_a_find_that_one_test_makes_is_not_kept_among_many():
    found = holm([one(0.02), *(one(0.5) for _ in range(9))])
    assert not found[0].is_real()
    assert holm([one(0.02)])[0].is_real()


def test_reports_of_other_settings_or_items_are_refused_with_what_differs():
    base = report([1, 0, 1])
    for other, words in ((report([1, 0, 1], prompting="plain"), "prompting is chat and plain"),
                         (report([1, 0, 1], prompt="q"), "other items in exam/th"),
                         (report([1, 0]), "other items in exam/th"),
                         (report([1, 0, 1], language="vi"),
                          "only the first was asked exam/th; only the second was asked exam/vi"),
                         (report([1, 0, 1], metric=""), "the scores of exam in 'm' have no name")):
        with pytest.raises(ConfigError, match=f"can't be paired: .*{words}"):
            compare(base, other)


def test_time_place_and_checkpoint_are_no_difference_of_settings():
    assert unlike(report([1]), report([0], seconds=[9.0], checkpoint="b", seed=4, bootstrap_samples=7,
                                      overlap={"items": {"exam/th": 1}, "unknown": []})) == []


def test_settings_that_differ_are_found_at_their_paths():
    first = {"sft": {"mix": "even", "rate": 1}, "seed": 0, "gone": 1}
    second = {"sft": {"mix": "english", "rate": 1}, "seed": 0, "new": 2}
    assert list(settings_differences(first, second)) == [("sft.mix", "even", "english"), ("gone", 1, None), ("new", None, 2)]
