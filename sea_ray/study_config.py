"""The studies: their arms and how these are compared, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sea_ray.asking import EndpointConfig
from sea_ray.errors import ConfigError
from sea_ray.languages import HIGH_RESOURCE, language
from sea_ray.neurons.config import Method, SelectionConfig, SiteKind

CHAT_TASKS = ("arithmetic", "translation", "refusal", "safety")
"""Tasks of the evaluation that read one answer to one question."""


@dataclass(frozen=True, kw_only=True)
class ArmConfig:
    """One way to teach a base its languages; all arms see as many tokens."""

    title: str
    """In words, for the page."""
    trains: Literal["neurons", "all", "ffn_only", "embeddings", "lora"] = "neurons"
    """What moves: each language's own neurons, each language on its own, and the packs merged; or values that all languages
    share, all languages together."""
    method: Method = "plnd"
    """How neurons are chosen."""
    sites: tuple[SiteKind, ...] = ()
    """Kinds of sites that they are chosen from; none: the experiment's."""
    lora_rank: int = 0
    """Inner width of LoRA's adapters."""
    replay: float = 0.0
    """Share of the tokens that the high-resource languages get, as much each, in place of the languages'."""
    alone: bool = False
    """Whether each language is also taught to a base of its own, and measured on all: the matrix of interference."""
    rates: tuple[float, ...] = ()
    """Learning rates to choose from; none: the study's."""

    def __post_init__(self) -> None:
        """Check what goes together."""
        if (self.trains == "lora") != (self.lora_rank > 0):
            raise ConfigError("lora_rank", f"{self.lora_rank} does not go with trains={self.trains}: LoRA needs a rank above 0, "
                                           "and nothing else has one")
        if not 0 <= self.replay < 1:
            raise ConfigError("replay", f"{self.replay} must lie between 0 and 1; 0 is none")
        if self.replay and self.trains == "neurons":
            raise ConfigError("replay", "neurons are trained on their language's text alone; set it for an arm that trains all "
                                        "languages together")


    def selection(self, own: SelectionConfig, seed: int = 0) -> SelectionConfig:
        """Return how this arm's neurons are chosen.

        Args:
            own: how the experiment chooses them.
            seed: of random neurons.

        Raises:
            ConfigError: the method cannot choose from these sites.
        """
        return replace(own, method=self.method, sites=self.sites or own.sites, seed=seed)


@dataclass(frozen=True, kw_only=True)
class NeuronStudy:
    """Neurons against continued pre-training: which arms, on which languages, how often."""

    arms: Mapping[str, ArmConfig]
    """Name -> arm."""
    reference: str
    """Arm that the others are compared with, and by whose side the page sees them."""
    languages: tuple[str, ...] = ("th", "vi", "ta", "jv")
    """Languages that are taught."""
    rates: tuple[float, ...] = (5e-5, 2e-4, 5e-4, 2e-3)
    """Learning rates that each arm chooses from."""
    rate_languages: tuple[str, ...] = ("th", "jv")
    """Languages that are taught while rates are chosen."""
    rate_seed: int = 100
    """Of the order of the text then; none of `seeds`."""
    max_cost: float = 0.01
    """Most that bits per byte of English or Chinese may rise, as a share, for a rate to be chosen for the languages' gain; if
    every rate costs more, the cheapest is taken."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the order of the text in the runs that are compared."""
    alone_seed: int = 0
    """Of the runs of one language each."""
    arms_without: Mapping[str, str] = field(default_factory=dict)
    """Arm of the method's full list that is left out -> why; the page says so."""

    def __post_init__(self) -> None:
        """Check what goes together."""
        for code in (*self.languages, *self.rate_languages):
            language(code, "languages")
            if code in HIGH_RESOURCE:
                raise ConfigError("languages", f"{code!r} is what must not suffer; teach others")
        if not set(self.rate_languages) <= set(self.languages) or not self.rate_languages:
            raise ConfigError("rate_languages", f"{', '.join(self.rate_languages) or 'none'}: name some of "
                                                f"{', '.join(self.languages)}")
        if self.reference not in self.arms:
            raise ConfigError("reference", f"there is no arm {self.reference!r}; the arms are {', '.join(self.arms)}")
        if len(set(self.seeds)) < 3:
            raise ConfigError("seeds", f"{len(set(self.seeds))} seeds say nothing of chance: give three or more")
        if self.rate_seed in self.seeds:
            raise ConfigError("rate_seed", f"{self.rate_seed} is among the seeds that are compared; the rates would be chosen on "
                                           "what they are judged by")
        for name in self.arms:
            if not all(rate > 0 for rate in self.rates_of(name)) or not self.rates_of(name):
                raise ConfigError(f"arms.{name}.rates", "give rates above 0, here or for all arms")

    def rates_of(self, arm: str) -> tuple[float, ...]:
        """Return the learning rates that an arm chooses from."""
        return self.arms[arm].rates or self.rates


@dataclass(frozen=True, kw_only=True)
class TuningArm:
    """One way to fine-tune."""

    title: str
    """In words, for the page."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Dotted path of the experiment -> value in this arm."""


@dataclass(frozen=True, kw_only=True)
class OtherModel:
    """A model of somebody else, asked what the arms are asked: a checkpoint, or whatever answers at an endpoint."""

    title: str
    """In words, for the page."""
    checkpoint: str | None = None
    """Hub id or folder of a model that chats."""
    revision: str | None = None
    """Commit, tag or branch of the Hub id."""
    endpoint: EndpointConfig | None = None
    """OpenAI-compatible. One question, one answer: tasks that score log-probabilities or talk for longer are left out. Its
    answers are as long as `evaluation.max_new_tokens` allows, as everybody's are."""

    def __post_init__(self) -> None:
        """Check that it is one of both."""
        if (self.checkpoint is None) == (self.endpoint is None):
            raise ConfigError("", "name either a checkpoint, a folder or Hub id, or an endpoint, {url: URL, model: NAME}")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What of the figures is compared."""

    title: str
    """In words, for the page."""
    figures: tuple[str, ...]
    """Figures that are averaged, each as task/metric; chrF counts as a share of 100."""
    higher_is_better: bool = True
    """Which way is up."""


@dataclass(frozen=True, kw_only=True)
class TuningStudy:
    """Ways to fine-tune, each with several seeds, compared by what the models then do."""

    title: str
    """Of the page."""
    question: str
    """What is asked, in words."""
    arms: Mapping[str, TuningArm]
    """Name -> arm."""
    reference: str
    """Arm that the others are compared with."""
    stages: tuple[Literal["broad", "high_quality"], ...]
    """Stages of fine-tuning, one or both; arms and seeds differ in the last one, what comes before it is the same for all."""
    tasks: tuple[str, ...]
    """Tasks of the evaluation."""
    measures: Mapping[str, Measure]
    """Name -> measure; each over the SEA languages, and over English and Chinese."""
    recommend_by: str | None = None
    """Measure of which the arm with the best SEA mean is recommended, among those that lose no more than `max_loss` of it
    in English and Chinese against the reference; null: nothing is recommended."""
    max_loss: float = 0.02
    """Most that English and Chinese may lose of that measure, in its unit."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the order of the conversations."""
    others: Mapping[str, OtherModel] = field(default_factory=dict)
    """Name -> model that stands beside the arms on the page, as it is: it has no seeds, so its intervals are of the items."""
    not_shown: tuple[str, ...] = ()
    """Sentences on what the study does not show."""

    def __post_init__(self) -> None:
        """Check what goes together."""
        if self.reference not in self.arms:
            raise ConfigError("reference", f"there is no arm {self.reference!r}; the arms are {', '.join(self.arms)}")
        if len(set(self.seeds)) < 3:
            raise ConfigError("seeds", f"{len(set(self.seeds))} seeds say nothing of chance: give three or more")
        if self.stages not in (("broad",), ("high_quality",), ("broad", "high_quality")):
            raise ConfigError("stages", f"{', '.join(self.stages) or 'none'}: name broad, high_quality or both in this order")
        if self.recommend_by is not None and self.recommend_by not in self.measures:
            raise ConfigError("recommend_by", f"there is no measure {self.recommend_by!r}; there are {', '.join(self.measures)}")
        for name in self.others:
            if name in self.arms:
                raise ConfigError(f"others.{name}", "an arm has this name; give the other model another")
            if self.others[name].endpoint and not self.chat_tasks:
                raise ConfigError(f"others.{name}", f"{', '.join(self.tasks)} need more than an answer to a question, and an "
                                                    f"endpoint gives no more; add some of {', '.join(CHAT_TASKS)} to tasks")

    @property
    def chat_tasks(self) -> tuple[str, ...]:
        """Tasks that an endpoint can be asked."""
        return tuple(task for task in self.tasks if task in CHAT_TASKS)


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """What is studied in place of the whole method; exactly one."""

    neurons: NeuronStudy | None = None
    """Neurons against continued pre-training."""
    tuning: TuningStudy | None = None
    """Ways to fine-tune: language mixes, or what is taught about refusing."""

    def __post_init__(self) -> None:
        """Check that there is one."""
        if sum(value is not None for value in vars(self).values()) != 1:
            raise ConfigError("", "one study at a time, and not none: choose study=NAME, a file of conf/study")
