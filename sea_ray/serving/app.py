"""The OpenAI-compatible application around an engine; it knows nothing of what runs it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, StreamingResponse
from jinja2 import TemplateError
from starlette.responses import Response

from sea_ray.serving.api_errors import ApiError, install_error_handlers
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.delivery import events, gathered
from sea_ray.serving.engine import TextEngine
from sea_ray.serving.exchange import Request
from sea_ray.serving.guard import Guard
from sea_ray.serving.protocol import ChatRequest, CompletionRequest, DetokenizeRequest, Sampled, TokenizeRequest
from sea_ray.serving.responses import chat_choice, chat_chunk, completion_choice, header, text_chunk, usage

MAX_PENDING_BATCHES = 64
"""Requests that may wait, in full batches; more get 429."""


class Desk:
    """Turns bodies into the engine's requests, within the limits."""

    def __init__(self, engine: TextEngine, model_name: str, limits: ServingConfig) -> None:
        """Args: engine: computes; model_name: that clients ask for; limits: of lengths and numbers."""
        self.engine, self.model_name, self.limits = engine, model_name, limits

    def check(self, body: Sampled) -> None:
        """Refuse another model, and more work than can wait."""
        if body.model != self.model_name:
            raise ApiError(404, f"there is no model {body.model!r} here; this server has {self.model_name!r}",
                           param="model", code="model_not_found")
        if self.engine.num_pending > MAX_PENDING_BATCHES * self.limits.max_batch:
            raise ApiError(429, "too many requests are waiting: try again", kind="rate_limit_error")

    def encode(self, text: str) -> list[int]:
        """Return a text's tokens; special tokens written in it are special, none is added."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ApiError(400, f"the text has half of a surrogate pair at character {error.start}") from error
        return list(self.engine.tokenizer(text, add_special_tokens=False)["input_ids"])

    def ids(self, prompt: str | Sequence[int]) -> tuple[int, ...]:
        """Return a prompt's tokens, checked against context and vocabulary."""
        ids = tuple(self.encode(prompt) if isinstance(prompt, str) else prompt)
        if not ids:
            raise ApiError(400, "the prompt is empty: at least one token is needed", param="prompt")
        if len(ids) > self.engine.max_context:
            raise ApiError(400, f"the prompt has {len(ids)} tokens, the model's context {self.engine.max_context}",
                           param="prompt", code="context_length_exceeded")
        wrong = [token_id for token_id in ids if not 0 <= token_id < self.engine.vocab_size]
        if wrong:
            raise ApiError(400, f"token id {wrong[0]} is not in the vocabulary, 0..{self.engine.vocab_size - 1}",
                           param="prompt")
        return ids

    def request(self, body: Sampled, ids: tuple[int, ...], max_tokens: int | None, top_logprobs: int | None,
                score_prompt: bool = False) -> Request:
        """Return the engine's request; without max_tokens the answer may fill the context."""
        room, most = self.engine.max_context - len(ids), self.limits.max_new_tokens
        if max_tokens is not None and max_tokens > most:
            raise ApiError(400, f"max_tokens={max_tokens} exceeds this server's limit of {most}", param="max_tokens")
        if max_tokens is not None and max_tokens > room:
            raise ApiError(400, f"the prompt has {len(ids)} tokens and max_tokens is {max_tokens}: together they "
                                f"exceed the model's context of {self.engine.max_context}", param="max_tokens",
                           code="context_length_exceeded")
        return Request(prompt_ids=ids, max_new_tokens=min(room, most) if max_tokens is None else max_tokens,
                       score_prompt=score_prompt, top_logprobs=top_logprobs, temperature=body.temperature,
                       top_p=body.top_p, seed=body.seed, stop=body.stops)

    def completion_requests(self, body: CompletionRequest) -> list[Request]:
        """Return one request per prompt of a text completion."""
        self.check(body)
        if not body.prompts:
            raise ApiError(400, "there is no prompt", param="prompt")
        score = body.echo and body.logprobs is not None
        return [self.request(body, self.ids(prompt), body.max_tokens, body.logprobs, score) for prompt in body.prompts]

    def chat_request(self, body: ChatRequest) -> Request:
        """Return the request of a conversation, rendered in the tokenizer's own chat template."""
        self.check(body)
        if self.engine.tokenizer.chat_template is None:
            raise ApiError(400, "the model has no chat template: use /v1/completions", param="messages")
        try:
            text = self.engine.tokenizer.apply_chat_template(
                [message.plain() for message in body.messages], tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise ApiError(400, f"the chat template refuses the messages: {error}", param="messages") from error
        top = (body.top_logprobs or 0) if body.logprobs else None
        return self.request(body, self.ids(str(text)), body.longest_answer, top)


def build_app(engine: TextEngine, model_name: str, key_digests: Sequence[str], limits: ServingConfig) -> FastAPI:
    """Return the application.

    Args:
        engine: computes; closed when the application shuts down.
        model_name: that clients ask for.
        key_digests: SHA-256 of the accepted API keys; none lets everybody in.
        limits: of lengths, numbers and sizes.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        engine.close()

    app = FastAPI(title="sea_ray", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(Guard, key_digests=key_digests, max_body_bytes=limits.max_body_bytes)
    install_error_handlers(app)
    desk = Desk(engine, model_name, limits)
    _add_completions(app, desk)
    _add_chat(app, desk)
    _add_information(app, desk)
    return app


def _add_completions(app: FastAPI, desk: Desk) -> None:
    @app.post("/v1/completions", response_model=None)
    async def completions(body: CompletionRequest, http: HttpRequest) -> Response:
        requests = desk.completion_requests(body)
        head = header("text_completion", desk.model_name)
        if body.stream:
            return _stream(events(desk.engine, requests[0], lambda piece, end: text_chunk(head, piece, end),
                                  head if body.stream_options and body.stream_options.include_usage else None))
        answers = await gathered(desk.engine.submit(requests), http)
        choices = [completion_choice(index, request, answer, desk.engine.token_bytes, body.echo)
                   for index, (request, answer) in enumerate(zip(requests, answers, strict=True))]
        return JSONResponse({**head, "choices": choices, "usage": usage(requests, answers)})


def _add_chat(app: FastAPI, desk: Desk) -> None:
    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatRequest, http: HttpRequest) -> Response:
        request = desk.chat_request(body)
        if body.stream:
            head = header("chat.completion.chunk", desk.model_name)
            return _stream(events(
                desk.engine, request, lambda piece, end: chat_chunk(head, {"content": piece} if piece else {}, end),
                head if body.stream_options and body.stream_options.include_usage else None,
                opening=chat_chunk(head, {"role": "assistant", "content": ""})))
        (answer,) = await gathered(desk.engine.submit([request]), http)
        return JSONResponse({**header("chat.completion", desk.model_name),
                             "choices": [chat_choice(request, answer, desk.engine.token_bytes)],
                             "usage": usage([request], [answer])})


def _stream(chunks: AsyncIterator[str]) -> StreamingResponse:
    return StreamingResponse(chunks, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


def _add_information(app: FastAPI, desk: Desk) -> None:
    card = {"id": desk.model_name, "object": "model", "created": 0, "owned_by": "sea_ray",
            "max_model_len": desk.engine.max_context}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        if name != desk.model_name:
            raise ApiError(404, f"there is no model {name!r} here; this server has {desk.model_name!r}", param="model",
                           code="model_not_found")
        return card

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/tokenizer_info")
    async def tokenizer_info() -> dict[str, Any]:
        tokenizer = desk.engine.tokenizer
        return {"tokenizer_class": type(tokenizer).__name__, "eos_token": tokenizer.eos_token,
                "bos_token": tokenizer.bos_token, "pad_token": tokenizer.pad_token,
                "chat_template": tokenizer.chat_template}

    @app.post("/tokenize")
    async def tokenize(body: TokenizeRequest) -> dict[str, Any]:
        if body.add_special_tokens:
            raise ApiError(400, "add_special_tokens=true is not supported: prompts get no special tokens here",
                           param="add_special_tokens")
        ids = desk.encode(body.prompt)
        return {"tokens": ids, "count": len(ids), "max_model_len": desk.engine.max_context}

    @app.post("/detokenize")
    async def detokenize(body: DetokenizeRequest) -> dict[str, str]:
        return {"prompt": desk.engine.token_bytes.decode(desk.ids(body.tokens) if body.tokens else [])}


def application(folder: Path, config: ServingConfig, key_digests: Sequence[str]) -> FastAPI:
    """Return the application of a checkpoint folder.

    Args:
        folder: Hugging Face model folder; only safetensors are read and no code of it is run.
        config: name and limits.
        key_digests: SHA-256 of the accepted API keys.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True,
                                                 trust_remote_code=False, local_files_only=True)
    model = model.to("cuda" if config.gpus_per_replica else "cpu")
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return build_app(TextEngine(model, tokenizer, max_batch=config.max_batch), config.model_name, key_digests, config)
