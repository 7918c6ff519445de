"""What text an experiment reads and how it is cut into tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sea_ray.artifacts import NOT_IDENTITY
from sea_ray.errors import ConfigError
from sea_ray.languages import ADDED, HIGH_RESOURCE, TWELVE, language


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """Files that hold text of one language."""

    glob: str
    """Pattern below corpus.root, such as "parallel/tico19/en-*.jsonl"; it must match at least one file. The ending says
    the format: .txt .jsonl .csv .tsv .parquet .xml, each also compressed (.gz .bz2 .xz)."""
    field: str = "text"
    """JSONL key, CSV/TSV/Parquet column or XML element whose text is a document; unused for plain text."""
    unit: Literal["line", "paragraph", "file"] = "line"
    """What one document is in plain text; paragraphs are parted by blank lines."""
    licence: str = dataclasses.field(default="", metadata=NOT_IDENTITY)
    """Licence of the text, such as "CC BY-SA 4.0"; it stands in the record and on the model card."""
    origin: str = dataclasses.field(default="", metadata=NOT_IDENTITY)
    """Where the text was got from, such as a URL; it stands there too."""


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """A dataset that the `datasets` library streams: a Hugging Face id or a local dataset folder."""

    dataset: str = dataclasses.field(metadata=NOT_IDENTITY)
    """Id such as "wikimedia/wikipedia", or a folder. Part of the identity is id@revision, or the folder's files."""
    name: str | None = None
    """Configuration of the dataset, such as "20231101.th"; None: its default."""
    split: str = "train"
    """Split of the dataset to read; this project makes its own splits from it."""
    field: str = "text"
    """Column whose text is a document."""
    revision: str | None = dataclasses.field(default=None, metadata=NOT_IDENTITY)
    """Commit, tag or branch of the Hub id; None: the newest, which is not reproducible."""
    licence: str = dataclasses.field(default="", metadata=NOT_IDENTITY)
    """Licence of the text, such as "CC BY-SA 4.0"; it stands in the record and on the model card."""
    origin: str = dataclasses.field(default="", metadata=NOT_IDENTITY)
    """Where the text was got from, such as a URL; it stands there too. Empty = the Hub, with configuration and revision."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where some text is from."""

    name: str
    """Files or dataset."""
    licence: str
    """"" if nobody said."""
    origin: str
    """Where it was got from; "" if nobody said."""


@dataclass(frozen=True, kw_only=True)
class DemoSource:
    """How much text the embedded world speaks; it has splits of its own, so the hash split is not used."""

    world_seed: int = 0
    """Seed of the world's facts and sentences."""
    train_documents: int = 2000
    """Documents per language, each of a few sentences."""
    validation_documents: int = 100
    """Documents per language on which sweeps are judged."""
    test_documents: int = 200
    """Documents per language that only the final evaluation reads."""

    def __post_init__(self) -> None:
        for name in ("train_documents", "validation_documents", "test_documents"):
            if getattr(self, name) < 1:
                raise ConfigError(name, f"{getattr(self, name)} documents; at least 1 is needed")


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """Filter by perplexity under a small language model, compared within each language (Wenzek et al. 2020, CCNet)."""

    checkpoint: str = dataclasses.field(metadata=NOT_IDENTITY)
    """Hub id or local folder of the model; its content is part of the corpus' identity."""
    revision: str | None = dataclasses.field(default=None, metadata=NOT_IDENTITY)
    """Commit of the Hub id."""
    drop_frac: float = 0.1
    """Share of each language's documents that goes, those with the most bits per byte."""
    max_tokens: int = 256
    """First tokens of a document that are weighed."""

    def __post_init__(self) -> None:
        if not 0 < self.drop_frac < 1:
            raise ConfigError("drop_frac", f"{self.drop_frac} must lie between 0 and 1; set quality=null to drop nothing")
        if self.max_tokens < 2:
            raise ConfigError("max_tokens", f"{self.max_tokens} tokens have no perplexity; at least 2 are needed")


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """Sources, cleaning and splits of the text."""

    source: Literal["demo", "files", "hub"] = "demo"
    """Where the text comes from: the embedded world, files, or Hugging Face datasets."""
    languages: tuple[str, ...] = tuple(TWELVE)
    """ISO codes, in the order of all tables."""
    demo: DemoSource = dataclasses.field(default_factory=DemoSource)
    """Used when source is demo."""
    root: str | None = dataclasses.field(default=None, metadata=NOT_IDENTITY)
    """Folder or fsspec URL above the globs of `paths`; not part of the corpus' identity."""
    paths: Mapping[str, tuple[FileSource, ...]] = dataclasses.field(default_factory=dict)
    """Language -> its files; used when source is files."""
    hub: Mapping[str, tuple[HubSource, ...]] = dataclasses.field(default_factory=dict)
    """Language -> its datasets; used when source is hub."""
    on_bad_line: Literal["error", "skip"] = "error"
    """An undecodable, malformed or fieldless row stops the run with its file and line, or is counted in the funnel."""
    max_documents_per_language: int = 0
    """Distinct documents read per language, the first in order; what follows looks at these only. 0: all."""
    max_bytes_per_language: int = 0
    """The same in UTF-8 bytes of cleaned text. Equal bytes are about equal content; equal tokens are not. 0: all."""
    max_tokens_per_language: int = 0
    """Tokens of the training part per language; the document that would pass it and what follows are left out. 0: all."""
    min_characters: int = 1
    """Shorter documents (after cleaning) are dropped."""
    deduplicate: bool = True
    """Drop documents whose text was seen before in the language, ignoring case, spaces and zero-width characters."""
    near_duplicate_jaccard: float = 0.7
    """Drop a document that shares at least this part of its character shingles with an earlier one of its language; 0: keep
    near-duplicates."""
    quality: QualityConfig | None = None
    """Drop the documents that a small language model finds the unlikeliest; null: none."""
    mask_personal_data: bool = False
    """Replace e-mail addresses, telephone and identity numbers by [email], [phone] and [id]."""
    zawgyi: Literal["convert", "drop"] = "convert"
    """What happens to Burmese documents in Zawgyi encoding; they never stay as they are."""
    identify_language: bool = True
    """Drop documents that are judged to be in another language; Javanese, which borrows from Indonesian and Malay, is taken
    for either, and these two are parted only where their words do so clearly."""
    identify_from_characters: int = 20
    """Shorter documents are not judged: a name or a score line has no language."""
    validation_frac: float = 0.02
    """Share of documents held out for choosing settings."""
    test_frac: float = 0.02
    """Share of documents held out for the final evaluation."""
    seed: int = 0
    """Seed of the split."""

    def __post_init__(self) -> None:
        if not self.languages:
            raise ConfigError("languages", "empty; name at least one language")
        for code in self.languages:
            language(code)
        if len(set(self.languages)) != len(self.languages):
            raise ConfigError("languages", f"{list(self.languages)} names a language twice; once is enough")
        for name in ("max_documents_per_language", "max_bytes_per_language", "max_tokens_per_language", "min_characters",
                     "identify_from_characters"):
            if getattr(self, name) < 0:
                raise ConfigError(name, f"{getattr(self, name)} is negative; 0 switches it off")
        if self.near_duplicate_jaccard and not 0.5 <= self.near_duplicate_jaccard <= 1:
            raise ConfigError("near_duplicate_jaccard", f"{self.near_duplicate_jaccard} is outside [0.5, 1]: below, too few are "
                                                        "found; 0 switches it off")
        for name in ("validation_frac", "test_frac"):
            if not 0 < getattr(self, name) < 0.5:
                raise ConfigError(name, f"{getattr(self, name)} must lie between 0 and 0.5; both parts are used")
        self._check_source()

    @property
    def is_limited(self) -> bool:
        """Whether a language is read up to a limit only."""
        return bool(self.max_documents_per_language or self.max_bytes_per_language)

    def provenance(self, code: str) -> list[Provenance]:
        """Return where the text of a language is from, one entry per source in order."""
        if self.source == "demo":
            return [Provenance(name="demo world", licence="that of sea_ray", origin="sea_ray.demo")]
        if self.source == "files":
            return [Provenance(name=source.glob, licence=source.licence, origin=source.origin) for source in self.paths[code]]
        return [Provenance(name=source.dataset, licence=source.licence,
                           origin=source.origin or f"Hugging Face, {source.name or 'default'}@{source.revision or 'newest'}")
                for source in self.hub[code]]

    def _check_source(self) -> None:
        if self.source == "demo" and (silent := [code for code in self.languages if code in ADDED]):
            raise ConfigError("languages", f"the demo world does not speak {silent[0]!r}; set source to files or hub")
        if self.source == "files":
            if self.root is None:
                raise ConfigError("root", "missing; name the folder with your text, such as corpus.root=../shared/data")
            self._check_languages("paths", self.paths)
        if self.source == "hub":
            self._check_languages("hub", self.hub)
            if not self.is_limited:
                raise ConfigError(
                    "max_documents_per_language",
                    "0 (all) of a stream may be terabytes; set a number, such as 100000, or max_bytes_per_language",
                )

    def _check_languages(self, key: str, sources: Mapping[str, tuple[object, ...]]) -> None:
        for code in sources:
            language(code, key)
        for code in self.languages:
            if not sources.get(code):
                raise ConfigError(f"{key}.{code}", f"missing; name its text or take {code!r} out of corpus.languages")


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """A byte-level BPE tokenizer, trained on the corpus in equal bytes per language."""

    vocab_size: int = 4096
    """Entries, with 256 bytes and 3 special tokens among them; a multiple of 64 suits the hardware."""
    training_bytes_per_language: int = 2_000_000
    """UTF-8 bytes of each language to learn merges from; a language that has less repeats what it has."""
    min_frequency: int = 2
    """A pair must occur so often to be merged."""
    max_token_characters: int = 16
    """Longest token. Thai, Lao, Khmer and Burmese write no spaces between words: longer ones would swallow phrases."""
    chat_template: Literal["qwen2", "chatml"] = "qwen2"
    """Qwen2's ChatML, which adds "You are a helpful assistant." if no system message is given, or ChatML without it."""

    def __post_init__(self) -> None:
        if self.vocab_size < 259:
            raise ConfigError("vocab_size", f"{self.vocab_size} is below 259: 256 bytes and 3 special tokens are in it")
        if self.training_bytes_per_language < 1 or self.min_frequency < 1:
            raise ConfigError("training_bytes_per_language", "it and min_frequency must be at least 1")


@dataclass(frozen=True, kw_only=True)
class NewPieces:
    """Pieces that a checkpoint's own tokenizer gets for languages whose text it shreds."""

    languages: tuple[str, ...]
    """Languages to learn them from, in a script that English and Chinese don't use."""
    max_pieces: int = 2000
    """Most pieces; each is one row more of the embeddings."""
    training_bytes_per_language: int = 1_000_000
    """UTF-8 bytes of each language to learn pieces from; a language that has less repeats what it has."""
    min_uses: int = 20
    """A piece must be used so often in that text: a row that is seldom met learns nothing."""
    max_piece_characters: int = 16
    """Longest piece, as TokenizerConfig.max_token_characters."""

    def __post_init__(self) -> None:
        if not self.languages:
            raise ConfigError("languages", "empty; name the languages that need pieces, or take the extension out")
        taken = {language(code).script for code in HIGH_RESOURCE}
        for code in self.languages:
            if language(code).script in taken:
                raise ConfigError("languages", f"{code!r} is written in {language(code).script} letters: its pieces, which are "
                                               "matched first of all, would break words of English or Chinese; leave it out")
        for name in ("max_pieces", "training_bytes_per_language", "min_uses", "max_piece_characters"):
            if getattr(self, name) < 1:
                raise ConfigError(name, f"{getattr(self, name)} is below 1")
