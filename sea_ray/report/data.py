"""What the report shows: plain numbers and text that the pipeline reads from the records of its stages.

Every part may be empty. A part that was not run is named in `ReportData.missing` with its reason; the page then says so
in the part's own place instead of leaving it out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from sea_ray.errors import ConfigError, nearest

Part = Literal["findings", "figures", "bits", "gate", "examples", "sweeps", "neurons", "overlap", "interference",
               "trainings", "corpus", "stages"]
PARTS: tuple[Part, ...] = get_args(Part)
Unit = Literal["share", "score", "bits"]
"""share: 0 to 1, shown in per cent; score: shown as it is (chrF 0-100); bits: per byte, three decimals."""


@dataclass(frozen=True, kw_only=True)
class FigureRow:
    """One measured figure of one model in one language."""

    model: str
    """Such as "base", "neuron-trained", "SFT", "winner"; the page keeps the order of first occurrence."""
    task: str
    """What the model was asked to do, such as "exam"."""
    metric: str
    """How it was read, such as "accuracy"."""
    language: str
    """Code, such as "th"."""
    value: float
    n: int
    """Items that the figure is read from."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end."""
    higher_is_better: bool = True
    unit: Unit = "share"


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What a figure must beat to mean something."""

    task: str
    metric: str
    label: str
    """Such as "always refusing" or "guessing"."""
    value: float
    """In the unit of the task's figures."""


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One model's figures that others have published: shown beside measured ones, in no mean and no picture."""

    task: str
    metric: str
    model: str
    values: Mapping[str, float]
    """Language -> value, in the unit of the task's figures."""
    average: float | None
    """The source's own, over its own languages."""
    source: str
    """Where it stands, and how it was measured as far as that is said."""


@dataclass(frozen=True, kw_only=True)
class BitsRow:
    """Bits per byte of held-out text in one language before and after one arm's training."""

    arm: str
    """Such as "merged neurons", "random neurons", "full training"; the first arm is the method, the others controls."""
    language: str
    before: float
    """Of the base."""
    after: float
    change_low: float
    """Lower end of the 95 % interval of after / before - 1."""
    change_high: float
    """Upper end."""
    n: int
    """Documents."""

    @property
    def change(self) -> float:
        """Relative change: -0.1 is 10 % fewer bits; NaN of a base without bits."""
        return self.after / self.before - 1.0 if self.before else math.nan


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What a winner must keep."""

    figure: str
    value: float
    kind: Literal["at most", "at least"] = "at most"

    def keeps(self, value: float) -> bool:
        """Return whether a value is within the limit; NaN is not."""
        return value <= self.value if self.kind == "at most" else value >= self.value


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The verdict on whether the winner may be served."""

    passed: bool
    reasons: tuple[str, ...] = ()
    """Sentences; why it failed, or what it rests on."""
    limits: tuple[Limit, ...] = ()
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Language -> figure of a limit -> value that was read."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One prompt with what each model answers."""

    language: str
    kind: str
    """Such as "translate" or "unanswerable"."""
    prompt: str
    reference: str
    """The expected answer; "" if there is none."""
    answers: Mapping[str, str]
    """Model -> answer."""
    right: Mapping[str, bool] = field(default_factory=dict)
    """Model -> whether its answer counts as right; only of what is either right or wrong."""


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One trial of a sweep."""

    point: Mapping[str, object]
    """Dotted config path -> value."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Reported figures; empty if it did not finish."""
    error: str | None = None
    """Why it did not finish."""
    outcome: str = "finished"
    """finished, pruned at a rung, stopped with the budget, or failed."""
    repetition: int = 0
    """Number among the trainings of the same point, from 0."""
    reused: bool = False
    is_winner: bool = False
    """Whether its point won."""
    on_front: bool = False
    """Whether no other point beats its point in all objectives."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Of a sweep over mixes: source -> share of tokens, in 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep and how its winner was chosen."""

    name: str
    """Such as "thresholds of the neurons"."""
    objectives: Mapping[str, Literal["max", "min"]]
    """Key of `TrialRow.figures` -> whether more or less of it is better; the first decides."""
    trials: tuple[TrialRow, ...]
    limits: tuple[Limit, ...] = ()
    """The second objective, or without one the first limit, is the picture's horizontal axis."""
    reason: str = ""
    """Why the winner won, one sentence."""
    note: str = ""
    """What each trial did, and on which data it was read."""

    @property
    def metric(self) -> str:
        """The figure that decides."""
        return next(iter(self.objectives))


@dataclass(frozen=True, kw_only=True)
class NeuronMap:
    """Selected neurons of one language at one kind of site."""

    language: str
    site: str
    """Such as "ffn"."""
    counts: tuple[int, ...]
    """Selected neurons per layer, first layer first."""
    per_layer: int
    """Neurons that a layer has at this site."""


@dataclass(frozen=True, kw_only=True)
class NeuronRow:
    """All selected neurons of one language."""

    language: str
    neurons: int
    parameter_share: float
    """Their parameters over all of the model's, in 0 to 1."""
    stability: float | None = None
    """Jaccard index of the sets from two halves of the text, in 0 to 1; None: not read."""


@dataclass(frozen=True, kw_only=True)
class LanguageMatrix:
    """A figure for each pair of languages."""

    name: str
    """Such as "Neurons that two packs share"."""
    languages: tuple[str, ...]
    """Order of rows and columns."""
    values: tuple[tuple[float | None, ...], ...]
    """None: not defined for the pair."""
    kind: Literal["share", "count", "cosine"]
    """share: 0 to 1; count: from 0; cosine: -1 to 1, coloured on both sides of 0."""
    note: str = ""
    """How to read it."""

    def __post_init__(self) -> None:
        size = len(self.languages)
        if len(self.values) != size or any(len(row) != size for row in self.values):
            found = f"{len(self.values)} rows of {sorted({len(row) for row in self.values})} values"
            raise ConfigError("values", f"{found} for {size} languages; give one row and one column per language")


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training run."""

    name: str
    """Such as "base" or "neurons th"."""
    losses: tuple[tuple[int, float], ...]
    """(step, mean token loss in nats), thinned to at most some hundred points."""
    steps: int
    tokens: int
    """Loss targets seen."""
    seconds: float
    trained_values: int = 0
    """Values that trained."""
    total_values: int = 0
    """Values of the model."""
    engine: str = ""
    """Such as "deepspeed 0.19.8 ZeRO-1, 2 workers"."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Source -> share of the samples really drawn."""
    held_out: tuple[tuple[int, float], ...] = ()
    """(step, mean token loss on held-out text in nats), where it was looked at."""


@dataclass(frozen=True, kw_only=True)
class CorpusRow:
    """Text of one language in one split."""

    language: str
    split: str
    documents: int
    bytes: int
    """UTF-8."""
    tokens: int


@dataclass(frozen=True, kw_only=True)
class FunnelRow:
    """What one step of cleaning did to one language."""

    language: str
    step: str
    documents_in: int
    documents_out: int
    bytes_in: int
    """UTF-8, before the step."""
    bytes_out: int
    documents_changed: int = 0
    """Documents that go on with another text."""


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """Where some training data are from."""

    use: str
    """"corpus", or the stage of fine-tuning."""
    language: str
    name: str
    """Files or dataset."""
    licence: str
    """"": nobody said."""
    origin: str
    """"": nobody said."""
    documents: int | None = None
    """What it gave; None: not counted."""
    bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """One stage of the pipeline."""

    name: str
    kind: str
    seconds: float
    """Of the run that made the result, also where the result was reused."""
    reused: bool
    engine: str = ""
    """What computed it: engine, version, workers."""
    peak_memory_bytes: int = 0
    """0: not read."""
    fingerprint: str = ""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What this run took."""

    wall_s: float
    peak_memory_bytes: int
    """Of all processes together; 0: not read."""
    tokens_trained: int
    machine: str = ""
    """In words, such as "2 CPU cores, no GPU"."""
    usd: float | None = None
    """None: no prices were given, or nothing was paid for."""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All that the page shows."""

    experiment: str
    """Name of the experiment."""
    made_at: str
    """Date and time, as it shall read."""
    title: str = "sea_ray experiment"
    question: str = ""
    """What was asked, one or two sentences."""
    ran: str = ""
    """What was run, one or two sentences."""
    command: str = ""
    """Repeats the run."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Software -> version."""
    config: str = ""
    """The whole configuration as YAML."""
    winner: str = ""
    """Model that won, one of the figures' models; the sweeps say with which settings and why."""
    headline: tuple[tuple[str, str], ...] = ()
    """(task, metric) pairs that get a tile at the top."""
    found: tuple[str, ...] = ()
    """Sentences: what the figures show."""
    not_found: tuple[str, ...] = ()
    """Sentences: effects that were looked for and are absent."""
    not_shown: tuple[str, ...] = ()
    """Sentences: what this run cannot show."""
    figures: tuple[FigureRow, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    published: tuple[PublishedRow, ...] = ()
    """Those of tasks and metrics that are measured are shown."""
    bits: tuple[BitsRow, ...] = ()
    gate: Gate | None = None
    examples: tuple[Example, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    neuron_rows: tuple[NeuronRow, ...] = ()
    neuron_maps: tuple[NeuronMap, ...] = ()
    overlap: LanguageMatrix | None = None
    interference: tuple[LanguageMatrix, ...] = ()
    trainings: tuple[Training, ...] = ()
    corpus: tuple[CorpusRow, ...] = ()
    funnel: tuple[FunnelRow, ...] = ()
    sources: tuple[SourceRow, ...] = ()
    stages: tuple[StageRow, ...] = ()
    cost: Cost | None = None
    missing: Mapping[Part, str] = field(default_factory=dict)
    """Part that was not run -> reason, a sentence or ""."""
    notes: Mapping[Part, str] = field(default_factory=dict)
    """Part -> a sentence under its heading, such as which split and how many tokens."""

    def __post_init__(self) -> None:
        for name in ("missing", "notes"):
            for part in getattr(self, name):
                if part not in PARTS:
                    raise ConfigError(name, f"unknown part {part!r} of the report{nearest(part, PARTS)}")

    def has(self, part: Part) -> bool:
        """Return whether there is something to show of a part."""
        if part == "findings":
            return bool(self.found or self.not_found or self.not_shown)
        if part == "neurons":
            return bool(self.neuron_rows or self.neuron_maps)
        if part == "corpus":
            return bool(self.corpus or self.funnel or self.sources)
        if part == "stages":
            return bool(self.stages or self.cost)
        return bool(getattr(self, part))
