"""The cards that go with a model and with language packs, as Hugging Face writes them: Markdown under a YAML header."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from huggingface_hub import EvalResult, ModelCardData

from sea_ray.artifacts import Artifact, read_json
from sea_ray.config import ExperimentConfig
from sea_ray.decoding import decode
from sea_ray.evaluation.figures import EvalReport
from sea_ray.evaluation.tables import tables, written
from sea_ray.languages import LANGUAGES
from sea_ray.part_tables import pack_rows
from sea_ray.pipeline import Experiment
from sea_ray.provenance import source_rows
from sea_ray.report.averages import Average, average, select, trained
from sea_ray.report.data import FigureRow, SourceRow
from sea_ray.run_findings import findings, not_shown, repeat_command
from sea_ray.run_report import figure_rows
from sea_ray.search_space import label

ModelName = Literal["winner", "merged", "base"]
EVALUATED: Mapping[ModelName, str] = {"winner": "winner", "merged": "neuron-trained", "base": "base"}
"""Model of a run -> its name in the evaluations."""
METHOD = ("the method of SeaLLMs 3 ([arXiv 2407.19672](https://arxiv.org/abs/2407.19672)): the neurons that matter for one "
          "language are found by what the model loses without them")
_SAFETY = ("balanced_accuracy", "fpr", "unsafe_answered", "over_refusal")
"""Metrics that the card's safety section repeats."""
_EXECUTION = ("store", "tracking", "ending", "cluster", "budget", "until")
"""Settings that decide no result; a card leaves them out."""


def model_card(experiment: Experiment, record: Mapping[str, Any], *, model: ModelName = "winner", licence: str = "") -> str:
    """Return the card of a model of a finished run.

    Args:
        experiment: its results.
        record: what the run wrote: name, overrides, config, versions, machine, seconds.
        model: which of its models.
        licence: id of the licence that the model is given under; "": nobody said.
    """
    config = decode(ExperimentConfig, record["config"])
    reports = {name: EvalReport.load(artifact.folder) for name, artifact in experiment.evaluations.items()}
    figures, own = list(figure_rows(reports)), EVALUATED[model]
    header = _header(config, experiment.corpus.facts, licence, model_name=record["name"], eval_results=_results(figures, own))
    shown = [reports[name] for name in dict.fromkeys(("base", own))]
    absent = findings([], reports, experiment)[1] if model == "winner" else []
    return "\n".join([
        header, f"# {record['name']}", "", _made(config, experiment, model), "", *_use(config), "",
        "## Results", "", *_figures(figures, own), "",
        "<details><summary>Each language</summary>", "", written(tables(shown), "markdown"), "", "</details>", "",
        "## Safety", "", *_safety(experiment, figures, model), "", "## Limits", "",
        *(f"- {sentence}" for sentence in (*_limits(config), *not_shown(experiment.base, config), *absent)), "",
        *training_data(source_rows(config, experiment.corpus.facts)), "", *_repeat(record), ""])


@dataclass(frozen=True, kw_only=True)
class RunPacks:
    """The language packs of a run, with what they rest on."""

    asked: Mapping[str, Any]
    """What the run was asked: name, overrides, config."""
    packs: Artifact
    base: Artifact
    corpus: Artifact


def pack_card(of: RunPacks, languages: Sequence[str], *, licence: str = "") -> str:
    """Return the card of some language packs, with how to lay one on its base.

    Args:
        of: the packs of a run.
        languages: those that are given away.
        licence: id of the licence that they are given under; "": nobody said.
    """
    config = decode(ExperimentConfig, of.asked["config"])
    rows = [row for row in pack_rows(of.packs) if row["language"] in languages]
    base = config.model.checkpoint or "BASE"
    digest = read_json(of.packs.folder / "packs" / languages[0] / "pack.json")["base_digest"]
    lines = [f"| {_name(row['language'])} | {row['neurons']:,} | {row['values']:,} | {row['bytes']:,} | "
             f"{row['bits per byte']:.3f} | {row['with pack']:.3f} | {row['gain']:+.1%} |" for row in rows]
    sources = [row for row in source_rows(config, of.corpus.facts) if row.use == "corpus" and row.language in languages]
    return "\n".join([
        _header(config, of.corpus.facts, licence, languages=languages), f"# Language packs of {of.asked['name']}", "",
        f"Made by sea_ray by {METHOD}, and they alone are trained, each language on its own. A pack is what that training "
        f"changed: it belongs to one base, {_base(config)}, whose tensors have the digest `{digest}`.", "",
        "| language | neurons | values | bytes | bits per byte of the base | with the pack | gain |",
        "|---|---|---|---|---|---|---|",
        *lines, "", "Read on validation text, each pack alone on its base; one seed, without an interval.", "",
        "## Laying a pack on its base", "", "```python", LAY.format(base=base, language=languages[0]).strip(), "```", "",
        f"With sea_ray, `sea-ray serve checkpoint={base} packs=FOLDER` serves them beside each other (a request names the pack), "
        "and `LanguagePack.load(FOLDER / LANGUAGE).apply(model)` checks the digests of the base first. On a descendant of the "
        "base, such as the base after fine-tuning, a pack's effect is approximate: measure it.", "",
        "## Limits", "", *(f"- {sentence}" for sentence in (*_limits(config), *not_shown(of.base, config))), "",
        *training_data(sources), "", *_repeat(of.asked), ""])


LAY = '''
import json

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("{base}")
places = json.load(open("{language}/pack.json"))["slices"]
values = load_file("{language}/pack.safetensors")
tensors = dict(model.named_parameters())
with torch.no_grad():
    for name, place in places.items():
        change = values[f"{{name}}/delta"].to(tensors[name].dtype)
        tensors[name].index_add_(place["dim"], values[f"{{name}}/index"], change)
'''
"""Lays a pack on a model with nothing but transformers."""


def _header(config: ExperimentConfig, corpus_facts: Mapping[str, Any], licence: str, *, languages: Sequence[str] = (),
            **more: Any) -> str:
    rows = source_rows(config, corpus_facts)
    datasets = sorted({row.name for row in rows if row.origin.startswith("Hugging Face")}) or None
    data = ModelCardData(language=list(languages or config.corpus.languages), license=licence or None,
                         base_model=config.model.checkpoint, library_name="transformers", pipeline_tag="text-generation",
                         tags=["sea_ray", *(["language-pack"] if languages else [])], datasets=datasets, **more)
    said = "" if licence else "\nUnder which licence this may be used, nobody has said.\n"
    return f"---\n{data.to_yaml()}\n---\n{said}"


def _base(config: ExperimentConfig) -> str:
    return config.model.checkpoint or "a small Qwen2 that was trained from scratch on the corpus"


def _name(code: str) -> str:
    return f"{LANGUAGES[code].name} ({code})"


def _made(config: ExperimentConfig, experiment: Experiment, model: ModelName) -> str:
    """Return in words how a model came about."""
    text = f"Made by sea_ray from {_base(config)}"
    if model == "base":
        return f"{text}: the base, before anything else."
    text += (f", by {METHOD}; those of {', '.join(map(_name, config.neurons.languages))} were trained alone, each language on "
             f"its own, and merged (`{label(experiment.thresholds.winner.point)}`: {experiment.thresholds.reason}).")
    if model == "merged":
        return f"{text} It is not fine-tuned: it continues text and follows no instructions."
    return (f"{text} Then it was fine-tuned in two stages, broad and high quality, with data that teach refusal and safety "
            f"(`{label(experiment.mixes.winner.point)}`: {experiment.mixes.reason}).")


def _use(config: ExperimentConfig) -> list[str]:
    return ["```python", "from transformers import AutoModelForCausalLM, AutoTokenizer", "",
            'tokenizer, model = (kind.from_pretrained("FOLDER") for kind in (AutoTokenizer, AutoModelForCausalLM))',
            'chat = tokenizer.apply_chat_template([{"role": "user", "content": "..."}], add_generation_prompt=True,',
            '                                     return_tensors="pt", return_dict=True)',
            "print(tokenizer.decode(model.generate(**chat, max_new_tokens=64)[0]))", "```"]


def _means(figures: Sequence[FigureRow], model: str) -> Iterator[tuple[str, str, Average]]:
    """Yield task, metric and the mean over the languages that were taught."""
    for task, metric in dict.fromkeys((row.task, row.metric) for row in figures):
        if (mean := average(trained(select(figures, task, metric, model)))) is not None:
            yield task, metric, mean


def _results(figures: Sequence[FigureRow], model: str) -> list[EvalResult]:
    """Return the means as the Hub lists results."""
    return [EvalResult(task_type="text-generation", dataset_type=task, metric_type=metric, metric_value=round(mean.value, 4),
                       dataset_name=f"{task}, held-out items, mean of {mean.num_languages} languages",
                       metric_args={"low": round(mean.low, 4), "high": round(mean.high, 4), "n": mean.n})
            for task, metric, mean in _means(figures, model)]


def _figures(figures: Sequence[FigureRow], model: str) -> Iterator[str]:
    """Yield the table of means, the model beside the base."""
    beside = {(task, metric): _with_interval(mean) for task, metric, mean in _means(figures, "base")}
    yield "Means over the Southeast Asian languages, with 95 % intervals; n counts items that no model was trained on."
    yield ""
    yield "| | base | this model | n |" if model != "base" else "| | this model | n |"
    yield "|---|---|---|---|" if model != "base" else "|---|---|---|"
    for task, metric, mean in _means(figures, model):
        before = f"{beside.get((task, metric), 'not asked')} | " if model != "base" else ""
        yield f"| {task}, {metric} | {before}{_with_interval(mean)} | {mean.n:,} |"


def _with_interval(mean: Average) -> str:
    return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def _safety(experiment: Experiment, figures: Sequence[FigureRow], model: ModelName) -> Iterator[str]:
    if model != "winner":
        yield "Neither taught to refuse nor judged by the safety gate: do not let it answer people."
        return
    gate = experiment.gate.facts
    yield "Safety gate: " + ("passed." if gate["passed"] else "FAILED. " + "; ".join(gate["reasons"]) + ".")
    yield ""
    for task, metric, mean in _means(figures, "winner"):
        if task.startswith(("refusal", "safety")) and metric in _SAFETY:
            yield f"- {task}, {metric}: {_with_interval(mean)}, n = {mean.n:,}"
    yield ""
    yield ("The gate reads refusals by a classifier, of questions that were made for it. It says nothing about requests of other "
           "kinds: put your own safeguards in front of people.")


def _limits(config: ExperimentConfig) -> Iterator[str]:
    if config.corpus.source == "demo":
        yield "It was taught on an invented small world: it knows nothing of the real one."
    yield "What was not measured is not known; public benchmarks count as measured only where the results name them."


def training_data(rows: Sequence[SourceRow]) -> list[str]:
    """Return the lines that say what a model was taught from, under which licences."""
    unknown = sorted({row.name for row in rows if not row.licence})
    return ["## Training data", "",
            "| use | language | source | licence | from | documents |", "|---|---|---|---|---|---|", *map(_line, rows), "",
            f"Nobody said under which licence these are: {', '.join(unknown)}." if unknown else "Every source names its licence."]


def _line(row: SourceRow) -> str:
    cells: Sequence[str] = (row.use, row.language, row.name, row.licence or "not said", row.origin or "not said",
                            "" if row.documents is None else f"{row.documents:,}")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _repeat(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield how to make it again; where it was computed, and what folders are called there, is nobody's business."""
    yield "## How to repeat it"
    yield ""
    yield f"    {repeat_command(public_settings(record['overrides']))}"
    if "versions" in record:
        yield ""
        yield (f"{record['seconds']:,.0f} s on {record['machine']}; "
               + ", ".join(f"{name} {version}" for name, version in record["versions"].items()) + ".")


def public_settings(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that decide a result, without the paths of the machine that it was made on."""
    kept = []
    for text in overrides:
        key, _, value = text.partition("=")
        if key.lstrip("+~").split(".")[0] not in _EXECUTION:
            kept.append(f"{key}=..." if any(sign in value for sign in ("/", "~")) and "://" not in value else text)
    return kept
