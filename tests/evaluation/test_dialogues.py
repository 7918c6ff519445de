import pytest
from sacrebleu.metrics import CHRF

from sea_ray.errors import DataError
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.evaluation.dialogues import converse, evaluate_dialogues, rule_points
from sea_ray.evaluation.items import DialogueItem

CONFIG = EvaluationConfig(bootstrap_samples=200)


def any_language(text, code):
    return True


def is_latin(text, code):
    return text.isascii()


def dialogue(number, kind="life", language="vi", turns=("one", "two")):
    return DialogueItem(language=language, turns=tuple(f"{turn} {number}" for turn in turns), kind=kind, task="seabench",
                        references=tuple(f"a good answer to {turn}" for turn in turns))


class Talker:
    """Remembers every conversation; refuses what is longer than it can hold."""

    max_tokens = 100

    def __init__(self, reply, longest=10_000):
        self.reply, self.longest, self.asked = reply, longest, []

    def chat(self, conversations, max_new_tokens):
        if any(sum(len(message["content"]) for message in talk) > self.longest for talk in conversations):
            raise DataError("does not fit")
        self.asked += conversations
        return [self.reply(talk) for talk in conversations]

    def complete(self, prompts, max_new_tokens, stop=()):
        self.asked += prompts
        return [self.reply(prompt) for prompt in prompts]


def test_the_second_turn_is_asked_with_the_models_own_first_answer():
    talker = Talker(lambda talk: f" said {len(talk)} ")
    assert converse(talker, [dialogue(7)], CONFIG) == [["said 1", "said 3"]]
    assert talker.asked[1] == [{"role": "user", "content": "one 7"}, {"role": "assistant", "content": "said 1"},
                               {"role": "user", "content": "two 7"}]


def test_a_base_model_continues_the_dialogue_line_by_line():
    talker = Talker(lambda prompt: "yes")
    assert converse(talker, [dialogue(7)], EvaluationConfig(prompting="plain")) == [["yes", "yes"]]
    assert talker.asked == ["one 7\n", "one 7\nyes\ntwo 7\n"]


def test_what_does_not_fit_is_unanswered_and_the_rest_is_asked():
    items = [*map(dialogue, range(5)), dialogue(5, turns=("x" * 200, "two")), dialogue(6, turns=("a", "y" * 200))]
    talker = Talker(lambda talk: "a good answer to one", longest=150)
    answers = converse(talker, items, CONFIG)
    assert answers[5:] == [["", ""], ["a good answer to one", ""]]
    assert all(len(set(said)) == 1 and said[0] for said in answers[:5])
    result = evaluate_dialogues(talker, items, CONFIG, any_language)
    unanswered = next(one for one in result.figures if (one.task, one.metric) == ("seabench", "unanswered"))
    assert (unanswered.value, unanswered.n) == (pytest.approx(3 / 14), 14)
    assert [one.score for one in result.details if one.item == 5] == [1.0, 1.0]


def test_nothing_that_fits_at_all_is_an_error_and_no_figure():
    with pytest.raises(DataError, match="does not fit"):
        converse(Talker(lambda talk: "a", longest=1), [dialogue(0), dialogue(1)], CONFIG)


def test_rules_give_ten_to_the_reference_and_one_to_nothing():
    assert rule_points("a good answer", "a good answer", "en", is_latin) == 10
    assert rule_points("", "a good answer", "en", is_latin) == 1
    assert rule_points("zzz", "a good answer", "en", is_latin) == pytest.approx(1, abs=0.2)
    part = "a good idea"
    assert rule_points(part, "a good answer", "en", is_latin) == pytest.approx(
        1 + 9 * min(1, CHRF().sentence_score(part, ["a good answer"]).score / 50))


def test_rules_take_points_for_another_language_unless_the_reference_is_in_it():
    thai = "คำตอบที่ดี"
    assert rule_points(f"a good answer {thai}", thai, "th", lambda text, code: thai == text) == 1
    assert rule_points("def f(): pass", "def f(): pass", "th", is_latin) == 10


def test_rules_take_points_for_answers_out_of_all_proportion():
    reference = "a good answer"
    for times, share in ((4, 1.0), (8, 0.5)):
        likeness = min(1, CHRF().sentence_score(reference * times, [reference]).score / 50)
        assert rule_points(reference * times, reference, "en", is_latin) == pytest.approx(1 + 9 * likeness * share)
    long = "a good answer that says many things about it, one after the other, and ends"
    assert rule_points(long[:6], long, "en", is_latin) < 2


def test_figures_are_per_language_and_type_and_count_dialogues():
    items = [dialogue(number, "life" if number < 3 else "math") for number in range(4)] + [dialogue(9, "math", "th")]
    talker = Talker(lambda talk: "a good answer to one" if " 3" not in talk[-1]["content"] else "")
    result = evaluate_dialogues(talker, items, CONFIG, any_language)
    found = {(one.task, one.language): one for one in result.figures if one.metric == "points_rules"}
    assert {key: one.n for key, one in found.items()} == {
        ("seabench", "vi"): 4, ("seabench_life", "vi"): 3, ("seabench_math", "vi"): 1, ("seabench", "th"): 1,
        ("seabench_math", "th"): 1}
    assert found["seabench_math", "vi"].value == 1
    assert (found["seabench_math", "vi"].low, found["seabench_math", "vi"].high) == (1, 10), "one dialogue bears no interval"
    assert found["seabench_life", "vi"].value > 8
    assert found["seabench", "vi"].value == pytest.approx((3 * found["seabench_life", "vi"].value + 1) / 4)
    assert found["seabench", "vi"].low < found["seabench", "vi"].value
    assert [(one.item, one.turn, one.kind) for one in result.details][-3:] == [(3, 2, "math"), (0, 1, "math"), (0, 2, "math")]
