"""What fine-tuning is taught in its two stages: first broad, then the part of high quality (arXiv 2407.19672, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sea_ray.artifacts import NOT_IDENTITY
from sea_ray.demo import KINDS
from sea_ray.errors import ConfigError, nearest
from sea_ray.sft.sources import DatasetSource, FileSource, PairSource, Source, taught_language

_BROAD = {"translate": 240, "fact": 360, "list": 60, "arithmetic": 240, "exam": 240}
_HIGH_QUALITY = {
    "fact": 400,
    "list": 10,
    "arithmetic": 30,
    "exam": 20,
    "unanswerable": 260,
    "unsafe_general": 90,
    "safe_general": 90,
    "unsafe_culture": 40,
    "safe_culture": 40,
}
STAGES: tuple[Literal["broad", "high_quality"], ...] = ("broad", "high_quality")
"""Names of the stages, in order."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """The data of one stage."""

    demo: Mapping[str, int] = field(default_factory=dict)
    """Kind of dialogue of the demo world -> conversations per language; 0 = none."""
    files: tuple[FileSource, ...] = ()
    """Files of conversations."""
    pairs: tuple[PairSource, ...] = ()
    """Parallel text for translation requests."""
    datasets: tuple[DatasetSource, ...] = ()
    """Hugging Face datasets of conversations or parallel text."""

    def __post_init__(self) -> None:
        """Check kinds and counts."""
        for kind, count in self.demo.items():
            if kind not in KINDS:
                raise ConfigError(f"demo.{kind}", f"unknown kind of dialogue{nearest(kind, KINDS)}")
            if count < 0:
                raise ConfigError(f"demo.{kind}", f"{count} conversations; 0 or more are needed")

    @property
    def sources(self) -> tuple[Source, ...]:
        """All that is not the demo world, in the order in which it is read."""
        return (*self.files, *self.pairs, *self.datasets)


@dataclass(frozen=True, kw_only=True)
class SftProvenance:
    """Where some conversations are from."""

    stage: Literal["broad", "high_quality"]
    """Stage that teaches them."""
    language: str
    """Whose data they are."""
    name: str
    """File, files or dataset."""
    licence: str
    """"" if nobody said."""
    origin: str
    """Where they were got from; "" if nobody said."""


@dataclass(frozen=True, kw_only=True)
class SftConfig:
    """What fine-tuning is taught, in two stages."""

    broad: StageConfig = StageConfig(demo=_BROAD)
    """Stage 1: helpful conversations of every kind."""
    high_quality: StageConfig = StageConfig(demo=_HIGH_QUALITY)
    """Stage 2: the part that is checked or native, and when to refuse."""
    kind_shares: Mapping[str, float] = field(default_factory=dict)
    """Kind of conversation -> share of each language's conversations that it makes up in the tokens of both stages, in place of
    as much as there is; what is left goes to all other kinds. A language without the kind gives its share to the others."""
    with_safety: bool = True
    """False leaves out the kinds that are answered by a refusal: the baseline without safety."""
    validation_conversations: int = 40
    """Held-out conversations per language and kind that a mix is judged by, at most; finite kinds give fewer."""
    reviews: tuple[str, ...] = field(default=(), metadata=NOT_IDENTITY)
    """Sheets that native speakers filled in; their content is part of the result's identity, their place is not."""
    require_review: bool = False
    """Teach only conversations that a reviewer accepted or fixed; else only what one rejected is left out."""
    review_per_kind: int = field(default=20, metadata=NOT_IDENTITY)
    """Conversations of each language and kind that `sea-ray review` writes into sheets."""
    root: str | None = field(default=None, metadata=NOT_IDENTITY)
    """Folder that the paths of files, pairs and local datasets are below; None = the working folder."""

    def __post_init__(self) -> None:
        """Check the range."""
        if self.review_per_kind < 1:
            raise ConfigError("review_per_kind", f"{self.review_per_kind} is nothing to review; at least 1 is needed")
        if self.require_review and not self.reviews:
            raise ConfigError("require_review", "there are no reviews; name sheets in reviews, `sea-ray review` writes them")
        for kind, share in self.kind_shares.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"kind_shares.{kind}", f"{share} is not a share in 0..1")
        if sum(self.kind_shares.values()) > 1 + 1e-9:
            raise ConfigError("kind_shares", f"they sum to {sum(self.kind_shares.values()):g}; 1 is the most, as other kinds "
                                             "get the rest")
        if self.validation_conversations < 1:
            raise ConfigError("validation_conversations", f"{self.validation_conversations} judge nothing; at least 1 is needed")

    @property
    def stages(self) -> tuple[StageConfig, StageConfig]:
        """Both stages, in order."""
        return self.broad, self.high_quality

    def provenance(self, code: str) -> list[SftProvenance]:
        """Return where the conversations of a language are from, one entry per stage and source in order."""
        found = []
        for name, stage in zip(STAGES, self.stages, strict=True):
            if any(stage.demo.values()):
                found.append(SftProvenance(stage=name, language=code, name="demo world", licence="that of sea_ray",
                                           origin="sea_ray.demo"))
            found += [SftProvenance(stage=name, language=code, name=_name(source), licence=source.licence, origin=_origin(source))
                      for source in stage.sources if taught_language(source) == code]
        return found


def _name(source: Source) -> str:
    if isinstance(source, DatasetSource):
        return source.dataset
    return source.path if isinstance(source, FileSource) else ", ".join(source.paths)


def _origin(source: Source) -> str:
    if source.origin or not isinstance(source, DatasetSource):
        return source.origin
    return f"Hugging Face, {source.name or 'default'}@{source.revision or 'newest'}"
