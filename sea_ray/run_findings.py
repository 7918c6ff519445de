"""The sentences that a run's figures bear: what was asked and run, what was found, what was not, what it cannot show."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from sea_ray.artifacts import Artifact
from sea_ray.config import ExperimentConfig
from sea_ray.evaluation.figures import EvalReport, Figure
from sea_ray.languages import LOW_RESOURCE, language
from sea_ray.objective import Choice
from sea_ray.pipeline import Experiment
from sea_ray.report import formats
from sea_ray.report.averages import Average, average, average_change, trained, verdict
from sea_ray.report.data import BitsRow, FigureRow, Unit
from sea_ray.report.names import title

ARMS = {"neuron-trained": "merged neurons", "random_matched": "random neurons, matched per layer",
        "random": "random neurons, any layer", "wrong_language": "another language's neurons",
        "shared": "neurons that all languages share", "continued_pretraining": "full continued pre-training, low rate",
        "ffn_only": "feed-forward networks only", "embeddings": "embeddings only", "lora": "LoRA on all linear layers"}
"""Evaluated model -> name of the arm; the first is the method."""
_SAFETY = (("refusal", "balanced_accuracy"), ("refusal", "fpr"), ("safety_general", "unsafe_answered"),
           ("safety_culture", "unsafe_answered"), ("safety_general", "over_refusal"), ("safety_culture", "over_refusal"))
"""Compared with fine-tuning without safety data."""
_SKILLS = (("exam", "accuracy"), ("arithmetic", "exact_match"), ("translation", "chrf_into_english"),
           ("translation", "chrf_from_english"), ("text", "bits_per_byte"))
"""Compared with the base."""


def unit_of(metric: str) -> Unit:
    """Return how a metric is shown."""
    return "bits" if metric == "bits_per_byte" else "score" if metric.startswith(("chrf", "points")) else "share"


def figure_row(model: str, figure: Figure) -> FigureRow:
    """Return a figure as the page takes it."""
    return FigureRow(model=model, task=figure.task, metric=figure.metric, language=figure.language, unit=unit_of(figure.metric),
                     value=figure.value, n=figure.n, low=figure.low, high=figure.high, higher_is_better=figure.higher_is_better)


def question(config: ExperimentConfig) -> str:
    """Return what the experiment asks."""
    taught = [language(code).name for code in config.corpus.languages if code in LOW_RESOURCE]
    kept = [language(code).name for code in config.corpus.languages if code not in LOW_RESOURCE]
    searched = [f"which {formats.listing([path.rpartition('.')[2] for path in search.space])} of {what}"
                for search, what in ((config.sweep.neurons, "the neurons"), (config.sweep.mixes, "fine-tuning")) if search.space]
    asked = formats.listing(searched)
    verb = "serve" if len(searched) > 1 else "serves"
    others = formats.listing([f"to {one}" for one in (*kept, "refusals", "safety")])
    return f"{asked[:1].upper()}{asked[1:]} {verb} {formats.listing(taught)} best, and what does it do {others}?"


def what_ran(experiment: Experiment, config: ExperimentConfig) -> str:
    """Return what was carried out, from the records of its results."""
    size = f"{formats.short_count(experiment.base.facts['parameters'])} parameters"
    base = f"{config.model.checkpoint}, {size}" if config.model.checkpoint else f"a model of {size}, trained from scratch"
    sizes = experiment.corpus.facts["sizes"]
    tokens = sum(split["tokens"] for splits in sizes.values() for split in splits.values())
    trials = [f"{len(choice.trials)} trials {of}" for choice, of in (
        (experiment.thresholds, "of neurons"), (experiment.mixes, "of fine-tuning"))]
    controls = [ARMS[name] for name in experiment.controls]
    beside = f"; controls: {'; '.join(controls)}" if controls else ""
    return (f"{base[:1].upper()}{base[1:]}; {formats.short_count(tokens)} tokens of text in {len(sizes)} languages "
            f"({config.corpus.source}); {formats.listing(trials)}{beside}.")


def not_shown(base: Artifact, config: ExperimentConfig) -> tuple[str, ...]:
    """Return what a run from this base cannot show."""
    once = [name for name, search in (("neurons", config.sweep.neurons), ("mixes", config.sweep.mixes)) if search.repeats == 1]
    demo = config.corpus.source == "demo"
    return tuple(filter(None, (
        f"One seed for each trial of {formats.listing(once)}: differences between neighbouring trials are not told from chance."
        if once else "",
        f"{'A small world made for the demo, a' if demo else 'A'} model of {formats.short_count(base.facts['parameters'])} "
        f"parameters, trained from scratch: effects {'on real text and ' if demo else ''}in larger models may differ."
        if config.model.checkpoint is None else "",
        "" if demo else "Exams, sums, translations, refusals and safety ask about the embedded small world, not about this text.",
        "Each interval is of one figure; among so many some leave out the truth by chance.")))


def findings(bits: Sequence[BitsRow], reports: Mapping[str, EvalReport], experiment: Experiment) -> tuple[list[str], list[str]]:
    """Return what the figures show and what they do not show, as sentences that carry their numbers.

    All are means over the SEA languages. A difference counts as found where the intervals don't meet.
    """
    found: list[str] = []
    absent: list[str] = []
    for arm in dict.fromkeys(row.arm for row in bits):
        clear, sentence = _bits([row for row in bits if row.arm == arm])
        (found if clear else absent).append(sentence)
    for keys, name, with_, without in ((_SAFETY, "SFT without safety", "with safety data", "without"),
                                       (_SKILLS, "base", "in the winner", "in the base")):
        for task, metric in keys:
            rows = [[figure_row(model, figure) for figure in reports[model].of(task, metric).values()]
                    for model in ("winner", name)]
            after, before = (average(trained(own)) for own in rows)
            if after and before:
                word = verdict(after, before, higher_is_better=rows[0][0].higher_is_better)
                (found if word == "better" else absent).append(
                    f"{title(task, metric)}: {_shown(after)} {with_}, {_shown(before)} {without}"
                    f"{'' if word == 'better' else f': {word}'}. {_worst(trained(rows[0]))}".rstrip())
    if not experiment.thresholds.keeps_limits:
        absent.append(f"No trial of the threshold sweep kept its limits: {experiment.thresholds.reason}.")
    return found, absent


def _bits(rows: Sequence[BitsRow]) -> tuple[bool, str]:
    """Return whether an arm lowers bits per byte in every language beyond its interval, and the sentence."""
    sea = [row for row in rows if row.language in LOW_RESOURCE]
    better = [row for row in sea if row.change_high < 0]
    value, low, high = average_change(sea)
    english = next((row for row in rows if row.language == "en"), None)
    tail = (f"; English {formats.change(english.change, 2)} [{formats.change(english.change_low, 2)}, "
            f"{formats.change(english.change_high, 2)}]" if english else "")
    arm = rows[0].arm
    return len(better) == len(sea), (
        f"{arm[:1].upper()}{arm[1:]}: bits per byte of held-out text {formats.change(value)} [{formats.change(low)}, "
        f"{formats.change(high)}], lower beyond the interval in {len(better)} of {len(sea)} languages{tail}.")


def _shown(mean: Average) -> str:
    low, high = (formats.figure(one, mean.unit) for one in (mean.low, mean.high))
    return f"{_value(mean)} [{low}, {high}]"


def _value(of: Average | FigureRow) -> str:
    return formats.figure(of.value, of.unit) + (" %" if of.unit == "share" else "")


def _worst(rows: Sequence[FigureRow]) -> str:
    worst = (min if rows[0].higher_is_better else max)(rows, key=lambda row: row.value)
    return f"Worst: {language(worst.language).name}, {_value(worst)}." if len(rows) > 1 else ""


def chosen(choice: Choice) -> Artifact:
    """Return the artifact of a sweep's winner."""
    assert choice.winner.artifact is not None
    return choice.winner.artifact


def prompting_note(reports: Mapping[str, EvalReport]) -> str:
    """Return how the compared models were asked."""
    how = {name: report.settings["prompting"] for name, report in reports.items() if name not in ARMS or name == "neuron-trained"}
    plain = [name for name, prompting in how.items() if prompting == "plain"]
    asked = f"{formats.listing(plain)} continue a line of text, the others answer a chat. " if plain else ""
    return ("Held-out items, the same for every model. "
            f"{asked[:1].upper()}{asked[1:]}The winner was asked through its served endpoint.")


def repeat_command(overrides: Sequence[str]) -> str:
    """Return the command line that repeats a run."""
    return shlex.join(["sea-ray", "run", *overrides])
