"""Public benchmarks of an experiment: where they lie, what of them may not be trained on, and the items of own sets."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sea_ray.artifacts import NOT_IDENTITY, digest_file
from sea_ray.conf_folder import config_folder
from sea_ray.errors import ConfigError, DataError, nearest
from sea_ray.evaluation.benchmark_sources import BENCHMARKS, HUB, has_language, published
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.evaluation.contamination import HeldOutText
from sea_ray.evaluation.items import DialogueItem, RefusalItem, SafetyItem, Suite
from sea_ray.evaluation.open_files import seabench, searefuse
from sea_ray.evaluation.rows import Row, read_rows
from sea_ray.languages import LANGUAGES

_SAFE_LABELS = frozenset({"safe", "aman", "selamat", "ปลอดภัย", "an toàn", "ligtas"})
_UNSAFE_LABELS = frozenset({"unsafe", "berbahaya", "อันตราย", "có hại", "nakakapinsala"})

OwnItem = SafetyItem | RefusalItem | DialogueItem
Reader = Callable[[Path, str], Iterator[OwnItem]]


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Which public benchmarks are asked, and where they lie."""

    root: str = field(default="", metadata=NOT_IDENTITY)
    """Folder above `files`."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Benchmark (a key of BENCHMARKS or OWN) -> its folder or file below root; of BENCHMARKS also "hub", or "hub@COMMIT", for the
    Hugging Face Hub."""

    def __post_init__(self) -> None:
        for name, place in self.files.items():
            if name not in (known := (*BENCHMARKS, *OWN)):
                raise ConfigError(f"files.{name}", f"unknown benchmark{nearest(name, known)}")
            if Path(place).is_absolute():
                raise ConfigError(f"files.{name}", f"{place!r} is no path below benchmarks.root; set root to a folder above it, "
                                                   "and name the rest here")
            if name in OWN and _is_hub(place):
                raise ConfigError(f"files.{name}", "this benchmark is read from files; name its path below benchmarks.root")

    def place(self, name: str) -> str:
        """Return where a benchmark lies: a path, or what names the Hub."""
        return self.files[name] if _is_hub(self.files[name]) else str(Path(self.root) / self.files[name])

    def asked(self, tasks: tuple[str, ...]) -> list[str]:
        """Return the benchmarks that lm-evaluation-harness asks and that are like some tasks."""
        return [name for name in self.files if name in BENCHMARKS and BENCHMARKS[name].part in tasks]


def check_chat_route(names: Sequence[str], prompting: str) -> None:
    """Refuse what a chat route can't be asked.

    Args:
        names: keys of BENCHMARKS or OWN.
        prompting: as in EvaluationConfig.

    Raises:
        ConfigError: options or texts would be scored, or the prompting is not "chat".
    """
    scored = [name for name in names if name in BENCHMARKS and not BENCHMARKS[name].is_written]
    if scored:
        written = ", ".join(name for name in (*BENCHMARKS, *OWN) if name not in BENCHMARKS or BENCHMARKS[name].is_written)
        raise ConfigError("tasks", f"{', '.join(scored)}: scored by log-probabilities of options or texts, which a chat route "
                                   f"does not give; ask route=completions, or of a chat route only {written}")
    if prompting != "chat":
        raise ConfigError("prompting", f"{prompting!r}: a chat route puts every question into the chat format; ask "
                                       "route=completions, or set prompting=chat")


def input_digests(benchmarks: BenchmarkConfig) -> dict[str, str]:
    """Return path below the root -> SHA-256 of every benchmark file, and benchmark -> id of what the Hub has.

    Raises:
        ConfigError: lm-evaluation-harness is needed and not installed.
        DataError: a folder or file is missing, or holds no file of its benchmark.
    """
    if set(benchmarks.files) & set(BENCHMARKS) and importlib.util.find_spec("lm_eval") is None:
        raise ConfigError("benchmarks.files", "public benchmarks are asked by lm-evaluation-harness, which is not installed: "
                                              "pip install -c requirements.lock -e '.[eval]' in the clone")
    root, digests = Path(benchmarks.root), {}
    for name in benchmarks.files:
        if _is_hub(benchmarks.files[name]):
            digests[f"hub/{name}"] = BENCHMARKS[name].hub.dataset + benchmarks.files[name].removeprefix(HUB)
            continue
        path = _path(benchmarks, name)
        if name in BENCHMARKS and not any(has_language(name, code, str(path)) for code in LANGUAGES):
            patterns = " or ".join(BENCHMARKS[name].files["test"])
            raise DataError(f"it holds no file of {name}: {patterns} in any language", file=path)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digests[file.relative_to(root).as_posix()] = digest_file(file)
    return digests


def task_folder() -> Path:
    """Return the folder of this project's task files, in that of all configuration."""
    folder = config_folder() / "evaluation" / "tasks"
    if not folder.is_dir():
        raise ConfigError("benchmarks", f"the task files are missing: {folder} is no folder; copy it from sea_ray's own conf/")
    return folder


def task_digests(benchmarks: BenchmarkConfig) -> dict[str, str]:
    """Return task file -> SHA-256, of every benchmark that the harness asks."""
    return {f"tasks/{name}": digest_file(task_folder() / f"{name}.yaml") for name in benchmarks.files if name in BENCHMARKS}


def held_out(benchmarks: BenchmarkConfig, languages: tuple[str, ...]) -> Iterator[HeldOutText]:
    """Yield what must not be trained on of all benchmarks: passages, questions with and without options, requests, turns.

    Raises:
        DataError: a wrong row, with file and line.
    """
    for name in sorted(benchmarks.files, key=OWN.__contains__):
        for code in languages:
            for number, texts in enumerate(_item_texts(benchmarks, name, code)):
                yield from (HeldOutText(benchmark=name, language=code, item=number, text=text) for text in texts)


def _item_texts(benchmarks: BenchmarkConfig, name: str, code: str) -> Iterator[tuple[str, ...]]:
    if name in BENCHMARKS:
        yield from (asked.passages for asked in published(name, code, benchmarks.place(name))["test"])
    else:
        for item in _read_own(benchmarks, name, code):
            yield item.turns if isinstance(item, DialogueItem) else (item.prompt,)


def own_items(benchmarks: BenchmarkConfig, config: EvaluationConfig) -> Suite:
    """Return the first items of each benchmark that the harness lacks, in each configured language.

    Args:
        benchmarks: files.
        config: languages, and how many items of each benchmark and language.

    Raises:
        DataError: a missing file, a missing field, a wrong label, a doubled id; with file and line.
    """
    found: dict[str, list[Any]] = {part.name: [] for part in fields(Suite)}
    for name in benchmarks.files:
        if name in OWN:
            for code in config.languages:
                found[OWN[name][0]] += _first(_read_own(benchmarks, name, code), config.items)
    return Suite(**{part: tuple(items) for part, items in found.items()})


def _read_own(benchmarks: BenchmarkConfig, name: str, code: str) -> Iterator[OwnItem]:
    return OWN[name][1](_path(benchmarks, name), code)


def _path(benchmarks: BenchmarkConfig, name: str) -> Path:
    path = Path(benchmarks.place(name))
    if not path.exists():
        raise DataError("there is no such benchmark; correct benchmarks.root or benchmarks.files", file=path)
    return path


def _first(items: Iterator[OwnItem], limit: int) -> list[OwnItem]:
    """Return at most `limit` items; of two-sided ones at most half of each side, of dialogues as many of each type."""
    known = list(items)
    sides = dict.fromkeys(map(_side, known))
    room = {side: max(1, limit // max(2, len(sides))) for side in sides}
    taken: list[OwnItem] = []
    for item in known:
        if room[_side(item)] > 0 and len(taken) < limit:
            room[_side(item)] -= 1
            taken.append(item)
    return taken


def _side(item: OwnItem) -> object:
    """Return which part of its benchmark an item belongs to, none of which may use up the room of the others."""
    if isinstance(item, SafetyItem):
        return item.unsafe
    return item.answerable if isinstance(item, RefusalItem) else item.kind


def _is_hub(place: str) -> bool:
    return place.partition("@")[0] == HUB


def _multijail(path: Path, code: str) -> Iterator[SafetyItem]:
    for row in read_rows(path, unique="id"):
        if code in row.data and code != "id":  # there "id" is the number of a row; Indonesian is not in it
            yield SafetyItem(language=code, prompt=row.text(code), unsafe=True, kind="multijail")


def _xstest(path: Path, code: str) -> Iterator[SafetyItem]:
    if code == "en":
        for row in read_rows(path, unique="id"):
            yield SafetyItem(language=code, prompt=row.text("prompt"), unsafe=_is_unsafe(row), kind="xstest")


def _culture_safety(folder: Path, code: str) -> Iterator[SafetyItem]:
    path = folder / f"{code}.jsonl"
    if path.exists():
        for row in read_rows(path):
            yield SafetyItem(language=code, prompt=row.text("prompts", 0, "local_prompt"), unsafe=_is_unsafe(row), kind="culture")


def _is_unsafe(row: Row) -> bool:
    folded = row.text("label").strip().casefold()
    if folded not in _SAFE_LABELS | _UNSAFE_LABELS:
        raise row.wrong(f"label {row.text('label')!r} is neither safe nor unsafe")
    return folded in _UNSAFE_LABELS


OWN: dict[str, tuple[str, Reader]] = {
    "multijail": ("safety", _multijail),
    "xstest": ("safety", _xstest),
    "culture_safety": ("safety", _culture_safety),
    "searefuse_g": ("refusal", searefuse("searefuse_g")),
    "searefuse_h": ("refusal", searefuse("searefuse_h")),
    "seabench": ("dialogues", seabench),
}
"""Benchmark that the harness lacks -> part of the suite and reader of one language; a language that it lacks has no items."""
