"""vLLM as the engine behind the same door: for GPUs, where its paged cache and kernels are ahead.

Written to vLLM 0.33, which binds other versions of torch and transformers than this project's lock: it is not among the
requirements, and a replica that uses it runs in an environment of its own. It has no language packs. Before a replica is ready,
its figures pass the same probe as the own engine's.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from sea_ray.errors import ConfigError, MachineError
from sea_ray.serving.exchange import Answer, Request, TokenLogprob, check_request
from sea_ray.serving.scoring import GREEDY_TEMPERATURE
from sea_ray.serving.token_text import TextStream, TokenBytes


class PagedEngine:
    """Scores and continues prompts with vLLM's asynchronous engine, which lives in an event loop of its own thread."""

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase, end_ids: frozenset[int], *, dtype: str,
                 max_batch: int) -> None:
        """Start vLLM on a checkpoint.

        Args:
            folder: Hugging Face model folder.
            tokenizer: the model's, byte-level.
            end_ids: tokens that end an answer.
            dtype: of the weights.
            max_batch: answers in progress at a time.

        Raises:
            MachineError: vLLM is not installed.
        """
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise MachineError("serving.engine=vllm needs vLLM, and it is not installed: pip install vllm, or take "
                               "serving.engine=transformers") from error
        self.tokenizer, self.token_bytes = tokenizer, TokenBytes(tokenizer)
        self.num_requests = self.num_active = 0
        self._closed = False
        self.prefill_tokens = 2048
        self._folder, self._dtype = folder, dtype
        self._end_ids = end_ids
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="paged-engine", daemon=True)
        self._thread.start()
        arguments = AsyncEngineArgs(model=str(folder), dtype=dtype, max_num_seqs=max_batch, enable_prefix_caching=True,
                                    trust_remote_code=False)

        async def start() -> Any:
            return AsyncLLM.from_engine_args(arguments)

        self._engine = asyncio.run_coroutine_threadsafe(start(), self._loop).result()
        config = self._engine.model_config
        self.max_context: int = config.max_model_len
        self.vocab_size: int = config.get_vocab_size()

    @contextlib.contextmanager
    def reference(self) -> Iterator[PreTrainedModel]:
        """Return the checkpoint as transformers loads it, on the processor beside vLLM's own, while the context is open."""
        model = AutoModelForCausalLM.from_pretrained(self._folder, dtype=getattr(torch, self._dtype), use_safetensors=True,
                                                     trust_remote_code=False, local_files_only=True)
        yield model.eval()

    @property
    def num_waiting(self) -> int:
        """Requests that wait for their turn; vLLM doesn't tell, so those that aren't answered yet."""
        return self.num_requests

    def submit(self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None) -> list[Future[Answer]]:
        """Take requests; cancelling a future ends it in vLLM, too.

        Args:
            requests: prompts within the model's context and vocabulary, without packs.
            on_text: called from the engine's thread with each new piece of text.

        Raises:
            ConfigError: a prompt is empty, too long with its answer, has ids beyond the vocabulary, or asks for a pack.
            MachineError: the engine is closed.
        """
        if self._closed:
            raise MachineError("the engine is closed")
        for request in requests:
            check_request(request, self.max_context, self.vocab_size)
            if request.pack is not None:
                raise ConfigError("model", "vLLM serves no language packs: take serving.engine=transformers")
        together = [asyncio.run_coroutine_threadsafe(self._answer(request, on_text), self._loop) for request in requests]
        left, lock = len(together), threading.Lock()
        self.num_requests += 1

        def count(_: Future[Answer]) -> None:
            nonlocal left
            with lock:
                left -= 1
                self.num_requests -= left == 0

        for future in together:
            future.add_done_callback(count)
        return together

    async def _answer(self, request: Request, on_text: Callable[[str], None] | None) -> Answer:
        """Follow one request; leaving the generator, by a stop string or because nobody waits, ends it in vLLM."""
        text, top = TextStream(self.token_bytes, request.stop), request.top_logprobs or 0
        ids, scores, prompt = list[int](), list[TokenLogprob | None](), list[TokenLogprob | None]()
        outputs = self._engine.generate({"prompt_token_ids": list(request.prompt_ids)}, self._sampling(request), uuid.uuid4().hex)
        self.num_active += 1
        ended = request.max_new_tokens == 0
        try:
            async for output in outputs:
                if output.prompt_logprobs and not prompt:
                    prompt = [_score(token, found, top)
                              for token, found in zip(request.prompt_ids, output.prompt_logprobs, strict=True)]
                own = output.outputs[0]
                for place, token in enumerate(own.token_ids):
                    if ended:
                        break
                    ids.append(token)
                    if request.top_logprobs is not None:
                        scores.append(_score(token, own.logprobs[place], top))
                    if token not in self._end_ids:
                        text.add(token)
                    ended = token in self._end_ids or text.stopped
                if ended:
                    break
                if on_text and (piece := text.new_text(final=False)):
                    on_text(piece)
        finally:
            self.num_active -= 1
            await outputs.aclose()
        text.finish()
        if on_text and (piece := text.new_text(final=True)):
            on_text(piece)
        return Answer(token_ids=tuple(ids), text=text.text, finish_reason="stop" if ended and ids else "length",
                      prompt_logprobs=tuple(prompt), logprobs=tuple(score for score in scores if score))

    def _sampling(self, request: Request) -> Any:
        """Return vLLM's parameters: it gives tokens and log-probabilities of the raw model, text is made here."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        greedy = request.temperature < GREEDY_TEMPERATURE
        top = request.top_logprobs or 0
        return SamplingParams(
            max_tokens=max(1, request.max_new_tokens), temperature=0.0 if greedy else request.temperature,
            top_p=1.0 if greedy else request.top_p, seed=request.seed, stop_token_ids=sorted(self._end_ids),
            logprobs=None if request.top_logprobs is None else top, prompt_logprobs=top if request.score_prompt else None,
            detokenize=False, output_kind=RequestOutputKind.DELTA)

    def close(self) -> None:
        """Stop vLLM; what is unfinished is cancelled."""
        self._closed = True

        async def stop() -> None:
            unfinished = asyncio.all_tasks() - {asyncio.current_task()}
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
            self._engine.shutdown()
            self._loop.call_soon(self._loop.stop)

        asyncio.run_coroutine_threadsafe(stop(), self._loop)
        self._thread.join(timeout=30)


def _score(token: int, found: Mapping[int, Any] | None, top_k: int) -> TokenLogprob | None:
    """Return a token's score out of vLLM's id -> log-probability with its rank; nothing predicts a first token."""
    if found is None:
        return None
    ranked = sorted((each.rank, token_id, float(each.logprob)) for token_id, each in found.items())
    return TokenLogprob(token, float(found[token].logprob), tuple((token_id, logprob) for _, token_id, logprob in ranked[:top_k]))
