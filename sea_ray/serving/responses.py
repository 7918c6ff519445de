"""From the engine's answers to OpenAI's response bodies."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sea_ray.serving.exchange import Answer, Request, TokenLogprob
from sea_ray.serving.scoring import trimmed
from sea_ray.serving.token_text import TokenBytes


def usage(requests: Sequence[Request], answers: Sequence[Answer]) -> dict[str, int]:
    """Return the token counts of a request."""
    prompt = sum(len(request.prompt_ids) for request in requests if request.number == 0)
    completion = sum(len(answer.token_ids) for answer in answers)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def header(kind: str, model: str) -> dict[str, Any]:
    """Return the fields that open every response; a stream's chunks share one."""
    prefix = "cmpl" if kind == "text_completion" else "chatcmpl"
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def completion_choice(index: int, request: Request, answer: Answer, names: TokenBytes, *, echo: bool, logprobs: int | None
                      ) -> dict[str, Any]:
    """Return a choice of /v1/completions; with echo the prompt comes first, in text and log-probabilities alike.

    Args:
        index: of the choice.
        request, answer: to it.
        names: of tokens.
        echo: whether the prompt is repeated.
        logprobs: likeliest tokens beside each log-probability; None: there are no log-probabilities.
    """
    before = names.decode(request.prompt_ids) if echo else ""
    choice = {"index": index, "text": before + answer.text, "finish_reason": answer.finish_reason, "logprobs": None}
    if logprobs is None:
        return choice
    offsets = names.offsets(answer.token_ids, start=len(before), hide_special=True)
    ids, scores = list(answer.token_ids), list[TokenLogprob | None](answer.logprobs)
    if echo:
        ids = [*request.prompt_ids, *ids]
        offsets = names.offsets(request.prompt_ids) + offsets
        scores = [*answer.prompt_logprobs, *scores]
    return choice | {"logprobs": {
        "tokens": [names.name(token_id) for token_id in ids],
        "token_logprobs": [None if score is None else score.logprob for score in scores],
        "top_logprobs": [None if score is None else _top(score, logprobs, names) for score in scores],
        "text_offset": offsets}}


def prompt_logprobs(answer: Answer, top_k: int, names: TokenBytes) -> list[dict[str, Any] | None]:
    """Return, as vLLM's servers do, for each token of a prompt id -> log-probability of it and of the `top_k` likeliest."""
    scores = (trimmed(score, top_k) for score in answer.prompt_logprobs)
    return [None if score is None else _ranked(score, names) for score in scores]


def _ranked(score: TokenLogprob, names: TokenBytes) -> dict[str, Any]:
    """Return id -> log-probability, rank and text; the rank of what is not among the likeliest is not known."""
    ranked = {token_id: (logprob, rank) for rank, (token_id, logprob) in enumerate(score.top, 1)}
    return {str(token_id): {"logprob": logprob, "rank": rank, "decoded_token": names.name(token_id)}
            for token_id, (logprob, rank) in ({score.token_id: (score.logprob, None)} | ranked).items()}


def _top(score: TokenLogprob, top_k: int, names: TokenBytes) -> dict[str, float]:
    """Return name -> log-probability of the `top_k` likeliest tokens and of the token itself."""
    top = {names.name(token_id): logprob for token_id, logprob in reversed(score.top[:top_k])}  # of equal names the likeliest
    own = names.name(score.token_id)
    return top if own in top or not top else top | {own: score.logprob}


def chat_choice(index: int, request: Request, answer: Answer, names: TokenBytes, *, top_logprobs: int | None) -> dict[str, Any]:
    """Return a choice of /v1/chat/completions.

    Args:
        index: of the choice.
        request, answer: to it.
        names: of tokens.
        top_logprobs: likeliest tokens beside each log-probability; None: there are no log-probabilities.
    """
    logprobs = None
    if top_logprobs is not None:
        logprobs = {"content": [
            _chat_token(score.token_id, score.logprob, names)
            | {"top_logprobs": [_chat_token(token_id, logprob, names) for token_id, logprob in score.top[:top_logprobs]]}
            for score in answer.logprobs]}
    return {"index": index, "message": {"role": "assistant", "content": answer.text},
            "finish_reason": answer.finish_reason, "logprobs": logprobs}


def _chat_token(token_id: int, logprob: float, names: TokenBytes) -> dict[str, Any]:
    return {"token": names.name(token_id), "logprob": logprob, "bytes": list(names[token_id])}


def text_chunk(head: Mapping[str, Any], piece: str, finish_reason: str | None = None) -> dict[str, Any]:
    """Return a chunk of a streamed text completion."""
    return {**head, "choices": [{"index": 0, "text": piece, "finish_reason": finish_reason, "logprobs": None}]}


def chat_chunk(head: Mapping[str, Any], delta: Mapping[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    """Return a chunk of a streamed chat completion."""
    return {**head, "choices": [{"index": 0, "delta": dict(delta), "finish_reason": finish_reason, "logprobs": None}]}
