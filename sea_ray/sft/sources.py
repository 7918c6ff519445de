"""Where conversations come from besides the demo world: files, parallel text and Hugging Face datasets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sea_ray.artifacts import NOT_IDENTITY
from sea_ray.errors import ConfigError, nearest
from sea_ray.languages import ADDED
from sea_ray.languages import language as known_language

Format = Literal["alpaca", "messages", "sharegpt", "gsm8k", "prompt_response", "answerability"]
FIELDS: dict[str, tuple[str, ...]] = {
    "alpaca": ("instruction", "input", "output"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "gsm8k": ("question", "answer"),
    "prompt_response": ("prompt", "response"),
    "answerability": ("prompt", "response", "kind", "entity"),
}
"""Format -> what a row of it holds; an alpaca row's input may be missing."""


@dataclass(frozen=True, kw_only=True)
class RowSource:
    """What is taken of rows, whatever holds them."""

    where: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Column -> value of the rows that count, such as {language_code: tha}; empty = all. "a.b" is column b within a."""
    skip: int = 0
    """Rows that count left out at the beginning, such as those kept for evaluation."""
    max_conversations: int = 0
    """Largest number of conversations taken; 0 = all."""
    licence: str = field(default="", metadata=NOT_IDENTITY)
    """Licence of the text, such as "CC BY-SA 4.0"; it stands in the record and on the model card."""
    origin: str = field(default="", metadata=NOT_IDENTITY)
    """Where the text was got from, such as a URL; it stands there too."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("skip", "max_conversations"):
            if getattr(self, name) < 0:
                raise ConfigError(name, f"{getattr(self, name)} is negative")


@dataclass(frozen=True, kw_only=True)
class FileSource(RowSource):
    """A file of conversations."""

    path: str
    """File below sft.root."""
    language: str
    """Language of its conversations."""
    format: Format
    """alpaca: JSON list of instruction, input, output; messages: JSONL of OpenAI messages; sharegpt: JSON list of conversations,
    turns of from and value; gsm8k: JSONL of question and answer; prompt_response: JSONL of prompt and response; answerability:
    JSONL of prompt, response, kind ("fact" or "unanswerable") and, if unanswerable, the invented entity."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Field of the format -> the file's name of it, such as {prompt: inputs, response: targets}; else they are alike."""
    kind: str = "instruction"
    """What they teach, for the report and the baseline without safety; rows of answerability say it themselves."""

    def __post_init__(self) -> None:
        """Check language, range and names of fields."""
        super().__post_init__()
        known_language(self.language, "language")
        _check_fields(self.fields, FIELDS[self.format])


@dataclass(frozen=True, kw_only=True)
class PairSource(RowSource):
    """Parallel text that becomes translation requests in both directions, in turn."""

    source: str
    """Language of the other side, as a rule "en"."""
    target: str
    """Language whose data both directions are."""
    format: Literal["lines", "jsonl", "csv"]
    """lines: two aligned text files; jsonl and csv: one file with two fields or columns."""
    paths: tuple[str, ...]
    """File below sft.root, or for lines the source's file and the target's."""
    fields: tuple[str, ...] = ()
    """Names of the source's and the target's field or column; empty = the language codes."""

    def __post_init__(self) -> None:
        """Check languages, number of files and fields, and range."""
        super().__post_init__()
        _check_pair(self.source, self.target)
        needed = 2 if self.format == "lines" else 1
        if len(self.paths) != needed:
            raise ConfigError("paths", f"{len(self.paths)} files for format {self.format}, {needed} are needed")
        if len(self.fields) not in (0, 2):
            raise ConfigError("fields", f"{list(self.fields)} are {len(self.fields)} names; two or none are needed")


@dataclass(frozen=True, kw_only=True)
class DatasetSource(RowSource):
    """Conversations, or parallel text, in a dataset that the `datasets` library streams."""

    dataset: str = field(metadata=NOT_IDENTITY)
    """Hub id such as "openai/gsm8k", or a folder below sft.root. Part of the identity is id@revision, or the folder's files."""
    name: str | None = None
    """Configuration of the dataset, such as "main"; None: its default."""
    split: str = "train"
    """Split of the dataset."""
    revision: str | None = field(default=None, metadata=NOT_IDENTITY)
    """Commit of the Hub id; None or a branch is what the Hub has on the day, which is not repeatable."""
    language: str
    """Language of its conversations; of parallel text, the language whose data both directions are."""
    format: Format | Literal["parallel"]
    """Columns of a row: as in files, or parallel: a column for each of two languages."""
    source: str = "en"
    """Language of the other side of parallel text."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Field of the format (of parallel text, language code) -> column, such as {th: translation.th}; else they are alike."""
    kind: str = "instruction"
    """What they teach, for the report and the baseline without safety; parallel text and answerability say it themselves."""

    def __post_init__(self) -> None:
        """Check languages, range and names of fields."""
        super().__post_init__()
        known_language(self.language, "language")
        known_language(self.source, "source")
        if self.format == "parallel":
            _check_pair(self.source, self.language)
        _check_fields(self.fields, (self.source, self.language) if self.format == "parallel" else FIELDS[self.format])


Source = FileSource | PairSource | DatasetSource


def taught_language(source: Source) -> str:
    """Return the language whose data a source's conversations are."""
    return source.target if isinstance(source, PairSource) else source.language


def _check_pair(source: str, target: str) -> None:
    known_language(source, "source")
    known_language(target, "target")
    if source in ADDED and target in ADDED:
        raise ConfigError("source", f"{source!r} and {target!r} are both added languages, and neither has words to ask for a "
                                    "translation in: pair each with one of the twelve, such as en")


def _check_fields(given: Mapping[str, str], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"fields.{name}", f"the format has no such field{nearest(name, known)}")
