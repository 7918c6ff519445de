"""A request on its way through the engine: what is read of its prompt, what is written of its answer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Literal

import torch

from sea_ray.serving.exchange import Answer, Request, TokenLogprob
from sea_ray.serving.prefixes import BLOCK_TOKENS, Block, block_keys
from sea_ray.serving.scoring import GREEDY_TEMPERATURE, draw_token, token_logprobs, trimmed
from sea_ray.serving.token_text import TextStream, TokenBytes


class Job:
    """A request on its way through the engine."""

    def __init__(self, request: Request, token_bytes: TokenBytes, device: torch.device, on_text: Callable[[str], None] | None
                 ) -> None:
        """Args: request: to answer; token_bytes: of the tokenizer; device: of draws; on_text: gets each new piece of text."""
        self.request, self.on_text = request, on_text
        self.future: Future[Answer] = Future()
        self.keys = block_keys(request.prompt_ids, request.pack)
        self.blocks: list[Block] = []
        """What is computed of the prompt so far, or was known."""
        self.ids: list[int] = []
        self.stream = TextStream(token_bytes, request.stop)
        self.prompt_logprobs: list[TokenLogprob | None] = [None]
        self.logprobs: list[TokenLogprob] = []
        self.generator: torch.Generator | None = None
        if request.temperature > 0 and request.seed is not None:
            self.generator = torch.Generator(device=device).manual_seed(request.seed)

    @property
    def num_top(self) -> int | None:
        """Likeliest tokens beside each score of the prompt; None: there are no scores."""
        return self.request.top_logprobs or 0 if self.request.score_prompt else None

    @property
    def num_known(self) -> int:
        """Tokens of the prompt that are done with."""
        return BLOCK_TOKENS * len(self.blocks)

    @property
    def num_left(self) -> int:
        """Tokens of the prompt to compute."""
        return len(self.request.prompt_ids) - self.num_known

    def go_on_from(self, blocks: list[Block]) -> None:
        """Take the beginning of the prompt as known, unless more of it is already."""
        if len(blocks) > len(self.blocks):
            self.blocks = blocks
            if self.num_top is not None:
                self.prompt_logprobs = [trimmed(score, self.num_top) for block in blocks for score in block.scores]

    def take(self, logits_V: torch.Tensor, likeliest: int, end_ids: frozenset[int]) -> bool:
        """Choose the next token; return whether the answer is complete."""
        if self.request.max_new_tokens == 0:
            return self._finish("length")
        greedy = self.request.temperature < GREEDY_TEMPERATURE
        token = likeliest if greedy else draw_token(logits_V, self.request, self.generator)
        self.ids.append(token)
        if self.request.top_logprobs is not None:
            self.logprobs += token_logprobs(logits_V[None], logits_V.new_tensor([token], dtype=torch.long),
                                            self.request.top_logprobs)
        if token in end_ids:
            return self._finish("stop")
        self.stream.add(token)
        if self.stream.stopped:
            return self._finish("stop")
        if len(self.ids) >= self.request.max_new_tokens:
            return self._finish("length")
        self._show(final=False)
        return False

    def _show(self, final: bool) -> None:
        if self.on_text and (piece := self.stream.new_text(final)):
            self.on_text(piece)

    def _finish(self, reason: Literal["stop", "length"]) -> bool:
        self.stream.finish()
        self._show(final=True)
        answer = Answer(
            token_ids=tuple(self.ids), text=self.stream.text, finish_reason=reason,
            prompt_logprobs=() if self.num_top is None else tuple(self.prompt_logprobs),
            logprobs=tuple(self.logprobs))
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(answer)
        return True
