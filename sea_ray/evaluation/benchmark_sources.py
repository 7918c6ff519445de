"""Rows of public benchmarks, out of files in the formats in which they are published or from the Hub, checked one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sea_ray.errors import DataError
from sea_ray.evaluation import benchmark_rows
from sea_ray.evaluation.benchmark_rows import Asked
from sea_ray.evaluation.rows import Row, doubled, read_rows
from sea_ray.hub import dataset_rows
from sea_ray.languages import TWELVE, language

Part = Literal["text", "exam", "arithmetic", "translation"]
HUB = "hub"
"""Instead of a folder: from the Hub, or from one commit of it as "hub@COMMIT"."""


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """Where the Hub has a benchmark."""

    dataset: str
    """Its id."""
    names: Mapping[str, tuple[str, ...]]
    """Language -> configurations that together hold its rows."""
    splits: Mapping[str, str] = field(default_factory=lambda: {"test": "test"})
    """"test" and, where examples are shown before a question, "shots" -> name of the split."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A public benchmark that lm-evaluation-harness asks; conf/evaluation/tasks/ says how."""

    part: Part
    """Task of EvaluationConfig that it is like."""
    files: Mapping[str, tuple[str, ...]]
    """"test" and "shots" -> patterns below its folder, the first that finds anything counts; {code}, {flores} and {name} stand
    for a language."""
    hub: HubSource
    read: Callable[[Row], Asked | None]
    """What is asked of a published row; None leaves it out."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Language -> {name} in the patterns, if it is not the code."""
    columns: tuple[str, ...] = ()
    """Names of the columns of files that have none."""

    @property
    def is_written(self) -> bool:
        """Whether answers are written; else options or texts are scored by their log-probabilities."""
        return self.part in ("arithmetic", "translation")


def _each(template: str, codes: Sequence[str] = tuple(TWELVE), **other: str) -> dict[str, tuple[str, ...]]:
    return {code: (other.get(code) or template.format(code=code, flores=language(code).flores),) for code in codes}


_M3EXAM = {"en": "english", "zh": "chinese", "id": "indonesian", "vi": "vietnamese", "th": "thai", "jv": "javanese"}
_MATH = ("algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra", "precalculus")
_MGSM = Benchmark(part="arithmetic", files={"test": ("mgsm_{code}.tsv",)}, columns=("question", "answer_number"),
                  read=benchmark_rows.mgsm, hub=HubSource(dataset="juletxara/mgsm", names=_each("{code}", ("en", "zh", "th"))))
BENCHMARKS: dict[str, Benchmark] = {
    "sib200": Benchmark(
        part="text", files={"test": ("{flores}.tsv", "{flores}/test.tsv")}, read=benchmark_rows.sib200,
        hub=HubSource(dataset="Davlan/sib200", names=_each("{flores}"))),
    "m3exam": Benchmark(
        part="exam", names=_M3EXAM, read=benchmark_rows.m3exam,
        files={"test": ("{name}-questions-test.json",), "shots": ("{name}-questions-dev.json",)},
        hub=HubSource(dataset="chiayewken/m3exam", splits={"test": "test", "shots": "dev"},
                      names={code: (name,) for code, name in _M3EXAM.items() if code != "id"})),
    "mmlu": Benchmark(
        part="exam", columns=("question", "A", "B", "C", "D", "answer"), read=benchmark_rows.mmlu,
        files={"test": ("test/*_test.csv",), "shots": ("dev/*_dev.csv",)},
        hub=HubSource(dataset="cais/mmlu", names={"en": ("all",)}, splits={"test": "test", "shots": "dev"})),
    "global_mmlu": Benchmark(
        part="exam", read=benchmark_rows.global_mmlu,
        files={"test": ("*_{code}_test.jsonl", "*_{code}_dev.jsonl", "{code}/test*.jsonl", "{code}/test*.parquet")},
        hub=HubSource(dataset="CohereForAI/Global-MMLU-Lite", names=_each("{code}", ("en", "zh", "id")))),
    "xcopa": Benchmark(
        part="exam", files={"test": ("{code}/test.{code}.jsonl",)}, read=benchmark_rows.xcopa,
        hub=HubSource(dataset="cambridgeltl/xcopa", names=_each("{code}", ("zh", "id", "vi", "th", "ta")))),
    "belebele": Benchmark(
        part="exam", files={"test": ("{flores}.jsonl", "data/{flores}.jsonl")}, read=benchmark_rows.belebele,
        hub=HubSource(dataset="facebook/belebele", names=_each("{flores}"))),
    "mgsm": _MGSM,
    "mgsm_cot": _MGSM,
    "math": Benchmark(
        part="arithmetic", read=benchmark_rows.math,
        files={"test": ("test/*/*.json", "test.jsonl"), "shots": ("train/*/*.json", "train.jsonl")},
        hub=HubSource(dataset="EleutherAI/hendrycks_math", names={"en": _MATH}, splits={"test": "test", "shots": "train"})),
    "flores": Benchmark(
        part="translation", files={"test": ("devtest/{flores}.devtest",)}, columns=("text",), read=benchmark_rows.flores,
        hub=HubSource(dataset="openlanguagedata/flores_plus", splits={"test": "devtest"},
                      names=_each("{flores}", zh="cmn_Hans", tl="fil_Latn"))),
}  # fmt: skip
"""Name in conf/ -> benchmark. sib200 is the test part of Flores under another name, and Belebele's passages are its texts."""


def published(name: str, code: str, place: str) -> dict[str, list[Asked]]:
    """Return what a benchmark asks in a language, and what it shows before.

    Args:
        name: a key of BENCHMARKS.
        code: language.
        place: folder, or "hub", or "hub@COMMIT".

    Returns:
        "test" and "shots" -> rows; a language that the benchmark lacks has none.

    Raises:
        DataError: a missing field, a wrong label, an empty or doubled row; with file and line.
        MachineError: the Hub can't be reached.
    """
    benchmark = BENCHMARKS[name]
    source = _from_hub if place.partition("@")[0] == HUB else _from_files
    found: dict[str, list[Asked]] = {"test": [], "shots": []}
    for split in found:
        seen: dict[str, int] = {}
        for row in source(benchmark, name, code, place, split):
            asked = benchmark.read(row)
            if asked is None:
                continue
            if asked.identity and seen.setdefault(asked.identity, row.line) != row.line:
                raise doubled(row, "id", asked.identity, seen[asked.identity])
            found[split].append(asked)
    return found


def has_language(name: str, code: str, place: str) -> bool:
    """Return whether a benchmark has a language there, without reading its rows."""
    if place.partition("@")[0] == HUB:
        return code in BENCHMARKS[name].hub.names
    return bool(_files(BENCHMARKS[name], code, Path(place), "test"))


def _from_hub(benchmark: Benchmark, name: str, code: str, place: str, split: str) -> Iterator[Row]:
    hub, commit = benchmark.hub, place.partition("@")[2] or None
    for config in hub.names.get(code, ()) if split in hub.splits else ():
        for number, data in dataset_rows(hub.dataset, name=config, split=hub.splits[split], revision=commit,
                                         setting=f"benchmarks.files.{name}"):
            yield Row(data, f"{hub.dataset}/{config}", number)


def _from_files(benchmark: Benchmark, name: str, code: str, place: str, split: str) -> Iterator[Row]:
    for file in _files(benchmark, code, Path(place), split):
        empty = True
        for row in read_rows(file, benchmark.columns):
            empty = False
            yield row
        if empty:
            raise DataError("it holds no row; take the file out, or put the rows in", file=file)


def _files(benchmark: Benchmark, code: str, folder: Path, split: str) -> list[Path]:
    if benchmark.hub.names.keys() == {"en"} != {code}:
        return []  # its files do not name their language
    names = {"code": code, "flores": language(code).flores, "name": benchmark.names.get(code, code)}
    for pattern in benchmark.files.get(split, ()):
        if found := sorted(folder.glob(pattern.format(**names))):
            return found
    return []
