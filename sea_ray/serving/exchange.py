"""What the engine is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Request:
    """One prompt: to score, to continue, or both."""

    prompt_ids: tuple[int, ...]
    """Tokens, at least one; nothing is added to them."""
    max_new_tokens: int
    """Longest answer; 0 only scores."""
    score_prompt: bool = False
    """Whether to return the log-probability of each token of the prompt."""
    top_logprobs: int | None = None
    """Likeliest tokens to return beside each log-probability; None returns no log-probabilities of the answer."""
    number: int = 0
    """Which of several answers to one prompt this is."""
    temperature: float = 0.0
    """Below 1e-4 the likeliest token is taken; else tokens are drawn from softmax(logits / temperature)."""
    top_p: float = 1.0
    """Draw only from the likeliest tokens that hold this share of the probability."""
    seed: int | None = None
    """Of the draws; None draws differently each time."""
    pack: str | None = None
    """Language pack that the model reads and answers with; None: the model itself."""
    stop: tuple[str, ...] = ()
    """Strings before which the answer is cut."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token, its log-probability (natural, at temperature 1) and the likeliest tokens in its place."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of a request."""

    token_ids: tuple[int, ...]
    """Generated tokens, with the end token if it came."""
    text: str
    """Their text, without special tokens, cut before a stop string."""
    finish_reason: Literal["stop", "length"]
    """Whether an end token or stop string ended it, or its length."""
    prompt_logprobs: tuple[TokenLogprob | None, ...] = ()
    """One per prompt token, if asked for; the first is None, nothing predicts it."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """One per token of token_ids, if asked for."""
