"""Text to tokens: languages are gathered, cleaned and split side by side; then one tokenizer, trained or the base's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sea_ray.corpus.documents import Documents
from sea_ray.corpus.gather import gather_documents
from sea_ray.corpus.tokenized import TokenizedCorpus, tokenize_documents
from sea_ray.corpus.tokenizer import train_tokenizer
from sea_ray.evaluation.benchmarks import read_all
from sea_ray.evaluation.contamination import Contamination, benchmark_texts
from sea_ray.execution import StageContext
from sea_ray.stages.configs import CorpusStage


def gather_shard(context: StageContext) -> Mapping[str, Any]:
    """Write the clean documents of every num_shards-th language."""
    config: CorpusStage = context.config
    mine = config.corpus.languages[context.shard :: context.num_shards]
    held_out = None
    if config.benchmarks.files:
        held_out = Contamination(benchmark_texts(read_all(config.benchmarks, config.corpus.languages))).find
    gather_documents(config.corpus, context.tracker, held_out, mine).save(context.folder)
    return {}


def tokenise(context: StageContext) -> Mapping[str, Any]:
    """Write `documents/` and `tokens/`; facts: the funnel, and documents, bytes and tokens per language and split."""
    config: CorpusStage = context.config
    parts = [Documents.load(folder) for folder in context.shards]
    texts = {code: part.texts[code] for code in config.corpus.languages for part in parts if code in part.texts}
    documents = Documents(texts=texts, funnel=tuple(row for code in texts for part in parts for row in part.funnel
                                                    if row.language == code))
    documents.save(context.folder / "documents")
    if config.tokenizer is not None:
        tokenizer = train_tokenizer(documents, config.tokenizer, config.seed)
    else:
        from sea_ray.training.checkpoint import Checkpoint

        assert config.base_checkpoint is not None
        tokenizer = Checkpoint.from_hub_or_path(config.base_checkpoint, config.base_revision).load_tokenizer()
    corpus = tokenize_documents(documents, tokenizer)
    corpus.save(context.folder / "tokens")
    return {
        "vocab_size": len(tokenizer),
        "funnel": documents.funnel,
        "sizes": {code: {split: {"documents": corpus.num_documents(code, split), "bytes": corpus.num_bytes(code, split),
                                 "tokens": corpus.num_tokens(code, split)}
                         for split in ("train", "validation", "test")} for code in corpus.languages},
    }


def load_corpus(context: StageContext, role: str = "corpus") -> TokenizedCorpus:
    """Return the tokenised corpus of a parent."""
    return TokenizedCorpus.load(context.parents[role] / "tokens")
