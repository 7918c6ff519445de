"""A transformers model of this process as a Generator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sea_ray.evaluation.decoding import decode_greedily
from sea_ray.evaluation.generator import LogLikelihood, Message
from sea_ray.evaluation.scoring import BATCH_TOKENS, evaluating, score_spans
from sea_ray.evaluation.tokens import RequestTokens


class LocalGenerator:
    """Scores and generates in batches of requests of similar length."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_tokens: int = BATCH_TOKENS,
        batch_rows: int = 128,
        cache_tokens: int = 65_536,
    ) -> None:
        """Make a generator.

        Args:
            model: causal language model, on its device.
            tokenizer: the model's.
            batch_tokens: tokens of one scoring pass, padding included.
            batch_rows: prompts that are answered at a time.
            cache_tokens: tokens of prompts and answers held in the key-value cache at a time.
        """
        self.max_tokens = int(model.config.max_position_embeddings)
        self._model, self._batch_tokens = model, batch_tokens
        self._batch_rows, self._cache_tokens = batch_rows, cache_tokens
        self._tokens = RequestTokens(tokenizer, self.max_tokens)
        ends = model.generation_config.eos_token_id if model.generation_config else None
        own = ends if isinstance(ends, list) else [] if ends is None else [ends]
        self._end_ids = self._tokens.end_ids | frozenset(own)

    def loglikelihoods(self, requests: Sequence[tuple[str, str]]) -> list[LogLikelihood]:
        """Score continuations, each given its context; an empty context is an end-of-text token."""
        spans = [self._tokens.choice(context, continuation) for context, continuation in requests]
        scores = score_spans(self._model, spans, self._batch_tokens)
        return [
            LogLikelihood(score.logprob, len(span.ids) - span.start, score.is_greedy)
            for score, span in zip(scores, spans, strict=True)
        ]

    def rolling_loglikelihoods(self, texts: Sequence[str]) -> list[float]:
        """Return the nats (log-probability, negative) of whole texts, the first token given an end-of-text token."""
        spans = [self._tokens.rolling(text) for text in texts]
        scores = iter(score_spans(self._model, [span for part in spans for span in part], self._batch_tokens))
        return [sum(next(scores).logprob for _ in part) for part in spans]

    def complete(self, prompts: Sequence[str], max_new_tokens: int, stop: Sequence[str] = ()) -> list[str]:
        """Return greedy continuations without the prompt, cut before the first stop string.

        Raises:
            DataError: a prompt and its answer do not fit the context.
        """
        ids = [self._tokens.prompt(prompt, max_new_tokens) for prompt in prompts]

        def is_done(answer: Sequence[int]) -> bool:
            text = self._tokens.decode(answer, ())
            return any(piece in text for piece in stop)

        answers = [""] * len(prompts)
        with evaluating(self._model):
            for batch in self._batches(ids, max_new_tokens):
                decoded = decode_greedily(
                    self._model, [ids[i] for i in batch], max_new_tokens, self._end_ids, is_done if stop else None
                )
                for number, tokens in zip(batch, decoded, strict=True):
                    answers[number] = self._tokens.decode(tokens, stop)
        return answers

    def chat(self, conversations: Sequence[Sequence[Message]], max_new_tokens: int) -> list[str]:
        """Return greedy assistant turns in the tokenizer's chat template."""
        return self.complete([self._tokens.render(conversation) for conversation in conversations], max_new_tokens)

    def render(self, conversation: Sequence[Message]) -> str:
        """Return a conversation in the tokenizer's chat template, up to where the assistant speaks."""
        return self._tokens.render(conversation)

    def _batches(self, ids: Sequence[Sequence[int]], max_new_tokens: int) -> Iterator[list[int]]:
        """Yield numbers of prompts of similar length, longest first: what does not fit the memory fails at once."""
        batch: list[int] = []
        room = 0
        for number in sorted(range(len(ids)), key=lambda i: -len(ids[i])):
            if batch and (len(batch) == self._batch_rows or (len(batch) + 1) * room > self._cache_tokens):
                yield batch
                batch = []
            room = room if batch else len(ids[number]) + max_new_tokens
            batch.append(number)
        if batch:
            yield batch
