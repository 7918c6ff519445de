"""Batched inference over a transformers model: one thread, requests join and leave the batch at every step."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sea_ray.errors import ConfigError, MachineError
from sea_ray.neurons.pack import LanguagePack
from sea_ray.serving.exchange import Answer, Request, check_request
from sea_ray.serving.job import Job
from sea_ray.serving.key_values import KeyValues
from sea_ray.serving.pack_rows import PackRows
from sea_ray.serving.packed_weights import pack_weights, unpack_weights
from sea_ray.serving.prefixes import BLOCK_TOKENS, Block, Prefixes
from sea_ray.serving.scoring import score_positions, trimmed
from sea_ray.serving.token_text import TokenBytes

END_TOKENS = ("<|endoftext|>", "<|im_end|>")

GATHER_S = 0.002
"""How long an idle engine waits after a request for others to share its first pass."""

SIMILAR_TOKENS = 32
"""Prompts whose lengths differ by less, or by less than half, share a prefill; others would mostly compute padding."""


class TextEngine:
    """Scores and continues prompts with a model that it owns from now on."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, max_batch: int = 64,
                 prefill_tokens: int = 2048, prefix_bytes: int = 256_000_000) -> None:
        """Start the engine's thread.

        Args:
            model: causal language model, on its device; on a processor its large weights are packed in place.
            tokenizer: the model's.
            max_batch: answers in progress at a time.
            prefill_tokens: tokens of one pass over prompts, padding included, between two steps of the answers; a longer
                prompt takes several.
            prefix_bytes: most that beginnings of prompts take that are kept for others that begin alike; 0 keeps none.

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
        self.num_requests = 0
        """Submissions that are not answered yet."""
        self.num_reused_tokens = 0
        """Tokens of prompts that were known so far."""
        self._end_ids = end_ids(model.generation_config, tokenizer)
        self._max_batch = max_batch
        self.prefill_tokens = max(BLOCK_TOKENS, prefill_tokens // BLOCK_TOKENS * BLOCK_TOKENS)
        self._prefixes = Prefixes(prefix_bytes)
        pack_weights(model)
        self._packs = PackRows(model)
        self._answers = self._no_answers()
        self._active: list[Job] = []
        self._waiting: deque[Job] = deque()
        self._tasks: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="text-engine", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._waiting)

    @property
    def num_active(self) -> int:
        """Answers in progress."""
        return len(self._active)

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
            check_request(request, self.max_context, self.vocab_size)
            if request.pack is not None and request.pack not in self._packs:
                raise ConfigError("model", f"the language pack {request.pack!r} is not loaded")
        jobs = [Job(request, self.token_bytes, self.device, on_text) for request in requests]
        with self._changed:
            if self._closed:
                raise MachineError("the engine is closed")
            self._waiting.extend(jobs)
            self.num_requests += 1
            self._changed.notify()
        left = len(jobs)

        def count(_: Future[Answer]) -> None:
            nonlocal left
            with self._changed:
                left -= 1
                self.num_requests -= left == 0

        for job in jobs:
            job.future.add_done_callback(count)
        return [job.future for job in jobs]

    @contextlib.contextmanager
    def reference(self) -> Iterator[PreTrainedModel]:
        """Return the model itself, its weights as they came, for plain passes while nobody asks the engine."""
        self._packs.lay(())
        unpack_weights(self.model)
        try:
            yield self.model
        finally:
            pack_weights(self.model)

    def load_pack(self, name: str, pack: LanguagePack) -> int:
        """Hold a language pack beside the model, for requests that name it.

        Args:
            name: of the pack.
            pack: of a base of the model's shape.

        Returns:
            The bytes that it takes.

        Raises:
            DataError: the model has not what the pack changes.
        """
        self._in_thread(lambda: self._packs.load(name, pack))
        return self._packs.num_bytes(name)

    def _in_thread(self, change: Callable[[], None]) -> None:
        """Change something between two passes."""
        done: Future[None] = Future()

        def task() -> None:
            try:
                change()
                done.set_result(None)
            except Exception as error:  # it belongs to whoever asked
                done.set_exception(error)

        with self._changed:
            if self._closed:
                raise MachineError("the engine is closed")
            self._tasks.append(task)
            self._changed.notify()
        done.result()

    def close(self) -> None:
        """Stop the thread; what is unfinished fails with MachineError."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        with torch.inference_mode():
            while self._wait():
                while self._tasks:
                    self._tasks.popleft()()
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
        while self._tasks:
            self._tasks.popleft()()

    def _wait(self) -> bool:
        """Sleep until there is work; return whether to go on."""
        with self._changed:
            if self._closed or self._active or self._waiting:
                return not self._closed
            self._changed.wait_for(lambda: self._waiting or self._tasks or self._closed)
        time.sleep(GATHER_S)
        return not self._closed

    def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        for job in jobs:
            if not job.future.done() and job.future.set_running_or_notify_cancel():
                job.future.set_exception(error)
        self._active = []
        self._answers = self._no_answers()
        self._prefixes.clear()  # the machine's memory may be what has failed

    def _no_answers(self) -> KeyValues:
        return KeyValues(self.model, whole_steps=self.device.type == "cuda")

    def _drop_cancelled(self) -> None:
        if any(job.future.cancelled() for job in self._active):
            self._keep([not job.future.cancelled() for job in self._active])

    def _next_group(self) -> list[Job]:
        """Take the oldest waiting request and those that can share its pass.

        A prompt that begins as another of the pass waits for the next one, and goes on from there.
        """
        with self._changed:
            waiting = [job for job in self._waiting if not job.future.done()]  # cancelled, or failed in an earlier part
            group: list[Job] = []
            under_way: set[bytes] = set()
            first = widest = stays = 0
            for job in waiting:
                if (len(group) + 1) * widest > self.prefill_tokens:
                    break
                wants_place = job.request.max_new_tokens > 1
                if wants_place and len(self._active) + stays >= self._max_batch:
                    continue
                job.go_on_from(self._prefixes.known(job.keys, job.num_top))
                count, new_keys = self._count(job), job.keys[len(job.blocks):]
                if group and not self._share_pass(first, count, max(widest, count) * (len(group) + 1)):
                    continue
                if new_keys and new_keys[0] in under_way:
                    continue
                group.append(job)
                first, widest, stays = first or count, max(widest, count), stays + wants_place
                if self._prefixes.is_kept:
                    under_way.update(new_keys)
                    self._prefixes.use(job.keys[:len(job.blocks)])
            taken = set(map(id, group))
            self._waiting = deque(job for job in waiting if id(job) not in taken)
        return group

    def _share_pass(self, first: int, count: int, padded: int) -> bool:
        """Return whether so many tokens go with the first prompt's without much padding, and all of it is not too much."""
        low, high = min(first, count), max(first, count)
        return (high - low < SIMILAR_TOKENS or high < 1.5 * low) and padded <= self.prefill_tokens

    def _count(self, job: Job) -> int:
        """Return how many tokens of a prompt the next pass takes."""
        return min(job.num_left, self.prefill_tokens)

    def _prefill(self, group: list[Job]) -> None:
        """Pass over prompts, or their next part; who is through gives a first token and goes on as an answer."""
        rows = KeyValues(self.model)
        for job in group:
            rows.add([block.key_values for block in job.blocks])
            self.num_reused_tokens += job.num_known
        counts = [self._count(job) for job in group]
        self._packs.lay([job.request.pack for job in group])
        hidden_BSD = rows.advance([job.request.prompt_ids[job.num_known:job.num_known + count]
                                   for job, count in zip(group, counts, strict=True)])
        self._score(group, counts, hidden_BSD)
        through = [row for row, (job, count) in enumerate(zip(group, counts, strict=True)) if count == job.num_left]
        for row, (job, count) in enumerate(zip(group, counts, strict=True)):
            self._keep_blocks(job, count, row, rows, hidden_BSD[row])
        if len(through) < len(group):
            with self._changed:
                self._waiting.extendleft(job for row, job in enumerate(group) if row not in set(through))
        last_N = torch.tensor([counts[row] - 1 for row in through], dtype=torch.long, device=self.device)
        hidden_ND = hidden_BSD[torch.tensor(through, dtype=torch.long, device=self.device), last_N]
        done = self._take([group[row] for row in through], self.model.get_output_embeddings()(hidden_ND).float())
        for row, is_done in zip(through, done, strict=True):
            if not is_done:
                self._answers.add([rows.read(row)])
                self._active.append(group[row])

    def _score(self, group: Sequence[Job], counts: Sequence[int], hidden_BSD: torch.Tensor) -> None:
        """Add the log-probabilities of a pass' tokens to the prompts that want them, all in one go."""
        hidden, targets, wanted = [], list[int](), []
        for row, (job, count) in enumerate(zip(group, counts, strict=True)):
            if job.num_top is not None:
                if job.blocks:  # the last token before these predicts the first of them
                    hidden.append(job.blocks[-1].last_hidden_D[None])
                hidden.append(hidden_BSD[row, :count - 1])
                own = job.request.prompt_ids[max(job.num_known, 1):job.num_known + count]
                targets += own
                wanted.append((job, job.num_top, len(own)))
        if not targets:
            return
        scores = score_positions(self.model.get_output_embeddings(), torch.cat(hidden),
                                 torch.tensor(targets, device=self.device), max(top for _, top, _ in wanted))
        start = 0
        for job, top, number in wanted:
            job.prompt_logprobs += [trimmed(score, top) for score in scores[start:start + number]]
            start += number

    def _keep_blocks(self, job: Job, count: int, row: int, rows: KeyValues, hidden_SD: torch.Tensor) -> None:
        """Keep what a pass computed of a prompt, for its next part and for others that begin alike."""
        known, is_through = len(job.blocks), count == job.num_left
        if is_through and not self._prefixes.is_kept:
            return
        start, end = job.num_known, min((job.num_known + count) // BLOCK_TOKENS, len(job.keys))
        for number in range(known, end):
            first, after = number * BLOCK_TOKENS, (number + 1) * BLOCK_TOKENS
            job.blocks.append(Block(
                key_values=rows.read(row, first, after).clone(), last_hidden_D=hidden_SD[after - 1 - start].clone(),
                scores=() if job.num_top is None else tuple(job.prompt_logprobs[first:after]), num_top=job.num_top or 0))
        self._prefixes.add(job.keys[:end], job.blocks[known:])
        if is_through:
            job.blocks = []

    def _step(self) -> None:
        """Extend every answer by a token."""
        packs = [job.request.pack for job in self._active]
        self._packs.lay(packs)
        hidden_BSD = self._answers.advance([job.ids[-1:] for job in self._active], whole=not any(packs))
        done = self._take(self._active, self.model.get_output_embeddings()(hidden_BSD[:, 0]).float())
        if any(done):
            self._keep([not each for each in done])

    def _take(self, jobs: Sequence[Job], logits_BV: torch.Tensor) -> list[bool]:
        """Give each request its next logits; return which are complete."""
        likeliest_B = logits_BV.argmax(-1).tolist()
        return [job.take(logits_V, likeliest, self._end_ids)
                for job, logits_V, likeliest in zip(jobs, logits_BV, likeliest_B, strict=True)]

    def _keep(self, kept: Sequence[bool]) -> None:
        rows = [row for row, keep in enumerate(kept) if keep]
        self._active = [self._active[row] for row in rows]
        self._answers.keep(rows)


def end_ids(generation: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that end an answer: the generation config's, the tokenizer's, and the end of a chat turn."""
    vocabulary = tokenizer.get_vocab()
    ends = {vocabulary[name] for name in END_TOKENS if name in vocabulary}
    for own in (tokenizer.eos_token_id, getattr(generation, "eos_token_id", None)):
        ends.update(own if isinstance(own, list) else [] if own is None else [own])
    return frozenset(ends)
