"""Bits per byte: what a model pays for a text, comparable across tokenizers and scripts (perplexity is not)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from sea_ray.evaluation.scoring import BATCH_TOKENS, Span, score_spans


def bits_per_byte(
    model: PreTrainedModel,
    tokens: NDArray[np.integer],
    num_bytes: int,
    eos_id: int,
    *,
    max_tokens: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> float:
    """Return -sum log2 p(token | its document so far) / bytes over a tokenised corpus part.

    The first token of a document is conditioned on the end-of-text token; end-of-text tokens themselves stand for no
    bytes and are not counted. It equals -sum(rolling_loglikelihoods) / ln 2 / bytes of the same documents.

    Args:
        model: causal language model.
        tokens: 1-D ids, each document followed by `eos_id`.
        num_bytes: UTF-8 bytes that the tokens encode.
        eos_id: end-of-text token.
        max_tokens: context length; None: the model's own.
        batch_tokens: tokens of one forward pass.
    """
    limit = max_tokens or int(model.config.max_position_embeddings)
    spans = [span for ids in split_documents(tokens, eos_id) for span in windows(ids, eos_id, limit)]
    if not spans or num_bytes < 1:
        raise ValueError(f"{len(tokens)} tokens of {num_bytes} bytes hold no text to measure")
    nats = -sum(score.logprob for score in score_spans(model, spans, batch_tokens))
    return nats / math.log(2) / num_bytes


def split_documents(tokens: NDArray[np.integer], eos_id: int) -> Iterator[list[int]]:
    """Yield the documents of a token array without their end-of-text tokens; empty ones are left out."""
    start = 0
    for end in [*np.flatnonzero(np.asarray(tokens) == eos_id).tolist(), len(tokens)]:
        if end > start:
            yield tokens[start:end].tolist()
        start = end + 1


def windows(ids: Sequence[int], prefix_id: int, max_tokens: int) -> Iterator[Span]:
    """Yield spans that score each token of a text once.

    A text longer than the context is cut into disjoint windows, each conditioned on the last token of the one before.
    A window leaves one place free, since an endpoint that echoes log-probabilities also makes a token.

    Args:
        ids: the text.
        prefix_id: what its first token is conditioned on.
        max_tokens: context length.
    """
    step = max_tokens - 2
    if step < 1:
        raise ValueError(f"a context of {max_tokens} tokens leaves no place for text; at least 3 are needed")
    for start in range(0, len(ids), step):
        before = ids[start - 1] if start else prefix_id
        yield Span([before, *ids[start : start + step]], 1)
