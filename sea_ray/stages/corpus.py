"""Text to tokens: languages are gathered, cleaned and split side by side; then one tokenizer, trained or the base's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sea_ray.corpus.config import NewPieces, QualityConfig, TokenizerConfig
from sea_ray.corpus.documents import Documents
from sea_ray.corpus.gather import gather_documents
from sea_ray.corpus.new_pieces import add_pieces, learn_pieces, script_of
from sea_ray.corpus.tokenized import TokenizedCorpus, encode_texts, end_of_text_id, tokenize_documents
from sea_ray.corpus.tokenizer import train_tokenizer
from sea_ray.evaluation.benchmarks import held_out as texts_held_out
from sea_ray.evaluation.bits_per_byte import bits_per_byte
from sea_ray.evaluation.contamination import Contamination
from sea_ray.execution import StageContext
from sea_ray.stages.configs import CorpusStage
from sea_ray.training.checkpoint import Checkpoint


def gather_shard(context: StageContext) -> Mapping[str, Any]:
    """Write the clean documents of every num_shards-th language."""
    config: CorpusStage = context.config
    held_out, quality = None, config.corpus.quality
    if config.benchmarks.files:
        held_out = Contamination(texts_held_out(config.benchmarks, config.corpus.languages)).find
    documents = gather_documents(config.corpus, context.folder / "documents", tracker=context.tracker, held_out=held_out,
                                 perplexity=DocumentPerplexity(quality) if quality else None,
                                 languages=config.corpus.languages[context.shard :: context.num_shards], streams=context.streams)
    for code, first in {row.language: row for row in reversed(documents.overlaps)}.items():
        context.tracker.note(f"documents in {code} repeat benchmarks and are left out, such as row {first.row} of {first.file}, "
                             f"in which {first.item} stands")
    return {}


def tokenise(context: StageContext) -> Mapping[str, Any]:
    """Write `documents/` and `tokens/`; facts: funnel, sources, and documents, bytes and tokens per language and split.

    Where the tokenizer got new pieces, also how many of each language, and tokens per byte of the validation text, with
    end-of-text tokens, before and after.
    """
    config: CorpusStage = context.config
    parts = [Documents.load(folder / "documents", f"{address}/documents")
             for folder, address in zip(context.shards, context.shard_addresses, strict=True)]
    documents = Documents.join(parts, config.corpus.languages, context.folder / "documents")
    new_pieces: dict[str, Any] = {}
    if isinstance(config.tokenizer, TokenizerConfig):
        tokenizer: PreTrainedTokenizerBase = train_tokenizer(documents, config.tokenizer, config.seed)
    else:
        assert config.base_checkpoint is not None
        tokenizer = Checkpoint.from_hub_or_path(config.base_checkpoint, config.base_revision).load_tokenizer()
        if config.tokenizer is not None:
            new_pieces = _extend(tokenizer, documents, config.tokenizer, config.seed)
    corpus = tokenize_documents(documents, tokenizer, context.folder / "tokens", max_tokens=config.corpus.max_tokens_per_language,
                                streams=context.streams)
    if new_pieces:
        new_pieces["tokens_per_byte_after"] = {code: corpus.num_tokens(code, "validation") / corpus.num_bytes(code, "validation")
                                               for code in corpus.languages}
    return {
        **({"new_pieces": new_pieces} if new_pieces else {}),
        "vocab_size": len(tokenizer),
        "funnel": documents.funnel,
        "sources": documents.sources,
        "sizes": {code: {split: {"documents": corpus.num_documents(code, split), "bytes": corpus.num_bytes(code, split),
                                 "tokens": corpus.num_tokens(code, split)}
                         for split in ("train", "validation", "test")} for code in corpus.languages},
    }


def _extend(tokenizer: PreTrainedTokenizerBase, documents: Documents, config: NewPieces, seed: int) -> dict[str, Any]:
    """Give a tokenizer new pieces; facts: how many, and tokens per byte of the validation text before."""
    before = {}
    for code in documents.languages:
        texts = list(documents.texts(code, "validation"))
        encodings = encode_texts(texts, tokenizer, end_of_text_id(tokenizer))
        before[code] = sum(map(len, encodings)) / sum(len(text.encode()) for text in texts)
    pieces = learn_pieces(documents, tokenizer, config, seed)
    add_pieces(tokenizer, pieces)
    return {"count": len(pieces), "of": Counter(script_of(piece, config.languages) for piece in pieces),
            "tokens_per_byte_before": before}


class DocumentPerplexity:
    """Bits per byte of the beginning of a document under a small language model.

    Documents are weighed one at a time: in company, padding would move the last digits, and with them what is dropped.
    """

    def __init__(self, config: QualityConfig) -> None:
        """Args: config: names the model; each process that weighs loads it."""
        self._config = config

    @cached_property
    def _model(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        checkpoint = Checkpoint.from_hub_or_path(self._config.checkpoint, self._config.revision)
        model = checkpoint.load_model()
        return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), checkpoint.load_tokenizer()

    def __call__(self, text: str) -> float:
        """Return the bits per byte of a document that is not empty."""
        model, tokenizer = self._model
        eos_id = end_of_text_id(tokenizer)
        ids = encode_texts([text], tokenizer, eos_id)[0][: self._config.max_tokens]
        num_bytes = len(tokenizer.decode(ids, skip_special_tokens=True).encode())
        return bits_per_byte(model, np.array(ids), num_bytes, eos_id)


def load_corpus(context: StageContext, role: str = "corpus") -> TokenizedCorpus:
    """Return the tokenised corpus of a parent."""
    return TokenizedCorpus.load(context.parents[role] / "tokens")
