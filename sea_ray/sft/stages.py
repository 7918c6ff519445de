"""Conversations of a stage of fine-tuning: from the demo world, files, parallel text and datasets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from sea_ray.artifacts import digest_file
from sea_ray.demo import KINDS, Split, World
from sea_ray.demo.splits import split_of
from sea_ray.errors import ConfigError, DataError
from sea_ray.hub import dataset_digests
from sea_ray.sft.config import STAGES, SftConfig, StageConfig
from sea_ray.sft.conversation import Conversation, from_dialogue
from sea_ray.sft.reading import local_folder, read_source
from sea_ray.sft.sources import taught_language

REFUSAL_KINDS = ("unanswerable", "unsafe_general", "unsafe_culture")
"""What the baseline without safety goes without; the harmless twins stay."""


def input_digests(config: SftConfig) -> dict[str, str]:
    """Return what the stages read, as part of what the result is: path below the root -> SHA-256 of a file, and dataset ->
    id@revision, or the files of a local folder.

    Raises:
        DataError: a file is missing.
    """
    root = Path(config.root or ".")
    paths = {source.path for stage in config.stages for source in stage.files}
    paths |= {path for stage in config.stages for source in stage.pairs for path in source.paths}
    for path in sorted(paths):
        if not (root / path).is_file():
            raise DataError("there is no such file; check sft.data.root and the paths below it", root / path)
    sheets = {}
    for number, sheet in enumerate(config.reviews):
        if not Path(sheet).is_file():
            raise DataError("there is no such review sheet; correct sft.data.reviews", Path(sheet))
        sheets[f"review/{number}"] = digest_file(Path(sheet))
    return {path: digest_file(root / path) for path in sorted(paths)} | _dataset_digests(config, root) | sheets


def _dataset_digests(config: SftConfig, root: Path) -> dict[str, str]:
    digests: dict[str, str] = {}
    for stage, part in zip(STAGES, config.stages, strict=True):
        for number, source in enumerate(part.datasets):
            dataset = str(local_folder(source, root) or source.dataset)
            digests |= dataset_digests(dataset, source.revision, f"dataset/{stage}/{number}")
    return digests


def build_stage_data(
    config: SftConfig, stage: StageConfig, world: World, split: Split = "train"
) -> dict[str, list[Conversation]]:
    """Return a stage's conversations by language, the languages in the world's order.

    Args:
        config: root folder, and whether refusals are taught.
        stage: what the stage takes; one of config.stages.
        world: the demo world whose facts the corpus told, with the languages of the experiment.
        split: part of the demo world; the other sources belong to the train part, but for those of a language that the world does
            not speak: a tenth of their conversations is held out for validation.

    Raises:
        ConfigError: a source is of a language that the experiment does not have.
        DataError: a file or dataset is missing or malformed, or a language has no conversation.
    """
    counts = {kind: stage.demo.get(kind, 0) for kind in KINDS if config.with_safety or kind not in REFUSAL_KINDS}
    if split == "validation":
        counts = {kind: min(count, config.validation_conversations) for kind, count in counts.items()}
    data: dict[str, list[Conversation]] = {language: [] for language in world.languages}
    for language in world.spoken:
        data[language] = [
            from_dialogue(dialogue)
            for kind, count in counts.items()
            for dialogue in world.dialogues(language, kind, split, count)
        ]
    for conversation in _from_sources(config, stage, world, split):
        if config.with_safety or conversation.kind not in REFUSAL_KINDS:
            data[conversation.language].append(conversation)
    empty = [language for language, conversations in data.items() if not conversations]
    if empty:
        raise DataError(f"a stage of SFT has no conversation in {', '.join(empty)}: add demo kinds, files, pairs or datasets")
    return data


def all_conversations(config: SftConfig, world: World) -> list[Conversation]:
    """Return what both stages teach, the safety data included: what review sheets speak of."""
    complete = replace(config, with_safety=True)
    return [one for stage in config.stages for some in build_stage_data(complete, stage, world).values() for one in some]


def _from_sources(config: SftConfig, stage: StageConfig, world: World, split: Split) -> Iterator[Conversation]:
    for source in stage.sources:
        code = taught_language(source)
        _check_language(code, world)
        if code not in world.spoken:
            some = (one for one in read_source(source, Path(config.root or ".")) if _split_of(one) == split)
            yield from islice(some, config.validation_conversations if split == "validation" else None)
        elif split == "train":
            yield from read_source(source, Path(config.root or "."))


def _split_of(conversation: Conversation) -> Split:
    """Return the split of a conversation: a stable hash of what is asked decides, so that none is in both."""
    asked = "\n".join(message.content for message in conversation.messages[:-1])
    return split_of(0, asked, {"train": 0.9, "validation": 0.1})


def _check_language(code: str, world: World) -> None:
    if code not in world.languages:
        raise ConfigError("sft", f"a source is in {code!r}, the experiment has {', '.join(world.languages)}")
