"""A model behind an OpenAI-compatible endpoint as a Generator."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import httpx
from transformers import PreTrainedTokenizerBase

from sea_ray.errors import ConfigError, DataError, MachineError
from sea_ray.evaluation.generator import LogLikelihood, Message
from sea_ray.evaluation.scoring import Span, SpanScore
from sea_ray.evaluation.tokens import RequestTokens

T = TypeVar("T")
R = TypeVar("R")

_RETRIED = frozenset({500, 502, 503, 504})
_ATTEMPTS = 5
_FIRST_WAIT_S = 0.25
_BUSY = 429
_LONGEST_WAIT_S = 600.0
"""For a server that is busy: it says so, and when to come again."""


class ChatGenerator:
    """Asks through /chat/completions alone: as much of a Generator as questions in a chat need.

    The server applies its own chat template, so that no tokenizer is needed; nothing can be scored.
    """

    max_tokens = sys.maxsize
    """Context length of the served model, tokens; not known here: the server refuses what is too long."""

    def __init__(self, url: str, api_key: str, model_name: str, *, concurrency: int = 32, timeout_s: float = 120.0,
                 transport: httpx.BaseTransport | None = None) -> None:
        """Connect; nothing is asked yet.

        Args:
            url: root of the API, such as "http://127.0.0.1:8000/v1".
            api_key: sent as bearer token; "" sends none.
            model_name: as /models lists it.
            concurrency: requests in flight.
            timeout_s: longest wait for one answer, seconds.
            transport: stands in for the network in tests.
        """
        self._url, self._model, self._concurrency = url.rstrip("/"), model_name, concurrency
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(headers=headers, timeout=timeout_s, transport=transport)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def chat(self, conversations: Sequence[Sequence[Message]], max_new_tokens: int) -> list[str]:
        """Return greedy assistant turns; one that the server keeps back is empty.

        Raises:
            ConfigError: unknown model or refused key.
            DataError: the server takes no such request, or answers what is no chat completion.
            MachineError: nobody answers.
        """

        def ask(conversation: Sequence[Message]) -> str:
            body = {"messages": [dict(message) for message in conversation], "max_tokens": max_new_tokens}
            answer = self._post("/chat/completions", {"model": self._model, "temperature": 0, **body})
            return str(answer["choices"][0]["message"]["content"] or "")

        return self._concurrently(ask, conversations)

    def _concurrently(self, ask: Callable[[T], R], items: Sequence[T]) -> list[R]:
        with ThreadPoolExecutor(self._concurrency) as pool:
            futures = [pool.submit(ask, item) for item in items]
            try:
                return [future.result() for future in futures]
            finally:
                for future in futures:  # after an error the requests that have not started are not sent
                    future.cancel()

    def _post(self, path: str, body: dict[str, object]) -> dict[str, Any]:
        problem, attempt, end = "", 0, time.monotonic() + _LONGEST_WAIT_S
        while attempt < _ATTEMPTS:
            if attempt:
                time.sleep(_FIRST_WAIT_S * 2**attempt)
            try:
                response = self._client.post(self._url + path, json=body)
            except httpx.TransportError as error:
                problem, attempt = f"{type(error).__name__}: {error}", attempt + 1
                continue
            if response.status_code == _BUSY and time.monotonic() < end:
                time.sleep(_wait_s(response))
                continue
            attempt += 1
            if response.status_code not in _RETRIED | {_BUSY}:
                return self._read(response, path)
            problem = f"status {response.status_code}: {response.text[:200]}"
        raise MachineError(f"{self._url}{path} failed {_ATTEMPTS} times ({problem}); see that the server is up")

    def _read(self, response: httpx.Response, path: str) -> dict[str, Any]:
        if response.status_code in (401, 403):
            raise ConfigError("evaluation", f"{self._url} refuses the API key; give the key that the server asks for")
        if response.status_code == 404:
            raise ConfigError("evaluation", f"{self._url}{path} or its model {self._model!r} is unknown; see /models")
        if response.is_error:
            raise DataError(f"{self._url}{path} answered {response.status_code}: {response.text[:300]}")
        try:
            answer = response.json()
        except ValueError as error:
            raise DataError(f"{self._url}{path} answered what is no JSON: {response.text[:100]!r}") from error
        if not isinstance(answer, dict) or "choices" not in answer:
            raise DataError(f"{self._url}{path} answered without choices: {response.text[:200]!r}")
        return answer


class HttpGenerator(ChatGenerator):
    """Scores through /completions (echo, logprobs) and generates through /completions and /chat/completions.

    Prompts go as token ids, made with the checkpoint's own tokenizer, so that server and client cannot disagree about
    where a continuation begins. Requests are sent concurrently, several prompts in each.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        model_name: str,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_tokens: int,
        concurrency: int = 32,
        prompts_per_request: int = 16,
        timeout_s: float = 120.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Connect, and ask for the log-probabilities of one prompt to see that the endpoint gives them.

        Args:
            url: root of the API, such as "http://127.0.0.1:8000/v1".
            api_key: sent as bearer token; "" sends none.
            model_name: as /models lists it.
            tokenizer: of the served checkpoint.
            max_tokens: context length of the served model.
            concurrency: requests in flight.
            prompts_per_request: prompts of one scoring or completion request.
            timeout_s: longest wait for one answer, seconds.
            transport: stands in for the network in tests.

        Raises:
            ConfigError: unknown model, refused key, or an endpoint without prompt log-probabilities.
            MachineError: nobody answers.
        """
        super().__init__(url, api_key, model_name, concurrency=concurrency, timeout_s=timeout_s, transport=transport)
        self.max_tokens, self._prompts_per_request = max_tokens, prompts_per_request
        self._tokens = RequestTokens(tokenizer, max_tokens)
        self._score([Span([self._tokens.prefix_id, *self._tokens.encode("a b c")], 1)])

    def loglikelihoods(self, requests: Sequence[tuple[str, str]]) -> list[LogLikelihood]:
        """Score continuations, each given its context; an empty context is an end-of-text token."""
        spans = [self._tokens.choice(context, continuation) for context, continuation in requests]
        return [
            LogLikelihood(score.logprob, len(span.ids) - span.start, score.is_greedy)
            for score, span in zip(self._score_all(spans), spans, strict=True)
        ]

    def rolling_loglikelihoods(self, texts: Sequence[str]) -> list[float]:
        """Return the nats (log-probability, negative) of whole texts, the first token given an end-of-text token."""
        spans = [self._tokens.rolling(text) for text in texts]
        scores = iter(self._score_all([span for part in spans for span in part]))
        return [sum(next(scores).logprob for _ in part) for part in spans]

    def complete(self, prompts: Sequence[str], max_new_tokens: int, stop: Sequence[str] = ()) -> list[str]:
        """Return greedy continuations without the prompt, cut before the first stop string."""
        ids = [self._tokens.prompt(prompt, max_new_tokens) for prompt in prompts]
        body: dict[str, object] = {"max_tokens": max_new_tokens}
        if stop:
            body["stop"] = list(stop)

        def ask(group: Sequence[list[int]]) -> list[str]:
            return [str(choice["text"]) for choice in self._completions(group, body)]

        return [text for part in self._concurrently(ask, self._groups(ids)) for text in part]

    def render(self, conversation: Sequence[Message]) -> str:
        """Return a conversation in the tokenizer's chat template, up to where the assistant speaks."""
        return self._tokens.render(conversation)

    def _score_all(self, spans: Sequence[Span]) -> list[SpanScore]:
        order = sorted(range(len(spans)), key=lambda number: len(spans[number].ids))
        groups = self._groups([spans[number] for number in order])
        scores = [score for part in self._concurrently(self._score, groups) for score in part]
        placed = dict(zip(order, scores, strict=True))
        return [placed[number] for number in range(len(spans))]

    def _score(self, spans: Sequence[Span]) -> list[SpanScore]:
        """Score a few spans in one request; max_tokens is 1 because not every server takes 0."""
        choices = self._completions([list(span.ids) for span in spans], {"max_tokens": 1, "echo": True, "logprobs": 1})
        return [self._read_score(span, choice) for span, choice in zip(spans, choices, strict=True)]

    def _read_score(self, span: Span, choice: dict[str, Any]) -> SpanScore:
        found = choice.get("logprobs") or {}
        logprobs = (found.get("token_logprobs") or [])[span.start : len(span.ids)]
        tops = (found.get("top_logprobs") or [])[span.start : len(span.ids)]
        if len(logprobs) < len(span.ids) - span.start or None in logprobs:
            raise ConfigError(
                "evaluation",
                f"{self._url} gives no log-probabilities of the prompt (echo with logprobs): everything would score as "
                f"chance; serve the checkpoint with `sea-ray serve` or vLLM",
            )
        greedy = len(tops) == len(logprobs) and all(
            bool(top) and own >= max(top.values()) for own, top in zip(logprobs, tops, strict=True)
        )
        return SpanScore(float(sum(logprobs)), greedy)

    def _completions(self, prompts: Sequence[list[int]], body: dict[str, object]) -> list[dict[str, Any]]:
        request = {"model": self._model, "prompt": [list(prompt) for prompt in prompts], "temperature": 0, **body}
        choices = self._post("/completions", request)["choices"]
        if len(choices) != len(prompts):
            raise ConfigError("evaluation", f"{self._url} gave {len(choices)} choices for {len(prompts)} prompts")
        return sorted(choices, key=lambda choice: int(choice["index"]))

    def _groups(self, items: Sequence[T]) -> list[Sequence[T]]:
        size = self._prompts_per_request
        return [items[start : start + size] for start in range(0, len(items), size)]


def _wait_s(response: httpx.Response) -> float:
    """Return the seconds after which a busy server wants to be asked again."""
    wanted = response.headers.get("Retry-After", "")
    return min(float(wanted), _LONGEST_WAIT_S) if wanted.isdigit() else 2 * _FIRST_WAIT_S
