"""What the pages of studies show: plain numbers and text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sea_ray.report.data import Cost, StageRow


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure, or the difference of two, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, kw_only=True)
class StudyHead:
    """What every study's page says of the study itself."""

    name: str
    made_at: str
    answer: tuple[str, ...]
    """Sentences that the figures bear."""
    command: str
    """That carries it out."""
    config: str
    """Of the experiment, YAML."""
    versions: Mapping[str, str]
    """Library -> version."""
    stages: tuple[StageRow, ...]
    cost: Cost | None


@dataclass(frozen=True, kw_only=True)
class ArmRow:
    """What an arm did, over all seeds: relative changes of bits per byte, below 0 is better."""

    name: str
    title: str
    rate: float
    """That it chose."""
    taught: Estimate
    """Mean over the languages that were taught."""
    english: Estimate
    chinese: Estimate | None
    """None: it is not among the corpus' languages."""
    untaught: Estimate | None
    """Mean over the other SEA languages; None: there are none."""
    difference: Estimate | None
    """Taught languages, this arm minus the reference; None for that itself."""
    by_language: Mapping[str, Estimate]
    """Language -> change."""
    trained_values: int
    """Of one training; of neurons, of all languages' together."""
    state_bytes: int
    """Gradients and optimiser states of one worker."""
    sent_bytes: int
    """That the workers exchange in a step."""
    step_s: float
    """Of a step, as it was timed in this run."""
    steps: int
    """Of all languages."""


@dataclass(frozen=True, kw_only=True)
class RateRow:
    """An arm with one rate, on the validation text."""

    arm: str
    rate: float
    gain: float | None
    """Relative fall over the languages taught then; None: it failed."""
    cost: float | None
    """Largest rise of English and Chinese."""
    chosen: bool
    error: str


@dataclass(frozen=True, kw_only=True)
class Interference:
    """One arm taught one language at a time, measured on all."""

    arm: str
    title: str
    changes: Mapping[str, Mapping[str, float]]
    """Taught language -> measured language -> relative change."""
    together: Mapping[str, float]
    """Measured language -> change when all were taught at once, the mean over the seeds."""
    own: Estimate
    """Mean change of each language's own text under the model that was taught it; of one seed, so draws of documents alone are in
    the interval."""
    own_together: Estimate
    """Mean change of the same languages when all were taught at once."""
    difference: Estimate
    """How much the former differs."""
    against_reference: Estimate | None
    """How much it differs from the reference's; None of the reference, or where that was not taught so."""
    english: Estimate
    """Mean change of English under the models that were taught one language."""
    english_together: Estimate


@dataclass(frozen=True, kw_only=True)
class NeuronStudyData(StudyHead):
    """All of the study of neurons."""

    reference: str
    max_cost: float
    languages: tuple[str, ...]
    rate_languages: tuple[str, ...]
    seeds: int
    documents: Mapping[str, int]
    """Language -> test documents behind its figures."""
    tokens: int
    """That each arm was trained on, with each seed."""
    arms: tuple[ArmRow, ...]
    rates: tuple[RateRow, ...]
    interference: tuple[Interference, ...]
    left_out: Mapping[str, str]
    """Arm that was not run -> why."""


@dataclass(frozen=True, kw_only=True)
class TuningArmRow:
    """What an arm did, over all seeds."""

    name: str
    title: str
    sea: Mapping[str, Estimate]
    """Measure -> mean over the SEA languages."""
    kept: Mapping[str, Estimate]
    """Measure -> mean over English and Chinese."""
    sea_difference: Mapping[str, Estimate]
    """Measure -> this arm minus the reference; empty for that itself."""
    kept_difference: Mapping[str, Estimate]
    """The same in English and Chinese."""
    by_language: Mapping[str, Mapping[str, Estimate]]
    """Measure -> language -> figure."""
    chance_of_best: float | None
    """Share of draws from all arms' intervals in which this one is recommended; None: nothing is."""
    on_front: bool
    """Whether no other arm is better both in SEA and in English and Chinese, by the measure of the recommendation."""


@dataclass(frozen=True, kw_only=True)
class MeasureRow:
    """What is compared."""

    name: str
    title: str
    figures: tuple[str, ...]
    higher_is_better: bool

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1, whatever it is measured on."""
        return not any(name.endswith("/bits_per_byte") for name in self.figures)

    def within(self, estimate: Estimate) -> Estimate:
        """Return an estimate of it with an interval that says no more than what it can be."""
        low, high = max(0.0, estimate.low), min(1.0, estimate.high) if self.is_share else estimate.high
        return Estimate(value=estimate.value, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class TuningStudyData(StudyHead):
    """All of a study of ways to fine-tune."""

    title: str
    question: str
    reference: str
    recommended: str | None
    """Arm; None: nothing is recommended."""
    recommend_by: str | None
    """Measure."""
    max_loss: float
    measures: tuple[MeasureRow, ...]
    arms: tuple[TuningArmRow, ...]
    others: tuple[TuningArmRow, ...]
    """Models beside the arms, one run each: intervals over the items, no differences, and only what they were asked."""
    before: Mapping[str, tuple[Estimate, Estimate]]
    """Measure -> SEA, English and Chinese of what every arm started from, where it was asked."""
    settings: Mapping[str, Mapping[str, object]]
    """Arm -> what is set in it."""
    seeds: int
    items: Mapping[str, int]
    """Measure -> items behind it in each language."""
    tokens: Mapping[str, int]
    """Arm -> tokens of one training."""
    shares: Mapping[str, Mapping[str, float]]
    """Arm -> language -> share of these tokens."""
    not_shown: tuple[str, ...]
