"""The experiment: the rooms' configs together, and the checks that span several of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal, get_args
from urllib.parse import urlsplit

from sea_ray.artifacts import NOT_IDENTITY
from sea_ray.cluster import BudgetConfig, ClusterConfig
from sea_ray.corpus.config import CorpusConfig, NewPieces, TokenizerConfig
from sea_ray.errors import ConfigError, nearest
from sea_ray.evaluation.benchmarks import BenchmarkConfig
from sea_ray.evaluation.config import EvaluationConfig
from sea_ray.languages import ADDED, HIGH_RESOURCE, SEA_LANGUAGES, language
from sea_ray.neurons.config import DetectionConfig, NeuronControl, SelectionConfig
from sea_ray.objective import SweepConfig
from sea_ray.safety.gate import SafetyConfig
from sea_ray.serving.config import ServingConfig
from sea_ray.sft.config import STAGES, SftConfig
from sea_ray.sft.sources import taught_language
from sea_ray.sft.teacher import TeacherConfig
from sea_ray.stages.configs import NEURON_FIGURES, SFT_FIGURES
from sea_ray.study_config import StudyConfig
from sea_ray.training.config import MixRule, ModelConfig, PolicyControl, TrainConfig, TrainPolicy


@dataclass(frozen=True, kw_only=True)
class VocabularyExtension:
    """New pieces for languages that a checkpoint's tokenizer shreds, and the training of their embeddings."""

    pieces: NewPieces
    """Whose, and how many."""
    training: TrainConfig
    """Of the pieces' rows in the input and output embeddings; nothing else of the checkpoint moves."""
    rehearsal: Mapping[str, float] = field(default_factory=lambda: {"en": 0.2})
    """Language -> share of the training tokens in which no new piece is right, so that they take no probability from old
    ones; the pieces' languages share the rest alike."""

    def __post_init__(self) -> None:
        for code, share in self.rehearsal.items():
            language(code, "rehearsal")
            if code in self.pieces.languages:
                raise ConfigError(f"rehearsal.{code}", "this language gets pieces and has its share by that; leave it out here")
            if not share > 0:
                raise ConfigError(f"rehearsal.{code}", f"{share} is not above 0; leave out what is not rehearsed")
        if sum(self.rehearsal.values()) >= 1:
            raise ConfigError("rehearsal", f"shares sum to {sum(self.rehearsal.values()):g} and leave nothing for the pieces' "
                                           "languages; stay below 1")

    def weights(self) -> dict[str, float]:
        """Return language -> share of the training tokens."""
        rest = (1 - sum(self.rehearsal.values())) / len(self.pieces.languages)
        return dict.fromkeys(self.pieces.languages, rest) | dict(self.rehearsal)


@dataclass(frozen=True, kw_only=True)
class BaseModelConfig:
    """Where the base model comes from."""

    checkpoint: str | None = None
    """Hub id or local folder of a Qwen2, Qwen3, Llama or Mistral model; null trains a small Qwen2 from scratch on the corpus."""
    revision: str | None = None
    """Commit of the Hub id; null is the newest, which is not repeatable."""
    shape: ModelConfig = field(default_factory=ModelConfig)
    """Shape of the model that is trained from scratch."""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    """Tokenizer that is trained from scratch; a checkpoint brings its own."""
    extension: VocabularyExtension | None = None
    """New pieces for a checkpoint's tokenizer; null leaves it as it is."""

    def __post_init__(self) -> None:
        if self.extension is not None and self.checkpoint is None:
            raise ConfigError("extension", "a tokenizer that is trained from scratch learns pieces of every language; name a "
                                           "checkpoint, which brings its own, or set extension=null")


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    """How the base is trained from scratch."""

    schedule: TrainConfig
    """Steps, batch and rate."""
    high_resource_share: float = 0.3
    """Share of the training tokens that the high-resource languages get together, as much each; the others share the rest."""
    max_epochs: float | None = None
    """Most passes over one language's text; null for no limit."""
    annealing: TrainConfig | None = None
    """A second part on English and Chinese alone, as public bases end on high-resource text; it leaves the other languages
    known but suppressed. null: none."""

    def __post_init__(self) -> None:
        if not 0 < self.high_resource_share < 1:
            raise ConfigError("high_resource_share", f"{self.high_resource_share} must lie between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class NeuronConfig:
    """Finding, training and merging the language-specific neurons."""

    languages: tuple[str, ...] = SEA_LANGUAGES
    """Languages whose neurons are trained, each on its own."""
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    training: TrainConfig
    """Of one language."""
    context_tokens: int = 6
    """First tokens of each document that are read but not trained on: they tell the language, and a pack that learns only
    that all text is in its language helps no sentence and harms every other language."""
    merge: Literal["add", "mean", "strongest", "refuse"] = "add"
    """What happens to a neuron that several packs change."""
    controls: tuple[NeuronControl | PolicyControl, ...] = ("random_matched", "continued_pretraining")
    """Arms trained beside the winner on the same tokens: other sets of neurons (random_matched, random, wrong_language,
    shared), or other values (continued_pretraining: all of them; ffn_only, embeddings, lora)."""
    control_rates: Mapping[str, float] = field(default_factory=lambda: {
        "continued_pretraining": 1e-4, "ffn_only": 1e-4, "embeddings": 1e-4, "lora": 2e-4})
    """Peak learning rate of each arm that trains other values; low where it is all of them, so that it forgets little."""
    lora_rank: int = 16
    """Inner width of the adapters of the arm "lora"."""

    def __post_init__(self) -> None:
        for code in self.languages:
            language(code)
        for control in self.policy_controls:
            if not self.control_rates.get(control, 0) > 0:
                raise ConfigError(f"control_rates.{control}", "this arm needs a learning rate above 0")
        if not self.languages:
            raise ConfigError("languages", "empty; name at least one language whose neurons are trained")
        for site in self.selection.sites:
            if site not in self.detection.sites:
                raise ConfigError("selection.sites", f"{site!r} is not measured; add it to detection.sites "
                                                     f"({', '.join(self.detection.sites)})")
        if self.selection.hit_frac and self.selection.hit_frac not in self.detection.top_fracs:
            raise ConfigError("selection.hit_frac", f"{self.selection.hit_frac:g} is not counted; add it to detection.top_fracs "
                                                    f"({', '.join(f'{frac:g}' for frac in self.detection.top_fracs)})")

    @property
    def neuron_controls(self) -> tuple[NeuronControl, ...]:
        """Controls that train other neurons."""
        known: tuple[NeuronControl, ...] = get_args(NeuronControl)
        return tuple(control for control in known if control in self.controls)

    @property
    def policy_controls(self) -> tuple[PolicyControl, ...]:
        """Controls that train other values."""
        known: tuple[PolicyControl, ...] = get_args(PolicyControl)
        return tuple(control for control in known if control in self.controls)


@dataclass(frozen=True, kw_only=True)
class SweepsConfig:
    """The two sweeps of an experiment."""

    neurons: SweepConfig
    """Over LSN thresholds; its winner is merged."""
    mixes: SweepConfig
    """Over SFT language mixes; its winner is deployed."""


@dataclass(frozen=True, kw_only=True)
class FineTuningConfig:
    """Two-stage supervised fine-tuning on a language mix."""

    data: SftConfig = field(default_factory=SftConfig)
    """What is taught in each stage."""
    broad: TrainConfig
    """Stage 1."""
    high_quality: TrainConfig
    """Stage 2."""
    policy: TrainPolicy = field(default_factory=TrainPolicy)
    """What trains in both stages: all, lora, ffn_only or embeddings."""
    mix: str
    """Name of the mix that is used; the sweep tries several."""
    mixes: Mapping[str, Mapping[str, float]]
    """Name -> language -> share of the training tokens; a language that is not named is not taught."""
    mix_rules: Mapping[str, MixRule] = field(default_factory=dict)
    """Name -> rule that makes a mix from how much there is of each language."""
    max_epochs: float | None = None
    """Most passes over one language's conversations; null for no limit."""
    text_share: float = 0.0
    """Share of both stages' tokens that is plain text of the corpus' train part, in the mix' shares of languages: what a model
    only answers with, it forgets to write."""
    generate: Literal["instructions", "swap", "stories"] = "instructions"
    """What `sea-ray generate` writes: instructions after those of the first stage; or, beside answerable questions, unanswerable
    ones about invented entities, by entity swap in `questions` or by a teacher's stories. No result depends on it, nor on
    `questions` and `teacher`, but by the files that come of it."""
    questions: Mapping[str, str] = field(default_factory=dict)
    """Language -> JSONL below data.root of answerable questions: question, answer, entity and kind (person, place,
    organisation, event or work)."""
    teacher: TeacherConfig | None = None
    """Whom `sea-ray generate` asks for instructions and stories."""

    def __post_init__(self) -> None:
        if not 0 <= self.text_share < 1:
            raise ConfigError("text_share", f"{self.text_share} must lie between 0 and 1; 0 is no plain text")
        if self.policy.kind == "neurons":
            raise ConfigError("policy.kind", "fine-tuning has no set of neurons to train; choose all, lora, ffn_only or "
                                             "embeddings")
        for name, weights in self.mixes.items():
            for code, weight in weights.items():
                language(code, f"mixes.{name}")
                if weight < 0:
                    raise ConfigError(f"mixes.{name}.{code}", f"{weight} is negative; a share is 0 or more")
            if sum(weights.values()) <= 0:
                raise ConfigError(f"mixes.{name}", "all shares are 0; give at least one language a share")
        for code in self.questions:
            language(code, "questions")
        for name in self.mix_rules:
            if name in self.mixes:
                raise ConfigError(f"mix_rules.{name}", "mixes has one of this name; give the rule another")
        if self.mix not in (known := {**self.mixes, **self.mix_rules}):
            raise ConfigError("mix", f"there is no mix {self.mix!r}{nearest(self.mix, known)}")


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """Where results live."""

    url: str = "runs"
    """Local folder or fsspec URL (s3://bucket/path); a cluster of several nodes needs one that all of them reach."""

    def __post_init__(self) -> None:
        if "@" in self.url.partition("://")[2].partition("/")[0]:
            raise ConfigError("url", "it holds a name or a key before the @, which would end in records and logs: take it out; "
                                     "stores find theirs in the environment, in their own files or in the node's role")


@dataclass(frozen=True, kw_only=True)
class EndingConfig:
    """What happens when a run has ended, well or badly; never part of a result's identity."""

    webhook: str | None = None
    """URL that gets a POST of JSON: name, outcome, reason, winner, seconds, usd, report. Records and logs name its host alone."""
    teardown: tuple[str, ...] = ()
    """Program and arguments that end the cluster, run on the driver's machine (for a submitted job the head); empty: none."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.webhook or "https://host")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("webhook", "it is not an http:// or https:// URL with a host; set it to one, or to null")

    @property
    def webhook_host(self) -> str | None:
        """The webhook without its secrets: what may be shown and recorded."""
        return f"{urlsplit(self.webhook).scheme}://{urlsplit(self.webhook).hostname}/..." if self.webhook else None


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Who watches."""

    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online if there is a key in the environment or ~/.netrc, else offline."""
    project: str = "sea-ray"
    """W&B project."""
    entity: str | None = None
    """W&B user or team whose project it is; null is the key's own."""
    upload: bool = False
    """Whether the winner's files are sent to W&B from a local store; else its artifact says where they lie."""
    registry: str | None = "model"
    """W&B registry in whose collection of the project's name the winner is linked; null: none."""


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """Everything that an experiment is; `conf/experiment/` holds examples."""

    name: str
    """Name of the run: its folder in the store and its W&B group."""
    experiment: str | None = None
    """File of conf/experiment that was chosen."""
    until: Literal["detection", "neurons", "sweeps", "end"] = field(default="end", metadata=NOT_IDENTITY)
    """Where to stop: with every neuron's importance, with the merged packs of the sweep over neurons, with both sweeps, or after
    everything. What is finished by then is reused when the experiment goes on."""
    seed: int = 0
    """Of the model's first weights."""
    corpus: CorpusConfig
    model: BaseModelConfig
    training: PretrainingConfig
    neurons: NeuronConfig
    sweep: SweepsConfig
    sft: FineTuningConfig
    safety: SafetyConfig
    evaluation: EvaluationConfig
    study: StudyConfig | None = None
    """A study in place of the whole method, which takes from the other settings what it needs. null: none."""
    benchmarks: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    """Public benchmark files that are asked besides the demo world's questions."""
    serving: ServingConfig
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    ending: EndingConfig = field(default_factory=EndingConfig)

    def __post_init__(self) -> None:
        for code in self.neurons.languages:
            if code not in self.corpus.languages:
                raise ConfigError("neurons.languages", f"{code!r} is not in corpus.languages; add it there or take it "
                                                       f"out here (there: {', '.join(self.corpus.languages)})")
        if self.study is not None and self.until != "end":
            raise ConfigError("until", f"{self.until}, but a study is carried out as a whole: leave it out, or set study=null")
        study = self.study.neurons if self.study else None
        for code in study.languages if study else ():
            if code not in self.neurons.languages:
                raise ConfigError("study.neurons.languages", f"{code!r} is not in neurons.languages; add it there or take it out "
                                                             f"here (there: {', '.join(self.neurons.languages)})")
        for name, arm in study.arms.items() if study else ():
            try:
                arm.selection(self.neurons.selection)
            except ConfigError as error:
                raise ConfigError(f"study.neurons.arms.{name}.{error.path}", error.message) from error
        if "en" not in self.corpus.languages:
            raise ConfigError("corpus.languages", "English is missing; the sweep's limit on English needs it")
        for name, weights in self.sft.mixes.items():
            for code in weights:
                if code not in self.corpus.languages:
                    raise ConfigError(f"sft.mixes.{name}", f"{code!r} is not in corpus.languages")
        added = [code for code in self.corpus.languages if code in ADDED and self.study is None]
        for code, (name, stage) in product(added, zip(STAGES, self.sft.data.stages, strict=True)):
            if all(taught_language(source) != code for source in stage.sources):
                raise ConfigError(f"sft.data.{name}", f"nothing is taught in {code!r}, which the demo world does not speak: add "
                                                      "files, pairs or datasets of it (docs/own_language.md)")
        for code in self.sft.questions:
            if code not in self.corpus.languages:
                raise ConfigError(f"sft.questions.{code}", f"{code!r} is not in corpus.languages")
        for name, search, figures, looks, path in (
                ("neurons", self.sweep.neurons, NEURON_FIGURES, self.neurons.training.eval_every_steps, "neurons.training"),
                ("mixes", self.sweep.mixes, SFT_FIGURES, self.sft.broad.eval_every_steps, "sft.broad")):
            for key in ("objectives", "at_most"):
                for figure in getattr(search, key):
                    if figure not in figures:
                        raise ConfigError(f"sweep.{name}.{key}.{figure}", f"no trial reports it{nearest(figure, figures)}")
            if search.rungs is not None and not looks:
                raise ConfigError(f"sweep.{name}.rungs", f"a trial is judged by its looks at held-out text, and {path}."
                                                         "eval_every_steps=0 takes none: set it, or set rungs=null")
        longest = self.neurons.detection.window_tokens
        if self.model.checkpoint is None and longest > self.model.shape.max_position:
            raise ConfigError("neurons.detection.window_tokens", f"{longest} tokens exceed the model's context of "
                                                                 f"{self.model.shape.max_position}")
        extension = self.model.extension
        for code in extension.weights() if extension else ():
            if code not in self.corpus.languages:
                raise ConfigError("model.extension", f"{code!r} is not in corpus.languages; add it there or take it out here "
                                                     f"(there: {', '.join(self.corpus.languages)})")
        annealing = self.training.annealing
        execution = self.cluster.training
        sizes = range(execution.min_workers or execution.num_workers, execution.num_workers + 1)
        for path, training in (("training.annealing", annealing or self.training.schedule),
                               ("training.schedule", self.training.schedule),
                               ("model.extension.training", extension.training if extension else self.training.schedule),
                               ("neurons.training", self.neurons.training),
                               ("sft.broad", self.sft.broad), ("sft.high_quality", self.sft.high_quality)):
            if training.batch_sequences < sizes[-1] or all(training.batch_sequences % size for size in sizes):
                workers = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else sizes[0]
                raise ConfigError(f"{path}.batch_sequences", f"{training.batch_sequences} can't be shared evenly by {workers} "
                                                             "workers; make it a multiple")

    def pretraining_weights(self) -> dict[str, float]:
        """Return language -> share of the base's training tokens."""
        high = [code for code in self.corpus.languages if code in HIGH_RESOURCE]
        low = [code for code in self.corpus.languages if code not in HIGH_RESOURCE]
        share = self.training.high_resource_share if low else 1.0
        return {code: share / len(high) if code in high else (1 - share) / len(low) for code in self.corpus.languages}
