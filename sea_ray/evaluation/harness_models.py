"""How lm-evaluation-harness meets a model: in this process, or through one of two routes of an OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sea_ray.evaluation.remote import ChatGenerator, HttpGenerator
from sea_ray.evaluation.tokens import RequestTokens

WRITTEN_ROWS = 32
"""Prompts that are answered at a time in this process, and in all requests in flight."""
_SCORED_LOGITS = 1 << 28
"""The harness makes the logits of whole prompts, in float32: 1 GB of them at a time."""
_LIKELY_TOKENS = 512
"""Of a prompt, for the number of prompts of a batch."""
_CONCURRENCY, _ATTEMPTS = 8, 6
_BUSY, _WAIT_S, _LONGEST_WAIT_S = 429, 1.0, 600.0
"""What a server says when others use it, and how often and how long it is asked again."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A model that the harness can ask."""

    lm: Any
    """lm_eval.api.model.LM."""
    tokenizer: PreTrainedTokenizerBase | None
    """None behind a chat route: there the server makes the prompts, and no text can be scored."""
    max_tokens: int
    """Longest prompt with its answer; behind a chat route not known, and the server refuses what is longer."""
    settings: Mapping[str, Any]
    """What is said of it in a report."""

    def cached(self, database: Path) -> Engine:
        """Return the same with answers kept in a file: what has been asked before costs nothing, also after an interruption.

        Args:
            database: SQLite file, of one model alone: its keys are requests, and no model is in them.
        """
        from lm_eval.api.model import CachingLM

        database.parent.mkdir(parents=True, exist_ok=True)
        return replace(self, lm=CachingLM(self.lm, str(database)))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the harness' bars, and its remarks on what is meant so, off the console."""
    from tqdm import tqdm

    logger, draw = logging.getLogger("lm_eval"), tqdm.__init__
    level = logger.level

    def drawn_nowhere(bar: Any, *args: Any, **settings: Any) -> None:
        draw(bar, *args, **{**settings, "disable": True})

    logger.setLevel(logging.ERROR)
    tqdm.__init__ = drawn_nowhere
    try:
        yield
    finally:
        tqdm.__init__ = draw
        logger.setLevel(level)


def in_process(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Engine:
    """Return a loaded model as the harness' `hf`.

    Its context is two tokens shorter than the model's, so that long texts are cut where the endpoint's are: that leaves one
    place for a token that a server makes, and one for the end-of-text token before a text.
    """
    from lm_eval.models.huggingface import HFLM

    max_tokens = int(model.config.max_position_embeddings)
    tokens = RequestTokens(tokenizer, max_tokens)
    own = model.generation_config.eos_token_id
    # A checkpoint may name one end of two; the harness then writes on and drops the mark by which an answer would be cut.
    model.generation_config.eos_token_id = sorted(tokens.end_ids | set(own if isinstance(own, list) else [own] if own else []))
    rows = max(1, min(WRITTEN_ROWS, _SCORED_LOGITS // (model.config.vocab_size * _LIKELY_TOKENS)))
    with quiet():
        lm = HFLM(pretrained=model.eval(), tokenizer=tokenizer, backend="causal", batch_size=rows, max_length=max_tokens - 2,
                  add_bos_token=False, prefix_token_id=tokens.prefix_id)
    return Engine(lm=lm, tokenizer=tokenizer, max_tokens=max_tokens, settings={"backend": "hf"})


def _patient(api: Any) -> Any:
    """Return one of the harness' models of an endpoint, which here waits for a busy server and cuts prompts where `hf` does."""
    import aiohttp

    class Patient(api):
        async def amodel_call(self, *args: Any, **settings: Any) -> Any:
            end = time.monotonic() + _LONGEST_WAIT_S
            while True:
                try:
                    return await super().amodel_call(*args, **settings)
                except aiohttp.ClientResponseError as error:
                    if error.status != _BUSY or time.monotonic() > end:
                        raise
                await asyncio.sleep(_WAIT_S)

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            self.max_length -= 1  # for prompts that are answered `hf` leaves one place more
            try:
                return super().generate_until(requests, disable_tqdm)
            finally:
                self.max_length += 1

    return Patient


def through_endpoint(url: str, api_key: str, model_name: str, folder: Path, tokenizer: PreTrainedTokenizerBase, max_tokens: int
                     ) -> Engine:
    """Return a served model as the harness' `local-completions`, with prompts as token ids.

    Args:
        url: root of the API.
        api_key: sent as bearer token; "" sends none.
        model_name: as /models lists it.
        folder: of the served checkpoint's tokenizer.
        tokenizer: loaded from there.
        max_tokens: context length of the served model.

    Raises:
        ConfigError: unknown model, refused key, or an endpoint without prompt log-probabilities: chance would be scored.
        MachineError: nobody answers.
    """
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    HttpGenerator(url, api_key, model_name, tokenizer, max_tokens=max_tokens).close()  # asks for what it needs
    with quiet():
        lm = _patient(LocalCompletionsAPI)(
            base_url=f"{url.rstrip('/')}/completions", model=model_name, tokenizer=str(folder), tokenizer_backend="huggingface",
            header={"Authorization": f"Bearer {api_key}"} if api_key else {}, num_concurrent=_CONCURRENCY,
            batch_size=WRITTEN_ROWS // _CONCURRENCY, max_retries=_ATTEMPTS, max_length=max_tokens, add_bos_token=False,
            custom_prefix_token_id=RequestTokens(tokenizer, max_tokens).prefix_id)
    return Engine(lm=lm, tokenizer=tokenizer, max_tokens=max_tokens, settings={"backend": "local-completions"})


def through_chat(url: str, api_key: str, model_name: str) -> Engine:
    """Return a served model as the harness' `local-chat-completions`: it writes answers, and scores nothing.

    Args:
        url: root of the API.
        api_key: sent as bearer token; "" sends none.
        model_name: as /models lists it.

    Raises:
        ConfigError: unknown model or refused key.
        MachineError: nobody answers.
    """
    from lm_eval.models.openai_completions import LocalChatCompletion

    asked = ChatGenerator(url, api_key, model_name)
    asked.chat([[{"role": "user", "content": "a b c"}]], 1)
    asked.close()
    with quiet():
        lm = _patient(LocalChatCompletion)(
            base_url=f"{url.rstrip('/')}/chat/completions", model=model_name, max_retries=_ATTEMPTS, num_concurrent=WRITTEN_ROWS,
            header={"Authorization": f"Bearer {api_key}"} if api_key else {})
    return Engine(lm=lm, tokenizer=None, max_tokens=ChatGenerator.max_tokens, settings={"backend": "local-chat-completions"})
