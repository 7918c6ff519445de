"""From a finished corpus and its conversations to what the page of the data shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from sea_ray import plan
from sea_ray.artifacts import Artifact
from sea_ray.config import ExperimentConfig
from sea_ray.corpus.documents import Documents
from sea_ray.corpus.tokenized import TokenizedCorpus
from sea_ray.provenance import source_rows
from sea_ray.report.data import CorpusRow, FunnelRow
from sea_ray.report.data_page import ConversationRow, DataReport, FertilityRow, OverlapRow
from sea_ray.sft.config import STAGES
from sea_ray.stages.sft import load_sources, stage_mixture, text_source

SAMPLES = 4
"""Documents of a language that are shown."""


def data_report(config: ExperimentConfig, corpus: Artifact, conversations: Artifact, command: str, made_at: str) -> DataReport:
    """Return everything that the page shows.

    Args:
        config: the experiment.
        corpus, conversations: its results.
        command: repeats the run.
        made_at: date and time.
    """
    sizes, documents = corpus.facts["sizes"], Documents.load(corpus.folder / "documents")
    own = corpus.facts.get("new_pieces", {}).get("tokens_per_byte_before", {})
    return DataReport(
        experiment=config.name, made_at=made_at, command=command,
        funnel=tuple(FunnelRow(**row) for row in corpus.facts["funnel"]),
        corpus=tuple(CorpusRow(language=code, split=split, **size) for code, splits in sizes.items()
                     for split, size in splits.items()),
        fertility=tuple(FertilityRow(language=code, characters=sum(map(len, documents.texts(code, "train"))),
                                     own_tokens_per_byte=own.get(code), **sizes[code]["train"]) for code in documents.languages),
        sources=tuple(source_rows(config, corpus.facts)),
        conversations=tuple(_conversation_rows(config, corpus, conversations)),
        overlaps=(*(OverlapRow(part="text", **asdict(row)) for row in documents.overlaps),
                  *(OverlapRow(part=stage, **row) for stage in STAGES for row in conversations.facts[stage]["overlaps"])),
        samples={code: _samples(documents, code, sizes[code]["train"]["documents"]) for code in documents.languages})


def _samples(documents: Documents, code: str, count: int) -> list[str]:
    places = {count * place // SAMPLES for place in range(min(SAMPLES, count))}
    return [text for place, text in enumerate(documents.texts(code, "train")) if place in places]


def _conversation_rows(config: ExperimentConfig, corpus: Artifact, conversations: Artifact) -> Iterator[ConversationRow]:
    for stage in STAGES:
        training, facts = getattr(config.sft, stage), conversations.facts[stage]
        chosen = plan.sft(config, stage, corpus, conversations, corpus).config
        sources = load_sources(chosen, conversations.folder, TokenizedCorpus.load(corpus.folder / "tokens"))
        mixture = stage_mixture(chosen, {name: part.num_sequences for name, part in sources.items()})
        shares = mixture.realised(training.steps, training.batch_sequences)
        epochs = mixture.epochs(training.steps, training.batch_sequences)
        for source in facts["conversations"]:
            code, _, kind = source.partition("/")
            text = shares.get(text_source(code), 0.0) if not kind else 0.0
            yield ConversationRow(
                stage=stage, language=code, kind=kind, conversations=facts["conversations"][source],
                too_long=facts["too_long"][source], contaminated=facts["contaminated"][source],
                in_corpus=facts["in_corpus"][source], filled=facts["filled"][source], share=shares.get(source, 0.0) + text,
                epochs=epochs.get(source, 0.0))
