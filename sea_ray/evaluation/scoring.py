"""Log-likelihoods of token spans under a causal language model, many at a time.

Shape letters: B rows of a batch, T tokens, N targets, D d_model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

PLAIN_OUTPUT = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Model types whose logits are the output matrix times the last hidden state and nothing else: there logits are made at
the targets only. Others (scaled or capped logits) go through their own head."""

BATCH_TOKENS = 4096
"""Tokens of one forward pass, padding included."""
_CHUNK_LOGITS = 1 << 22
"""Logits that exist at a time: 16 MB."""


@dataclass(frozen=True)
class Span:
    """Tokens of which the last ones are scored, each given all before it."""

    ids: Sequence[int]
    """At least two tokens."""
    start: int
    """Index of the first scored token, at least 1."""


@dataclass(frozen=True)
class SpanScore:
    """What a model says of a span's scored tokens."""

    logprob: float
    """Sum of their log-probabilities, nats."""
    is_greedy: bool
    """Whether each of them is the model's first choice."""


@dataclass
class _Row:
    """One input of the model and the spans that are read off it."""

    inputs: tuple[int, ...]
    spans: list[int]


def score_spans(model: PreTrainedModel, spans: Sequence[Span], batch_tokens: int = BATCH_TOKENS) -> list[SpanScore]:
    """Return sum_t log p(ids[t] | ids[:t]) over t >= start for each span.

    Rows are padded on the right, where causal attention never looks, so the batch changes nothing. Spans that differ in
    their last token only (the letters of an exam question) share one row.

    Args:
        model: causal language model; it is put into evaluation mode for the time.
        spans: tokens and where scoring starts.
        batch_tokens: tokens of one forward pass, padding included; a longer span is a batch of its own.

    Returns:
        Scores in the order of the spans.
    """
    scores: list[SpanScore | None] = [None] * len(spans)
    with evaluating(model):
        for rows in _batches(_unique_rows(spans), batch_tokens):
            numbers = [number for row in rows for number in row.spans]
            for number, score in zip(numbers, _score_batch(model, rows, spans), strict=True):
                scores[number] = score
    return [score for score in scores if score is not None]


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Put a model into evaluation mode without gradients, and back."""
    before = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(before)


def _unique_rows(spans: Sequence[Span]) -> list[_Row]:
    rows: dict[tuple[int, ...], _Row] = {}
    for number, span in enumerate(spans):
        if not 1 <= span.start < len(span.ids):
            raise ValueError(f"span of {len(span.ids)} tokens scored from {span.start}: it needs 1 <= start < length")
        inputs = tuple(span.ids[:-1])
        rows.setdefault(inputs, _Row(inputs, [])).spans.append(number)
    return sorted(rows.values(), key=lambda row: len(row.inputs))


def _batches(rows: list[_Row], batch_tokens: int) -> Iterator[list[_Row]]:
    """Yield rows of similar length; they come sorted, so the last of a batch is its longest."""
    batch: list[_Row] = []
    for row in rows:
        if batch and len(row.inputs) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _score_batch(model: PreTrainedModel, rows: list[_Row], spans: Sequence[Span]) -> list[SpanScore]:
    width = len(rows[-1].inputs)
    ids_BT = torch.tensor([[*row.inputs, *[0] * (width - len(row.inputs))] for row in rows], device=model.device)
    places: list[int] = []
    targets: list[int] = []
    counts: list[int] = []
    for line, row in enumerate(rows):
        for number in row.spans:
            span = spans[number]
            places += range(line * width + span.start - 1, line * width + len(span.ids) - 1)
            targets += span.ids[span.start :]
            counts.append(len(span.ids) - span.start)
    place_N = torch.tensor(places, device=model.device)
    target_N = torch.tensor(targets, device=model.device)
    logprob_N, greedy_N = _target_logprobs(model, ids_BT, place_N, target_N)
    parts = zip(logprob_N.double().cpu().split(counts), greedy_N.cpu().split(counts), strict=True)
    return [SpanScore(float(logprobs.sum()), bool(greedy.all())) for logprobs, greedy in parts]


def _target_logprobs(
    model: PreTrainedModel, ids_BT: torch.Tensor, place_N: torch.Tensor, target_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probability of each target at its place (flat index b * T + t), and whether it is the argmax."""
    if model.config.model_type in PLAIN_OUTPUT:
        hidden_BTD = model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state
        source_ND, head = hidden_BTD.flatten(0, 1)[place_N], model.get_output_embeddings()
    else:
        source_ND, head = model(input_ids=ids_BT, use_cache=False).logits.flatten(0, 1)[place_N], torch.nn.Identity()
    chunk = max(1, _CHUNK_LOGITS // model.config.vocab_size)
    logprobs, greedy = [], []
    for part_ND, target in zip(source_ND.split(chunk), target_N.split(chunk), strict=True):
        logits_NV = head(part_ND).float()
        chosen = logits_NV.gather(1, target[:, None]).squeeze(1)
        logprobs.append(chosen - logits_NV.logsumexp(1))
        greedy.append(logits_NV.argmax(1) == target)
    return torch.cat(logprobs), torch.cat(greedy)
