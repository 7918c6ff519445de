"""From sources to documents: read, clean, deduplicate, identify, limit, split; each step counts what it took."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from sea_ray.corpus.cleaning import clean, text_key
from sea_ray.corpus.config import CorpusConfig
from sea_ray.corpus.documents import SPLITS, Documents, FunnelRow
from sea_ray.corpus.identification import is_language
from sea_ray.corpus.personal_data import mask
from sea_ray.corpus.reading import BadRow
from sea_ray.corpus.sources import read_language
from sea_ray.corpus.zawgyi import is_zawgyi, to_unicode
from sea_ray.demo import Split, World
from sea_ray.errors import DataError
from sea_ray.near_duplicates import NearDuplicates
from sea_ray.tracking import NullTracker, Tracker

STEPS = ("read", "zawgyi", "clean", "mask", "deduplicate", "near_deduplicate", "identify", "decontaminate")
"""Names of the steps, in their order."""
HeldOut = Callable[[str], str | None]
"""From a document to the passage that it shares with what nothing may be trained on, or None."""
Refine = Callable[[Iterable["str | BadRow"]], Iterator[str]]
Step = Callable[[str], str | None]
"""A step of the pipeline: a document -> the document as it goes on, or None if it ends here."""


def gather_documents(config: CorpusConfig, tracker: Tracker | None = None, held_out: HeldOut | None = None,
                     languages: Sequence[str] | None = None) -> Documents:
    """Read, clean and split the text; languages are independent of each other.

    Args:
        config: sources and rules.
        tracker: gets the documents kept per language.
        held_out: returns the passage that a document shares with what nothing may be trained on, or None; documents that
            share one are dropped. None: nothing is held out.
        languages: some of the configured ones; None: all.

    Returns:
        Documents whose splits share no text; a document's split depends on its own text and the seed only.

    Raises:
        DataError: an unreadable source, or a language that is left without documents in a split.
    """
    tracker = tracker or NullTracker()
    world = World(config.demo.world_seed, config.languages) if config.source == "demo" else None
    texts: dict[str, dict[str, list[str]]] = {}
    funnel: list[FunnelRow] = []
    for code in config.languages if languages is None else languages:
        steps = _Funnel(code)
        refine = partial(_refine, config, code, steps, held_out)
        texts[code] = _gather_demo(config, world, code, refine) if world else _gather_read(config, code, refine)
        funnel += steps.rows()
        _check_splits(code, texts[code], funnel[-1])
        tracker.log(None, **{f"documents/{code}": float(sum(map(len, texts[code].values())))})
    return Documents(texts=texts, funnel=tuple(funnel))


@dataclass
class _Funnel:
    """Counts documents and bytes through the steps of one language."""

    language: str
    counts: dict[str, list[int]] = field(default_factory=dict)

    def count(self, step: str, bytes_in: int, bytes_out: int | None, *, changed: bool = False) -> None:
        tally = self.counts.setdefault(step, [0, 0, 0, 0, 0])
        tally[4] += changed
        tally[0] += 1
        tally[2] += bytes_in
        if bytes_out is not None:
            tally[1] += 1
            tally[3] += bytes_out

    def through(self, name: str, step: Step, texts: Iterable[str]) -> Iterator[str]:
        """Yield what a step lets pass."""
        self.counts.setdefault(name, [0, 0, 0, 0, 0])
        for text in texts:
            kept = step(text)
            self.count(name, _num_bytes(text), None if kept is None else _num_bytes(kept), changed=kept not in (None, text))
            if kept is not None:
                yield kept

    def read(self, rows: Iterable[str | BadRow]) -> Iterator[str]:
        """Yield the good rows; bad ones come here only if they are to be counted and skipped."""
        self.counts.setdefault("read", [0, 0, 0, 0, 0])
        for row in rows:
            if isinstance(row, BadRow):
                self.count("read", row.num_bytes, None)
            else:
                self.count("read", size := _num_bytes(row), size)
                yield row

    def rows(self) -> list[FunnelRow]:
        return [
            FunnelRow(language=self.language, step=step, documents_in=a, documents_out=b, bytes_in=c, bytes_out=d,
                      documents_changed=e)
            for step in STEPS
            if step in self.counts
            for a, b, c, d, e in [self.counts[step]]
        ]


def _num_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))  # JSON may escape half a surrogate pair; cleaning mends it


def _refine(config: CorpusConfig, code: str, steps: _Funnel, held_out: HeldOut | None,
            rows: Iterable[str | BadRow]) -> Iterator[str]:
    """Yield the documents of a language that pass all steps, as a stream."""
    texts = steps.read(rows)
    if code == "my":
        texts = steps.through("zawgyi", _zawgyi(config), texts)  # before Unicode's composition, which means other letters
    texts = steps.through("clean", _cleaner(config), texts)
    if config.mask_personal_data:
        texts = steps.through("mask", partial(mask, code=code), texts)
    if config.deduplicate:
        texts = steps.through("deduplicate", _Deduplicator(), texts)
    if config.near_duplicate_jaccard:
        texts = steps.through("near_deduplicate", NearDuplicates(config.near_duplicate_jaccard), texts)
    if config.identify_language:
        texts = steps.through("identify", _identifier(config, code), texts)
    if held_out is not None:
        texts = steps.through("decontaminate", lambda text: text if held_out(text) is None else None, texts)
    return texts


def _zawgyi(config: CorpusConfig) -> Step:
    def step(text: str) -> str | None:
        if not is_zawgyi(text):
            return text
        return to_unicode(text) if config.zawgyi == "convert" else None

    return step


def _cleaner(config: CorpusConfig) -> Step:
    def step(text: str) -> str | None:
        cleaned = clean(text)
        return cleaned if cleaned and len(cleaned) >= config.min_characters else None

    return step


class _Deduplicator:
    """Lets each text pass once; remembers 16 bytes per document."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def __call__(self, text: str) -> str | None:
        key = text_key(text)
        if key in self._seen:
            return None
        self._seen.add(key)
        return text


def _identifier(config: CorpusConfig, code: str) -> Step:
    def step(text: str) -> str | None:
        return text if len(text) < config.identify_from_characters or is_language(text, code) else None

    return step


def _gather_read(config: CorpusConfig, code: str, refine: Refine) -> dict[str, list[str]]:
    texts = refine(read_language(config, code))
    parts: dict[str, list[str]] = {split: [] for split in SPLITS}
    for number, text in enumerate(texts, 1):
        parts[split_of(text, config)].append(text)
        if number == config.max_documents_per_language:
            break  # an endless stream is never read further than needed
    return parts


def split_of(text: str, config: CorpusConfig) -> str:
    """Return the split of a document: a stable hash of its text, as a number in [0, 1), against the fractions."""
    position = int.from_bytes(text_key(text, config.seed + 1)[:8], "little") / 2**64
    if position < config.test_frac:
        return "test"
    return "validation" if position < config.test_frac + config.validation_frac else "train"


def _gather_demo(config: CorpusConfig, world: World, code: str, refine: Refine) -> dict[str, list[str]]:
    """The world has splits of its own; all pass the same steps in one stream, so that they share no document."""
    counts: dict[Split, int] = {
        "test": config.demo.test_documents,
        "validation": config.demo.validation_documents,
        "train": config.demo.train_documents,
    }
    current: Split = "test"

    def rows() -> Iterator[str]:
        nonlocal current
        for current, count in counts.items():
            yield from world.documents(code, current, count)

    parts: dict[str, list[str]] = {split: [] for split in SPLITS}
    for text in refine(rows()):
        parts[current].append(text)  # the stream is lazy: `current` is the split of the document at hand
    return parts


def _check_splits(code: str, parts: dict[str, list[str]], last: FunnelRow) -> None:
    for split, texts in parts.items():
        if not texts:
            total = sum(map(len, parts.values()))
            raise DataError(
                f"language {code!r} has {total} documents after step {last.step!r} and none of them in {split!r}: "
                f"give it more text, or raise corpus.validation_frac and corpus.test_frac"
            )
