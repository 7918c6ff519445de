"""What is done to each document on its own: repair, clean, mask, judge its language, compare with what is held out, weigh.

Every step counts what it took. No step looks at another document, so any number of processes do the same work.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial

import numpy as np
import pyarrow

from sea_ray.corpus.cleaning import clean, text_key
from sea_ray.corpus.config import CorpusConfig
from sea_ray.corpus.documents import OverlapRow, Shared
from sea_ray.corpus.identification import is_language
from sea_ray.corpus.personal_data import mask
from sea_ray.corpus.zawgyi import is_zawgyi, to_unicode
from sea_ray.near_duplicates import NUM_BANDS, signatures

HeldOut = Callable[[str], Shared | None]
"""From a document to what it shares with such an item, or None."""
Perplexity = Callable[[str], float]
"""Bits per byte of a document under a small language model."""
Step = Callable[[str], str | Shared | None]
"""A step of the pipeline: a document -> the document as it goes on; if it ends here, None or what it shares."""
Counts = dict[str, list[int]]
"""Step -> documents in and out, bytes in and out, documents changed."""

BANDS = tuple(f"band{number:02}" for number in range(NUM_BANDS))
REFINED = pyarrow.schema([("language", pyarrow.string()), ("source", pyarrow.int16()), ("split", pyarrow.string()),
                          ("text", pyarrow.large_string()), ("num_bytes", pyarrow.int64()), ("key", pyarrow.binary(16)),
                          ("bits_per_byte", pyarrow.float64()), *((band, pyarrow.binary(16)) for band in BANDS),
                          ("counts", pyarrow.string())])
"""A batch of documents that passed all steps. A row without text holds as JSON the counts of the batch, step by step, and its
documents that share a passage with what is held out, as `OverlapRow`."""


class Refiner:
    """Takes batches of raw documents through all steps."""

    def __init__(self, config: CorpusConfig, held_out: HeldOut | None = None, perplexity: Perplexity | None = None) -> None:
        """Args: config: the rules; held_out: finds what nothing may be trained on; perplexity: weighs documents."""
        self._config, self._perplexity = config, perplexity
        self._steps = {code: _steps(config, code, held_out) for code in config.languages}

    def __call__(self, raw: pyarrow.Table) -> pyarrow.Table:
        """Return the rows of the schema RAW that pass, and the counts, in the schema REFINED."""
        counts: dict[str, Counts] = {}
        overlaps: dict[str, list[OverlapRow]] = defaultdict(list)
        rows = list(self._through(raw, counts, overlaps))
        language, source, split, texts = zip(*rows, strict=True) if rows else ((), (), (), ())
        columns = {"language": language, "source": source, "split": split, "text": texts,
                   "num_bytes": [len(text.encode()) for text in texts], "key": [text_key(text) for text in texts]}
        if self._perplexity is not None:
            columns["bits_per_byte"] = [self._perplexity(text) for text in texts]
        if self._config.near_duplicate_jaccard:
            bands = np.ascontiguousarray(signatures(texts).transpose(1, 0, 2))
            for name, band in zip(BANDS, bands, strict=True):
                columns[name] = pyarrow.FixedSizeBinaryArray.from_buffers(
                    pyarrow.binary(16), len(texts), [None, pyarrow.py_buffer(band)])
        tallies = [{"language": code, "counts": json.dumps({"steps": steps, "overlaps": [asdict(one) for one in overlaps[code]]})}
                   for code, steps in counts.items()]
        kept = pyarrow.table([columns.get(field.name, [None] * len(texts)) for field in REFINED], schema=REFINED)
        return pyarrow.concat_tables([kept, pyarrow.Table.from_pylist(tallies, schema=REFINED)])

    def _through(self, raw: pyarrow.Table, counts: dict[str, Counts], overlaps: dict[str, list[OverlapRow]]
                 ) -> Iterator[tuple[str, int, str, str]]:
        columns = (raw.column(name).to_pylist() for name in ("language", "source", "place", "split", "row", "text", "num_bytes"))
        for code, source, place, split, row, text, num_bytes in zip(*columns, strict=True):
            tally = counts.setdefault(code, {step: [0, 0, 0, 0, 0] for step in ("read", *self._steps[code])})
            _count(tally["read"], num_bytes, None if text is None else num_bytes, changed=False)
            if text is None:
                continue
            document = self._refine(text.decode("utf-8", "surrogatepass"), num_bytes, self._steps[code], tally)
            if isinstance(document, str):
                yield code, source, split or split_of(document, self._config), document
            elif document is not None:
                overlaps[code].append(OverlapRow.of(code, place, row, document))

    def _refine(self, text: str, num_bytes: int, steps: Mapping[str, Step], tally: Counts) -> str | Shared | None:
        for name, step in steps.items():
            result = step(text)
            if not isinstance(result, str):
                _count(tally[name], num_bytes, None, changed=False)
                return result
            size = num_bytes if result == text else len(result.encode("utf-8", "surrogatepass"))
            _count(tally[name], num_bytes, size, changed=result != text)
            text, num_bytes = result, size
        return text


def _count(row: list[int], bytes_in: int, bytes_out: int | None, *, changed: bool) -> None:
    row[0] += 1
    row[2] += bytes_in
    row[4] += changed
    if bytes_out is not None:
        row[1] += 1
        row[3] += bytes_out


def _steps(config: CorpusConfig, code: str, held_out: HeldOut | None) -> dict[str, Step]:
    """Return the steps of a language by name, in order."""
    steps: dict[str, Step] = {}
    if code == "my":
        # Before Unicode's composition, since the same code points mean other letters.
        steps["zawgyi"] = partial(_without_zawgyi, config.zawgyi == "convert")
    steps["clean"] = partial(_cleaned, config.min_characters)
    if config.mask_personal_data:
        steps["mask"] = partial(mask, code=code)
    if config.identify_language:
        steps["identify"] = partial(_identified, config.identify_from_characters, code)
    if held_out is not None:
        steps["decontaminate"] = lambda text: held_out(text) or text
    return steps


def _without_zawgyi(convert: bool, text: str) -> str | None:
    if not is_zawgyi(text):
        return text
    return to_unicode(text) if convert else None


def _cleaned(min_characters: int, text: str) -> str | None:
    cleaned = clean(text)
    return cleaned if cleaned and len(cleaned) >= min_characters else None


def _identified(from_characters: int, code: str, text: str) -> str | None:
    return text if len(text) < from_characters or is_language(text, code) else None


def split_of(text: str, config: CorpusConfig) -> str:
    """Return the split of a document: a stable hash of its text, as a number in [0, 1), against the fractions."""
    position = int.from_bytes(text_key(text, config.seed + 1)[:8], "little") / 2**64
    if position < config.test_frac:
        return "test"
    return "validation" if position < config.test_frac + config.validation_frac else "train"
