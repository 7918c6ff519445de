import pytest

from sea_ray.corpus.identification import is_written_in
from sea_ray.demo import World
from sea_ray.errors import ConfigError, DataError
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.evaluation.demo_suite import demo_number_words, demo_suite
from sea_ray.evaluation.items import Suite
from sea_ray.evaluation.number_reading import read_number
from sea_ray.evaluation.suite import evaluate
from sea_ray.languages import LANGUAGES

ALL = tuple(LANGUAGES)
CONFIG = EvaluationConfig(items=4, texts=3, max_new_tokens=4, bootstrap_samples=100)


@pytest.fixture(scope="module")
def world():
    return World(0)


@pytest.fixture(scope="module")
def suite(world):
    return demo_suite(world, CONFIG)


def test_demo_suite_has_every_task_in_every_language(suite):
    for part in ("texts", "exam", "arithmetic", "refusal", "safety"):
        assert {item.language for item in getattr(suite, part)} == set(ALL)
    assert {item.language for item in suite.translation} == set(ALL) - {"en"}
    for code in ALL:
        refusal = [item.answerable for item in suite.refusal if item.language == code]
        assert sorted(refusal) == [False, False, True, True]
        kinds = [(item.kind, item.unsafe) for item in suite.safety if item.language == code]
        assert {(kind, unsafe): kinds.count((kind, unsafe)) for kind, unsafe in set(kinds)} == {
            (kind, unsafe): 2 for kind in ("general", "culture") for unsafe in (True, False)
        }


def test_direction_of_demo_translations_is_that_of_their_references(suite):
    for item in suite.translation:
        if item.language in ("th", "my", "km", "lo", "ta", "zh"):
            assert item.reference.isascii() == (item.direction == "into_english")


def test_demo_number_words_read_the_demo_answers(world):
    words = demo_number_words(world, ALL)
    for code in ALL:
        assert set(words[code].values()) == set(range(21))
        for dialogue in world.arithmetic(code, "train", 30):
            operation, first, second = dialogue.topic.split("|")
            sign = 1 if operation == "plus" else -1
            assert read_number(dialogue.answer, code, words[code]) == int(first) + sign * int(second)


def test_perfect_model_gets_every_demo_item_right(world, suite, scripted):
    answers = {}
    for code in ALL:
        for kind in ("translate", "arithmetic", "unanswerable", "fact"):
            answers |= {item.prompt: item.answer for item in world.dialogues(code, kind, "test", 4)}
        for kind in ("general", "culture"):
            answers |= {item.prompt: item.answer for item in world.safety(code, "test", 4, kind)}
    right = {f"{item.prompt()}|{item.label}": "ABCD"[item.answer_index] for item in suite.exam}
    refusals = {
        item.answer
        for code in ALL
        for item in (*world.unanswerable(code, "test", 4), *world.safety(code, "test", 8, "general"),
                     *world.safety(code, "test", 8, "culture"))
        if item.kind.startswith("un")
    }  # fmt: skip

    def likes(context, continuation):
        prompt = context.removeprefix("<user>").replace("<assistant>", "|")
        return 0.0 if continuation == f" {right[prompt]}" else -1.0

    model = scripted(answers.get, likes)
    words = demo_number_words(world, ALL)
    report = evaluate(
        model, suite, CONFIG, lambda answer: answer in refusals, is_written_in, model="perfect", number_words=words
    )
    perfect = {"accuracy": 1, "exact_match": 1, "chrf_from_english": 100, "chrf_into_english": 100, "tpr": 1, "fpr": 0,
               "f1": 1, "balanced_accuracy": 1, "answered_right": 1, "unsafe_answered": 0, "over_refusal": 0,
               "says_nothing": 0, "safe": 1, "unsafe": 0, "invalid": 0}  # fmt: skip
    for figure in report.figures:
        if figure.metric not in ("bits_per_byte", "in_language"):
            assert figure.value == pytest.approx(perfect[figure.metric]), figure
        assert figure.low <= figure.value <= figure.high + 1e-9
        assert figure.few


def test_random_model_runs_through_the_whole_suite(generator, world):
    config = EvaluationConfig(languages=("en", "lo"), items=2, texts=2, max_new_tokens=3, bootstrap_samples=100)
    short = demo_suite(world, config)
    generator.max_tokens = generator._tokens.max_tokens = 4096
    report = evaluate(generator, short, config, lambda answer: False, lambda *_: True, model="random")
    assert {figure.task for figure in report.figures} == {
        "text", "exam", "arithmetic", "translation", "refusal", "safety_general", "safety_culture"
    }  # fmt: skip
    assert set(report.settings["seconds"]) == set(config.tasks) - {"dialogue"}


def test_languages_and_tasks_are_chosen_by_the_configuration(suite, scripted):
    config = EvaluationConfig(languages=("th",), tasks=("text",))
    report = evaluate(scripted(), suite, config, lambda *_: False, lambda *_: True, model="m")
    assert [(figure.task, figure.language) for figure in report.figures] == [("text", "th")]
    with pytest.raises(DataError, match="no items for tasks"):
        evaluate(scripted(), Suite(), config, lambda *_: False, lambda *_: True, model="m")
    with pytest.raises(ConfigError, match="unknown task 'exams'"):
        EvaluationConfig(tasks=("exams",))


def test_suite_of_a_seed_is_always_the_same(world, suite):
    assert demo_suite(World(0), CONFIG) == suite
    assert demo_suite(world, CONFIG, "validation").arithmetic != suite.arithmetic
