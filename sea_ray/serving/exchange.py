"""What the engine is asked and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sea_ray.errors import ConfigError
from sea_ray.serving.token_text import TokenBytes


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


def check_request(request: Request, max_context: int, vocab_size: int) -> None:
    """Refuse what a model cannot read or has no room to answer.

    Args:
        request: to the model.
        max_context: tokens of a prompt and its answer.
        vocab_size: ids that the model knows.

    Raises:
        ConfigError: the prompt is empty, too long with its answer, or has ids beyond the vocabulary.
    """
    length = len(request.prompt_ids)
    if length == 0:
        raise ConfigError("prompt", "it is empty; at least one token is needed")
    if length + request.max_new_tokens > max_context:
        raise ConfigError("prompt", f"{length} tokens of prompt and {request.max_new_tokens} of answer exceed the model's "
                                    f"context of {max_context} tokens")
    if min(request.prompt_ids) < 0 or max(request.prompt_ids) >= vocab_size:
        raise ConfigError("prompt", f"token ids must be in 0..{vocab_size - 1}")


class Engine(Protocol):
    """What computes: prompts in, answers out, many at a time."""

    tokenizer: PreTrainedTokenizerBase
    """The model's."""
    token_bytes: TokenBytes
    """Of its tokens."""
    max_context: int
    """Tokens of a prompt and its answer."""
    vocab_size: int
    """Ids that the model knows."""
    num_requests: int
    """Submissions that are not answered yet."""
    prefill_tokens: int
    """Tokens of a prompt that are read at once; a longer one may be read in parts."""

    def reference(self) -> AbstractContextManager[PreTrainedModel]:
        """Return the model itself for plain passes, while the context is open; what it answers is what the engine must."""

    @property
    def num_waiting(self) -> int:
        """Prompts that wait for their turn."""

    @property
    def num_active(self) -> int:
        """Answers in progress."""

    def submit(self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None) -> list[Future[Answer]]:
        """Take requests; cancelling a future frees its place.

        Raises:
            ConfigError: a prompt that the model cannot read or has no room to answer.
            MachineError: the engine is closed.
        """

    def close(self) -> None:
        """Stop; what is unfinished fails."""
