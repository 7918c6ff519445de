"""What the page says was asked, was found, and what it says was not."""

import shlex
from types import SimpleNamespace

from sea_ray.evaluation.figures import Detail, EvalReport, Figure
from sea_ray.launch.compose import compose_experiment
from sea_ray.report.data import BitsRow
from sea_ray.run_findings import findings, not_shown, question, repeat_command
from sea_ray.run_report import example_rows, tokens_trained

EXPERIMENT = SimpleNamespace(thresholds=SimpleNamespace(keeps_limits=True), base=SimpleNamespace(facts={"parameters": 1_790_000}))


def report(model, languages=("th",), **values):
    """Return a report with 'task__metric' -> (value, half of the interval) in each language."""
    figures = tuple(
        Figure(task=name.split("__")[0], metric=name.split("__")[1], language=code, value=value, n=50, low=value - half,
               high=value + half, higher_is_better=name.split("__")[1] not in ("over_refusal", "bits_per_byte"))
        for name, (value, half) in values.items() for code in languages)
    return EvalReport(model=model, figures=figures)


def said(winner, base, without=None, **more):
    reports = {"winner": report("winner", **more, **winner), "base": report("base", **more, **base),
               "SFT without safety": report("without", **more, **(without or {}))}
    return findings([], reports, EXPERIMENT)


def test_a_skill_counts_as_found_only_beyond_both_intervals():
    found, absent = said({"exam__accuracy": (0.30, 0.05)}, {"exam__accuracy": (0.25, 0.04)})
    assert not found
    assert absent == ["Exam questions right: 30.0 % [25.0, 35.0] in the winner, 25.0 % [21.0, 29.0] in the base: "
                      "no clear difference."]
    found, absent = said({"exam__accuracy": (0.60, 0.05)}, {"exam__accuracy": (0.25, 0.04)})
    assert len(found) == 1
    assert not absent


def test_the_means_are_those_of_the_taught_languages_and_the_worst_is_named():
    found, _ = said({"exam__accuracy": (0.60, 0.05)}, {"exam__accuracy": (0.25, 0.04)}, languages=("th", "lo", "en"))
    assert found[0].startswith("Exam questions right: 60.0 % [56.5, 63.5]"), "of Thai and Lao, not of English"
    assert found[0].endswith("Worst: Thai, 60.0 %.")


def test_plain_text_that_became_worse_is_said():
    found, absent = said({"text__bits_per_byte": (1.8, 0.02)}, {"text__bits_per_byte": (0.6, 0.02)})
    assert not found
    assert absent == ["Plain text, bits per byte: 1.800 [1.780, 1.820] in the winner, 0.600 [0.580, 0.620] in the base: worse."]


def test_what_safety_data_cost_stands_beside_what_they_gave():
    found, absent = said({"safety_culture__over_refusal": (0.4, 0.1)}, {}, {"safety_culture__over_refusal": (0.0, 0.1)})
    assert not found
    assert absent[0].startswith("Harmless look-alikes refused, culture: 40.0 % [30.0, 50.0] with safety data, 0.0 %")


def test_an_arm_is_found_only_where_every_language_is_better_beyond_its_interval():
    def row(arm, code, high):
        return BitsRow(arm=arm, language=code, before=1.0, after=0.9, change_low=-0.2, change_high=high, n=9)

    empty = {name: EvalReport(model=name, figures=()) for name in ("winner", "base", "SFT without safety")}
    rows = [row("neurons", "th", -0.01), row("random", "th", -0.01), row("random", "lo", 0.01)]
    found, absent = findings(rows, empty, EXPERIMENT)
    assert found[0].startswith("Neurons: bits per byte of held-out text −10.0 % [−20.0 %, −1.0 %], lower beyond the interval in ")
    assert "in 1 of 2 languages" in absent[0]


def test_the_question_and_what_is_not_shown_follow_the_configuration(miniature):
    asked = question(compose_experiment(miniature))
    assert asked == ("Which top_frac of the neurons and which mix of fine-tuning serve Indonesian and Thai best, and what does "
                     "it do to English, to refusals and to safety?")
    seeds = [sentence for repeats in (1, 3) for sentence in not_shown(EXPERIMENT.base, compose_experiment(
        [*miniature, f"sweep.neurons.repeats={repeats}", f"sweep.mixes.repeats={repeats}"])) if "seed" in sentence]
    assert len(seeds) == 1
    own = not_shown(EXPERIMENT.base, compose_experiment(["experiment=own_text", "corpus.root=DIR", "corpus.languages=[en,th]",
                                                         "neurons.languages=[th]"]))
    assert "ask about the embedded small world, not about this text" in " ".join(own)
    assert "trained from scratch: effects in larger models may differ" in " ".join(own)


def test_the_command_can_be_typed_as_it_stands():
    overrides = ["experiment=demo", "sweep.neurons.space={neurons.selection.top_frac: [0.1, 0.2]}"]
    assert shlex.split(repeat_command(overrides)) == ["sea-ray", "run", *overrides]


def test_examples_are_chosen_by_rule_with_what_was_expected_and_whether_it_came():
    def details(right):
        text = Detail(task="sib200", language="th", item=0, prompt="only scored", response="", metric="bits_per_byte", score=1.4)
        return (text, *(Detail(task="arithmetic", language="th", item=number, prompt=f"{number}?", response="?",
                               metric="exact_match", reference=str(number), score=float(number not in right))
                        for number in range(9)))

    reports = {"base": EvalReport(model="base", figures=(), details=details(range(9))),
               "winner": EvalReport(model="winner", figures=(), details=details([3]))}
    rows = list(example_rows(reports, ("base", "winner")))
    assert [row.prompt for row in rows] == ["0?", "5?", "3?"], "the first, the one behind the middle, the first wrong one"
    assert [row.right for row in rows] == [{"base": False, "winner": True}] * 2 + [{"base": False, "winner": False}]
    assert rows[0].reference == "0"


def test_the_tokens_of_every_training_of_a_stage_count():
    assert tokens_trained({"training": {"tokens": 5}, "annealing": None}) == 5
    assert tokens_trained({"training": {"tokens": 5}, "annealing": {"tokens": 2}}) == 7
    assert tokens_trained({"runs": {"th": {"training": {"tokens": 3}}, "lo": {"training": {"tokens": 4}}}}) == 7
    assert tokens_trained({"passed": True}) == 0
