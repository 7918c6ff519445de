"""Batched inference over a transformers model: one thread, requests join and leave the batch at every step."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sea_ray.errors import ConfigError, MachineError
from sea_ray.serving.exchange import Answer, Request, TokenLogprob
from sea_ray.serving.scoring import GREEDY_TEMPERATURE, draw_token, score_positions, token_logprobs
from sea_ray.serving.slots import Slots
from sea_ray.serving.token_text import TextStream, TokenBytes

END_TOKENS = ("<|endoftext|>", "<|im_end|>")

GATHER_S = 0.002
"""How long an idle engine waits after a request for others to share its first pass."""

SIMILAR_TOKENS = 32
"""Prompts whose lengths differ by less, or by less than half, share a prefill; others would mostly compute padding."""


class _Job:
    """A request on its way through the engine."""

    def __init__(self, request: Request, engine: TextEngine, on_text: Callable[[str], None] | None) -> None:
        self.request, self.on_text = request, on_text
        self.future: Future[Answer] = Future()
        self.ids: list[int] = []
        self.stream = TextStream(engine.token_bytes, request.stop)
        self.prompt_logprobs: list[TokenLogprob | None] = []
        self.logprobs: list[TokenLogprob] = []
        self.generator: torch.Generator | None = None
        if request.temperature > 0 and request.seed is not None:
            self.generator = torch.Generator(device=engine.device).manual_seed(request.seed)

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
            prompt_logprobs=tuple(self.prompt_logprobs), logprobs=tuple(self.logprobs))
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(answer)
        return True


class TextEngine:
    """Scores and continues prompts with a model that it owns from now on."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, max_batch: int = 64,
                 prefill_tokens: int = 8192) -> None:
        """Start the engine's thread.

        Args:
            model: causal language model, on its device.
            tokenizer: the model's.
            max_batch: answers in progress at a time.
            prefill_tokens: tokens of one pass over prompts, padding included; a longer prompt goes alone.

        Raises:
            ConfigError: if the model's attention slides over a window, which the cache here does not follow, or the
                tokenizer is not byte-level.
        """
        if "sliding_attention" in (getattr(model.config, "layer_types", None) or ()):
            raise ConfigError("", "the model's attention slides over a window; this engine keeps whole contexts only")
        self.model, self.tokenizer, self.token_bytes = model.eval(), tokenizer, TokenBytes(tokenizer)
        self.device = model.device
        self.max_context: int = model.config.max_position_embeddings
        self.vocab_size: int = model.config.vocab_size
        self._end_ids = end_ids(model, tokenizer)
        self._max_batch, self._prefill_tokens = max_batch, prefill_tokens
        self._slots = Slots(model)
        self._active: list[_Job] = []
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="text-engine", daemon=True)
        self._thread.start()

    @property
    def num_pending(self) -> int:
        """Requests that wait or are being answered."""
        return len(self._waiting) + len(self._active)

    def submit(self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None
               ) -> list[Future[Answer]]:
        """Take requests; cancelling a future frees its place at the next step.

        Args:
            requests: prompts within the model's context and vocabulary.
            on_text: called from the engine's thread with each new piece of text.

        Raises:
            ConfigError: a prompt is empty, too long with its answer, or has ids beyond the vocabulary.
            MachineError: if the engine is closed.
        """
        for request in requests:
            self._check(request)
        jobs = [_Job(request, self, on_text) for request in requests]
        with self._changed:
            if self._closed:
                raise MachineError("the engine is closed")
            self._waiting.extend(jobs)
            self._changed.notify()
        return [job.future for job in jobs]

    def _check(self, request: Request) -> None:
        length = len(request.prompt_ids)
        if length == 0:
            raise ConfigError("prompt", "it is empty; at least one token is needed")
        if length + request.max_new_tokens > self.max_context:
            raise ConfigError("prompt", f"{length} tokens of prompt and {request.max_new_tokens} of answer exceed the "
                                        f"model's context of {self.max_context} tokens")
        if min(request.prompt_ids) < 0 or max(request.prompt_ids) >= self.vocab_size:
            raise ConfigError("prompt", f"token ids must be in 0..{self.vocab_size - 1}")

    def close(self) -> None:
        """Stop the thread; what is unfinished fails with MachineError."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        with torch.inference_mode():
            while self._wait():
                self._drop_cancelled()
                group = self._next_group()
                try:
                    if group:
                        self._prefill(group)
                    if self._active:
                        self._step()
                except Exception as error:  # the thread must live: the error belongs to those that were computed
                    self._fail([*group, *self._active], error)
        self._fail([*self._waiting, *self._active], MachineError("the engine is closed"))

    def _wait(self) -> bool:
        """Sleep until there is work; return whether to go on."""
        with self._changed:
            if self._closed or self._active or self._waiting:
                return not self._closed
            self._changed.wait_for(lambda: self._waiting or self._closed)
        time.sleep(GATHER_S)
        return not self._closed

    def _fail(self, jobs: Sequence[_Job], error: Exception) -> None:
        for job in jobs:
            if not job.future.done() and job.future.set_running_or_notify_cancel():
                job.future.set_exception(error)
        self._active = []
        self._slots.keep([])

    def _drop_cancelled(self) -> None:
        if any(job.future.cancelled() for job in self._active):
            self._keep([not job.future.cancelled() for job in self._active])

    def _next_group(self) -> list[_Job]:
        """Take the oldest waiting request and those that can share its pass."""
        with self._changed:
            waiting = [job for job in self._waiting if not job.future.cancelled()]
            group: list[_Job] = []
            for job in waiting:
                if self._fits(job, group):
                    group.append(job)
            taken = set(map(id, group))
            self._waiting = deque(job for job in waiting if id(job) not in taken)
        return group

    def _fits(self, job: _Job, group: list[_Job]) -> bool:
        stays = sum(other.request.max_new_tokens > 1 for other in group)
        if job.request.max_new_tokens > 1 and len(self._active) + stays >= self._max_batch:
            return False
        if not group:
            return True
        first, length = len(group[0].request.prompt_ids), len(job.request.prompt_ids)
        low, high = min(first, length), max(first, length)
        widest = max(length, *(len(other.request.prompt_ids) for other in group))
        return (high - low < SIMILAR_TOKENS or high < 1.5 * low) and (len(group) + 1) * widest <= self._prefill_tokens

    def _prefill(self, group: list[_Job]) -> None:
        """Pass over whole prompts, padded on the right, where causal attention never looks."""
        lengths = [len(job.request.prompt_ids) for job in group]
        ids_BL = torch.zeros(len(group), max(lengths), dtype=torch.long)
        for row, job in enumerate(group):
            ids_BL[row, :lengths[row]] = torch.tensor(job.request.prompt_ids)
        ids_BL = ids_BL.to(self.device)
        stays = [row for row, job in enumerate(group) if job.request.max_new_tokens > 1]
        output = self.model.base_model(input_ids=ids_BL, use_cache=bool(stays))
        hidden_BLD, head = output.last_hidden_state, self.model.get_output_embeddings()
        for row, job in enumerate(group):
            if job.request.score_prompt:
                job.prompt_logprobs = [None, *score_positions(
                    head, hidden_BLD[row, :lengths[row] - 1], ids_BL[row, 1:lengths[row]],
                    job.request.top_logprobs or 0)]
        last_B = torch.tensor(lengths, device=self.device) - 1
        logits_BV = head(hidden_BLD[torch.arange(len(group), device=self.device), last_B]).float()
        done = self._take(group, logits_BV)
        joining = [row for row in stays if not done[row]]
        if joining:
            output.past_key_values.batch_select_indices(torch.tensor(joining, device=self.device))
            self._slots.join(output.past_key_values, [lengths[row] for row in joining])
            self._active += [group[row] for row in joining]

    def _step(self) -> None:
        """Extend every answer by a token."""
        done = self._take(self._active, self._slots.advance([job.ids[-1] for job in self._active]))
        if any(done):
            self._keep([not each for each in done])

    def _take(self, jobs: Sequence[_Job], logits_BV: torch.Tensor) -> list[bool]:
        """Give each request its next logits; return which are complete."""
        likeliest_B = logits_BV.argmax(-1).tolist()
        return [job.take(logits_V, likeliest, self._end_ids)
                for job, logits_V, likeliest in zip(jobs, logits_BV, likeliest_B, strict=True)]

    def _keep(self, kept: Sequence[bool]) -> None:
        rows = [row for row, keep in enumerate(kept) if keep]
        self._active = [self._active[row] for row in rows]
        self._slots.keep(rows)


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that end an answer: the model's, the tokenizer's, and the end of a chat turn."""
    vocabulary = tokenizer.get_vocab()
    ends = {vocabulary[name] for name in END_TOKENS if name in vocabulary}
    for own in (tokenizer.eos_token_id, getattr(model.generation_config, "eos_token_id", None)):
        ends.update(own if isinstance(own, list) else [] if own is None else [own])
    return frozenset(ends)
