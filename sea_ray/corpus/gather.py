"""From sources to documents: read, refine each, drop what repeats others, split; each step counts what it took."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from pyarrow import compute

from sea_ray.corpus.config import CorpusConfig
from sea_ray.corpus.documents import Documents, DocumentWriter, FunnelRow, OverlapRow, SourceRow
from sea_ray.corpus.drafts import Drafts
from sea_ray.corpus.refining import HeldOut, Perplexity, Refiner
from sea_ray.corpus.sources import pieces, read_piece
from sea_ray.errors import DataError
from sea_ray.streams import Streams, in_process, parted
from sea_ray.tracking import NullTracker, Tracker

STEPS = ("read", "zawgyi", "clean", "mask", "identify", "decontaminate", "deduplicate", "limit", "near_deduplicate", "quality")
"""Names of the steps, in their order; up to "decontaminate" each document is judged on its own."""


def gather_documents(config: CorpusConfig, folder: Path, *, tracker: Tracker | None = None, held_out: HeldOut | None = None,
                     perplexity: Perplexity | None = None, languages: Sequence[str] | None = None,
                     streams: Streams = in_process) -> Documents:
    """Read, clean and split the text; languages are independent of each other.

    Args:
        config: sources and rules.
        folder: made; gets the documents.
        tracker: gets the documents kept per language.
        held_out: returns what a document shares with what nothing may be trained on, or None; documents that share something
            are dropped and named. None: nothing is held out.
        perplexity: weighs documents; used if config.quality is set.
        languages: some of the configured ones; None: all.
        streams: where documents are read and refined; the result is the same everywhere.

    Returns:
        Documents whose splits share no text; a document's split depends on its own text and the seed only.

    Raises:
        DataError: an unreadable source, or a language that is left without documents in a split.
    """
    tracker, languages = tracker or NullTracker(), config.languages if languages is None else tuple(languages)
    make_refiner = partial(Refiner, config, held_out, perplexity)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch, DocumentWriter(folder, languages) as writer:
        drafts = {code: Drafts(Path(scratch) / f"{code}.parquet", config) for code in languages}
        if config.is_limited:  # read no further than needed: an endless stream ends there
            for code in languages:
                for table in in_process(pieces(config, code), partial(read_piece, config), make_refiner):
                    drafts[code].append(table.drop_columns("language"))
                    if drafts[code].is_full:
                        break
        else:
            every = [piece for code in languages for piece in pieces(config, code)]
            for table in streams(every, partial(read_piece, config), make_refiner):
                for (code,), rows in parted(table, "language"):
                    drafts[code].append(rows)
        funnel: list[FunnelRow] = []
        sources: list[SourceRow] = []
        overlaps: list[OverlapRow] = []
        for code in languages:
            sources += _write(config, code, drafts[code], writer)
            writer.close(code)
            rows = _funnel_rows(code, drafts[code])
            _check_splits(code, writer.counts[code], rows)
            tracker.log(None, **{f"documents/{code}": float(sum(writer.counts[code].values()))})
            funnel += rows
            overlaps += drafts[code].overlaps
        return writer.finish(funnel, sources, overlaps)


def _write(config: CorpusConfig, code: str, drafts: Drafts, writer: DocumentWriter) -> list[SourceRow]:
    """Write the documents of a language that stay; return what its sources gave."""
    given: dict[int, tuple[int, int]] = {}
    for source, split, texts in drafts.chosen():
        writer.append(code, split, texts)
        documents, num_bytes = given.get(source, (0, 0))
        given[source] = documents + len(texts), num_bytes + compute.sum(compute.binary_length(texts)).as_py()
    return [SourceRow(language=code, source=source.name, documents=documents, bytes=num_bytes)
            for number, source in enumerate(config.provenance(code)) for documents, num_bytes in [given.get(number, (0, 0))]]


def _funnel_rows(code: str, drafts: Drafts) -> list[FunnelRow]:
    return [FunnelRow(language=code, step=step, documents_in=a, documents_out=b, bytes_in=c, bytes_out=d, documents_changed=e)
            for step in STEPS if step in drafts.counts for a, b, c, d, e in [drafts.counts[step]]]


def _check_splits(code: str, counts: Mapping[str, int], rows: Sequence[FunnelRow]) -> None:
    for split, count in counts.items():
        if not count:
            taken = [f"{row.step} took {row.documents_in - row.documents_out:,}" for row in rows
                     if row.documents_in > row.documents_out]
            raise DataError(
                f"language {code!r} has {sum(counts.values()):,} documents and none of them in {split!r} "
                f"({', '.join([f'{rows[0].documents_in:,} were read', *taken])}): give it more text, or raise "
                "corpus.validation_frac and corpus.test_frac"
            )
