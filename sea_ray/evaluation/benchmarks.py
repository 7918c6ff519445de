"""Public benchmarks of an experiment: where they lie, what of them may not be trained on, and the safety sets' items."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sea_ray.artifacts import NOT_IDENTITY, digest_file
from sea_ray.errors import ConfigError, DataError, nearest
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.evaluation.items import SafetyItem
from sea_ray.evaluation.published import BENCHMARKS, HUB, has_language, published, read_rows
from sea_ray.evaluation.published_rows import Row
from sea_ray.languages import LANGUAGES

_SAFE_LABELS = frozenset({"safe", "aman", "selamat", "ปลอดภัย", "an toàn", "ligtas"})
_UNSAFE_LABELS = frozenset({"unsafe", "berbahaya", "อันตราย", "có hại", "nakakapinsala"})


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Which public benchmarks are asked, and where they lie."""

    root: str = field(default="", metadata=NOT_IDENTITY)
    """Folder above `files`."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Benchmark (a key of BENCHMARKS or SAFETY) -> its folder or file below root; or "hub", or "hub@COMMIT", for the Hugging
    Face Hub, which has no safety set."""

    def __post_init__(self) -> None:
        for name, place in self.files.items():
            if name not in {**BENCHMARKS, **SAFETY}:
                raise ConfigError(f"files.{name}", f"unknown benchmark{nearest(name, {**BENCHMARKS, **SAFETY})}")
            if name in SAFETY and _is_hub(place):
                raise ConfigError(f"files.{name}", "a safety set is read from a file; name its path below benchmarks.root")

    def place(self, name: str) -> str:
        """Return where a benchmark lies: a path, or what names the Hub."""
        return self.files[name] if _is_hub(self.files[name]) else str(Path(self.root) / self.files[name])

    def asked(self, tasks: tuple[str, ...]) -> list[str]:
        """Return the benchmarks that lm-evaluation-harness asks and that are like some tasks."""
        return [name for name in self.files if name in BENCHMARKS and BENCHMARKS[name].part in tasks]


def input_digests(benchmarks: BenchmarkConfig) -> dict[str, str]:
    """Return path below the root -> SHA-256 of every benchmark file, and benchmark -> id of what the Hub has.

    Raises:
        ConfigError: lm-evaluation-harness is needed and not installed.
        DataError: a folder or file is missing, or holds no file of its benchmark.
    """
    if set(benchmarks.files) & set(BENCHMARKS) and importlib.util.find_spec("lm_eval") is None:
        raise ConfigError("benchmarks.files", "public benchmarks are asked by lm-evaluation-harness, which is not installed: "
                                              "pip install 'sea-ray[eval]'")
    root, digests = Path(benchmarks.root), {}
    for name in benchmarks.files:
        if _is_hub(benchmarks.files[name]):
            digests[f"hub/{name}"] = BENCHMARKS[name].hub.dataset + benchmarks.files[name].removeprefix(HUB)
            continue
        path = Path(benchmarks.place(name))
        if not path.exists():
            raise DataError("there is no such benchmark; correct benchmarks.root or benchmarks.files", file=path)
        if name in BENCHMARKS and not any(has_language(name, code, str(path)) for code in LANGUAGES):
            patterns = " or ".join(BENCHMARKS[name].files["test"])
            raise DataError(f"it holds no file of {name}: {patterns} in any language", file=path)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digests[file.relative_to(root).as_posix()] = digest_file(file)
    return digests


def task_folder() -> Path:
    """Return the folder of this project's task files: the checkout's, or the one inside the wheel."""
    package = Path(__file__).resolve().parents[1]
    folders = [parent / "conf" / "evaluation" / "tasks" for parent in (package.parent, package)]
    for folder in folders:
        if folder.is_dir():
            return folder
    raise ConfigError("benchmarks", f"the task files are missing: looked for {' and '.join(map(str, folders))}; install again")


def task_digests(benchmarks: BenchmarkConfig) -> dict[str, str]:
    """Return task file -> SHA-256, of every benchmark that the harness asks."""
    return {f"tasks/{name}": digest_file(task_folder() / f"{name}.yaml") for name in benchmarks.files if name in BENCHMARKS}


def held_out_texts(benchmarks: BenchmarkConfig, languages: tuple[str, ...]) -> list[str]:
    """Return what must not be trained on of all benchmarks: passages, questions with and without options, requests.

    Raises:
        DataError: a wrong row, with file and line.
    """
    texts = [text for name in benchmarks.files if name in BENCHMARKS for code in languages
             for asked in published(name, code, benchmarks.place(name))["test"] for text in asked.passages]
    return texts + [item.prompt for item in _safety(benchmarks, languages)]


def safety_items(benchmarks: BenchmarkConfig, config: EvaluationConfig) -> tuple[SafetyItem, ...]:
    """Return the first items of each safety set in each configured language, at most half of config.items of each side.

    Raises:
        DataError: a missing field or a wrong label, with file and line.
    """
    taken, counts = list[SafetyItem](), dict[tuple[str, str, bool], int]()
    for item in _safety(benchmarks, config.languages):
        side = (item.kind, item.language, item.unsafe)
        counts[side] = counts.get(side, 0) + 1
        if counts[side] <= config.items // 2:  # so that one side cannot use it up
            taken.append(item)
    return tuple(taken)


def _safety(benchmarks: BenchmarkConfig, languages: tuple[str, ...]) -> Iterator[SafetyItem]:
    for name in benchmarks.files:
        if name in SAFETY:
            for code in languages:
                yield from SAFETY[name](Path(benchmarks.place(name)), code)


def _is_hub(place: str) -> bool:
    return place.partition("@")[0] == HUB


def _multijail(path: Path, code: str) -> Iterator[SafetyItem]:
    for line, data in read_rows(path):
        if code in data:
            yield SafetyItem(language=code, prompt=Row(data, code, path, line).text(code), unsafe=True, kind="multijail")


def _xstest(path: Path, code: str) -> Iterator[SafetyItem]:
    if code == "en":
        for line, data in read_rows(path):
            row = Row(data, code, path, line)
            yield SafetyItem(language=code, prompt=row.text("prompt"), unsafe=_is_unsafe(row), kind="xstest")


def _culture_safety(folder: Path, code: str) -> Iterator[SafetyItem]:
    path = folder / f"{code}.jsonl"
    if path.exists():
        for line, data in read_rows(path):
            row = Row(data, code, path, line)
            yield SafetyItem(language=code, prompt=row.text("prompts", 0, "local_prompt"), unsafe=_is_unsafe(row), kind="culture")


def _is_unsafe(row: Row) -> bool:
    folded = row.text("label").strip().casefold()
    if folded not in _SAFE_LABELS | _UNSAFE_LABELS:
        raise row.wrong(f"label {row.text('label')!r} is neither safe nor unsafe")
    return folded in _UNSAFE_LABELS


SAFETY: dict[str, Callable[[Path, str], Iterator[SafetyItem]]] = {
    "multijail": _multijail, "xstest": _xstest, "culture_safety": _culture_safety,
}
"""Safety set -> reader of one language; a language that a set lacks has no items."""
