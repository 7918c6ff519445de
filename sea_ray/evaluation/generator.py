"""The border at which evaluation meets a model, in this process or behind an endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Message = Mapping[str, str]
"""A turn of a conversation: "role" (system, user, assistant) and "content"."""


@dataclass(frozen=True)
class LogLikelihood:
    """What a model says of a continuation."""

    logprob: float
    """Sum of the tokens' log-probabilities, nats."""
    num_tokens: int
    """Tokens of the continuation."""
    is_greedy: bool
    """Whether greedy decoding would have produced it."""


class Generator(Protocol):
    """A causal language model as evaluation sees it; every method answers in the order of its requests."""

    max_tokens: int
    """Context length, tokens."""

    def loglikelihoods(self, requests: Sequence[tuple[str, str]]) -> list[LogLikelihood]:
        """Score continuations, each given its context; an empty context is an end-of-text token."""

    def rolling_loglikelihoods(self, texts: Sequence[str]) -> list[float]:
        """Return the nats (log-probability, negative) of whole texts, the first token given an end-of-text token."""

    def complete(self, prompts: Sequence[str], max_new_tokens: int, stop: Sequence[str] = ()) -> list[str]:
        """Return greedy continuations without the prompt, cut before the first stop string."""

    def chat(self, conversations: Sequence[Sequence[Message]], max_new_tokens: int) -> list[str]:
        """Return greedy assistant turns in the model's own chat format."""

    def render(self, conversation: Sequence[Message]) -> str:
        """Return a conversation in the model's chat format, up to where the assistant speaks: a context to score."""
