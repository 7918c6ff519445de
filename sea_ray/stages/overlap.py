"""Items of benchmarks that stand in what a checkpoint was trained on, found by the records beside it in its store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sea_ray.artifacts import RECORD, read_json
from sea_ray.corpus.documents import Documents
from sea_ray.corpus.tokenized import TokenizedCorpus
from sea_ray.evaluation.contamination import Contamination, HeldOutText
from sea_ray.training.sequences import SequenceSet


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """An item of a benchmark in a row of the training data."""

    benchmark: str
    language: str
    item: int
    """Place of the item among its benchmark's in the language, from 0."""
    file: str
    """Below the store's artifacts/: a file of documents, or a folder of packed conversations."""
    row: int
    """Of the document in its file, or of the conversation among those of its folder, from 1."""
    passage: str
    """What both share: letters, vowel signs and digits."""

    def __str__(self) -> str:
        return f"{self.benchmark}/{self.language} item {self.item} stands in {self.file} row {self.row}: {self.passage[:60]!r}"


class TrainingData:
    """What a checkpoint of a store was trained on, as far as records say."""

    def __init__(self, place: str) -> None:
        """Args: place: folder of the checkpoint; of one that no run made, or that lies elsewhere, nothing is known."""
        self.unknown: list[str] = []
        """In words: what it was trained on that can't be looked into here."""
        folder = Path(place).expanduser().resolve()
        self._artifacts = folder.parent.parent
        self._records: dict[str, dict[str, Any]] = {}
        if (folder / RECORD).exists():
            self._follow(read_json(folder / RECORD))
        else:
            self.unknown.append(f"all, since {place} has no record of how it was made")

    def _follow(self, record: dict[str, Any]) -> None:
        self._records[record["fingerprint"]] = record
        if record["kind"] == "base" and any(name.startswith("checkpoint") for name in record["inputs"]):
            self.unknown.append("what the base checkpoint was trained on before")
        for role, parent in record["parents"].items():
            if parent in self._records:
                continue
            found = next(self._artifacts.glob(f"*/{parent}/{RECORD}"), None)
            if found is None:
                self.unknown.append(f"{role} {parent}, which is not in {self._artifacts}")
            else:
                self._follow(read_json(found))

    @property
    def fingerprints(self) -> list[str]:
        """What was looked into, for the identity of what is found."""
        return sorted(fingerprint for kind in ("corpus", "conversations", "sft") for fingerprint in self._of(kind))

    def texts(self) -> Iterator[tuple[str, int, str]]:
        """Yield file, row and text of all documents and conversations."""
        for fingerprint in self._of("corpus"):
            documents = Documents.load(self._artifacts / "corpus" / fingerprint / "documents")
            for code in documents.languages:
                place = documents.file(code, "train").relative_to(self._artifacts).as_posix()
                yield from ((place, row, text) for row, text in enumerate(documents.texts(code, "train"), 1))
        for fine_tuning in self._of("sft").values():
            yield from self._conversations(fine_tuning["parents"], fine_tuning["config"]["stage"])

    def _conversations(self, parents: Mapping[str, str], stage: str) -> Iterator[tuple[str, int, str]]:
        tokenizer = TokenizedCorpus.load(self._artifacts / "corpus" / parents["corpus"] / "tokens").load_tokenizer()
        for file in sorted((self._artifacts / "conversations" / parents["conversations"] / stage).rglob("input_ids_ST.npy")):
            place, packed, row = file.parent.relative_to(self._artifacts).as_posix(), SequenceSet.load(file.parent), 0
            for ids_T, segments_T in zip(packed.input_ids_ST, packed.segment_ids_ST, strict=True):
                borders = np.flatnonzero(np.diff(segments_T)) + 1
                for ids in np.split(ids_T, borders)[:int(segments_T.max())]:
                    row += 1
                    yield place, row, tokenizer.decode(ids, skip_special_tokens=True)

    def _of(self, kind: str) -> dict[str, dict[str, Any]]:
        return {fingerprint: record for fingerprint, record in self._records.items() if record["kind"] == kind}


def find_overlaps(training: TrainingData, held_out: Iterable[HeldOutText]) -> list[Overlap]:
    """Return where items of benchmarks stand in training data: for each row every item that it repeats.

    Args:
        training: of the model that is evaluated; read in all its languages.
        held_out: texts of the items.
    """
    items = Contamination(held_out)
    found: dict[tuple[str, int, str, str, int], Overlap] = {}
    for file, row, text in training.texts():
        for one, passage in items.find_all(text):
            key = file, row, one.benchmark, one.language, one.item
            found.setdefault(key, Overlap(benchmark=one.benchmark, language=one.language, item=one.item, file=file, row=row,
                                          passage=passage))
    return list(found.values())
