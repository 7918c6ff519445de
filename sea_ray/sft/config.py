"""What fine-tuning is taught in its two stages: first broad, then the part of high quality (arXiv 2407.19672, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sea_ray.artifacts import NOT_IDENTITY
from sea_ray.demo import KINDS
from sea_ray.errors import ConfigError, nearest
from sea_ray.sft.files import FileSource, PairSource

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


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """The data of one stage."""

    demo: Mapping[str, int] = field(default_factory=dict)
    """Kind of dialogue of the demo world -> conversations per language; 0 = none."""
    files: tuple[FileSource, ...] = ()
    """Files of conversations."""
    pairs: tuple[PairSource, ...] = ()
    """Parallel text for translation requests."""

    def __post_init__(self) -> None:
        """Check kinds and counts."""
        for kind, count in self.demo.items():
            if kind not in KINDS:
                raise ConfigError(f"demo.{kind}", f"unknown kind of dialogue{nearest(kind, KINDS)}")
            if count < 0:
                raise ConfigError(f"demo.{kind}", f"{count} conversations; 0 or more are needed")


@dataclass(frozen=True, kw_only=True)
class SftConfig:
    """What fine-tuning is taught, in two stages."""

    broad: StageConfig = StageConfig(demo=_BROAD)
    """Stage 1: helpful conversations of every kind."""
    high_quality: StageConfig = StageConfig(demo=_HIGH_QUALITY)
    """Stage 2: the part that is checked or native, and when to refuse."""
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
    """Folder that the paths of files and pairs are below; None = the working folder."""

    def __post_init__(self) -> None:
        """Check the range."""
        if self.review_per_kind < 1:
            raise ConfigError("review_per_kind", f"{self.review_per_kind} is nothing to review; at least 1 is needed")
        if self.require_review and not self.reviews:
            raise ConfigError("require_review", "there are no reviews; name sheets in reviews, `sea-ray review` writes them")
        if self.validation_conversations < 1:
            raise ConfigError("validation_conversations", f"{self.validation_conversations} judge nothing; at least 1 is needed")

    @property
    def stages(self) -> tuple[StageConfig, StageConfig]:
        """Both stages, in order."""
        return self.broad, self.high_quality
