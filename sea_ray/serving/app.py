"""The OpenAI-compatible application around an engine; it knows nothing of what runs it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from jinja2 import TemplateError
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from sea_ray.serving.api_errors import ApiError, install_error_handlers
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.delivery import events, gathered
from sea_ray.serving.described import (
    ChatCompletion,
    Completion,
    Health,
    ModelCard,
    ModelList,
    Text,
    TokenizerInfo,
    Tokens,
    answers,
    describe,
    refusals,
)
from sea_ray.serving.engine import TextEngine, end_ids
from sea_ray.serving.exchange import Answer, Engine, Request
from sea_ray.serving.guard import Guard
from sea_ray.serving.metrics import Metered, Meters
from sea_ray.serving.models import Chosen, Models, Served
from sea_ray.serving.playground import add_page, add_refusals
from sea_ray.serving.protocol import ChatRequest, CompletionRequest, DetokenizeRequest, Sampled, TokenizeRequest
from sea_ray.serving.responses import chat_choice, chat_chunk, completion_choice, header, prompt_logprobs, text_chunk, usage
from sea_ray.serving.token_text import TokenBytes

PACK_HEADER = "X-Language-Pack"
"""Names a language pack for clients whose model names cannot."""


LONG_BYTES = 1 << 16
"""A body from which on it is read beside the event loop, so that nobody else waits for it."""

Made = TypeVar("Made")
Asked = TypeVar("Asked")

GENERATION = (400, 404, 429, 503, 504)
"""Status codes of refusals and failures where text is generated, beside those of every route."""


def encode(engine: Engine, text: str) -> list[int]:
    """Return a text's tokens; special tokens written in it are special, none is added."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ApiError(400, f"the text has half of a surrogate pair at character {error.start}") from error
    return list(engine.tokenizer(text, add_special_tokens=False)["input_ids"])


def checked_ids(engine: Engine, ids: Sequence[int], param: str = "prompt") -> tuple[int, ...]:
    """Return tokens, checked against context and vocabulary."""
    if not ids:
        raise ApiError(400, "the prompt is empty: at least one token is needed", param=param)
    if len(ids) > engine.max_context:
        raise ApiError(400, f"the prompt has {len(ids)} tokens, the model's context {engine.max_context}", param=param,
                       code="context_length_exceeded")
    wrong = next((token_id for token_id in ids if not 0 <= token_id < engine.vocab_size), None)
    if wrong is not None:
        raise ApiError(400, f"token id {wrong} is not in the vocabulary, 0..{engine.vocab_size - 1}", param=param)
    return tuple(ids)


class Desk:
    """Turns bodies into the engine's requests, within the limits."""

    def __init__(self, chosen: Chosen, limits: ServingConfig) -> None:
        """Args: chosen: answers; limits: of lengths and numbers."""
        self.engine, self.name, self.pack, self.limits = chosen.engine, chosen.name, chosen.pack, limits

    def check(self, body: Sampled) -> None:
        """Refuse more work than can wait, and more answers than are given."""
        if body.n > self.limits.max_choices:
            raise ApiError(400, f"n={body.n} exceeds this server's limit of {self.limits.max_choices} answers", param="n")
        most = self.limits.max_batch + self.limits.max_waiting
        if self.engine.num_requests >= most:
            raise ApiError(429, f"{self.engine.num_requests} requests are being answered or wait for their turn, this server's "
                                f"limit is {most}: try again", kind="rate_limit_error")

    def ids(self, prompt: str | Sequence[int]) -> tuple[int, ...]:
        """Return a prompt's tokens, checked against context and vocabulary."""
        return checked_ids(self.engine, encode(self.engine, prompt) if isinstance(prompt, str) else prompt)

    def request(self, body: Sampled, ids: tuple[int, ...], max_tokens: int | None, top_logprobs: int | None,
                score_prompt: bool = False) -> list[Request]:
        """Return the engine's requests, n for one prompt; without max_tokens the answer may fill the context."""
        room, most = self.engine.max_context - len(ids), self.limits.max_new_tokens
        if max_tokens is not None and max_tokens > most:
            raise ApiError(400, f"max_tokens={max_tokens} exceeds this server's limit of {most}", param="max_tokens")
        if max_tokens is not None and max_tokens > room:
            raise ApiError(400, f"the prompt has {len(ids)} tokens and max_tokens is {max_tokens}: together they "
                                f"exceed the model's context of {self.engine.max_context}", param="max_tokens",
                           code="context_length_exceeded")
        if body.prompt_logprobs is not None:
            score_prompt, top_logprobs = True, max(top_logprobs or 0, body.prompt_logprobs)
        return [Request(prompt_ids=ids, max_new_tokens=min(room, most) if max_tokens is None else max_tokens,
                        score_prompt=score_prompt and number == 0, top_logprobs=top_logprobs, number=number,
                        temperature=body.temperature, top_p=body.top_p, seed=None if body.seed is None else body.seed + number,
                        pack=self.pack, stop=body.stops)
                for number in range(body.n)]

    def completion_requests(self, body: CompletionRequest) -> list[Request]:
        """Return the requests of a text completion, n for each prompt."""
        self.check(body)
        if not body.prompts:
            raise ApiError(400, "there is no prompt", param="prompt")
        if len(body.prompts) > self.limits.max_prompts:
            raise ApiError(400, f"{len(body.prompts):,} prompts exceed this server's limit of {self.limits.max_prompts:,}: send "
                                "fewer at a time", param="prompt")
        score = body.echo and body.logprobs is not None
        return [request for prompt in body.prompts
                for request in self.request(body, self.ids(prompt), body.max_tokens, body.logprobs, score)]

    def chat_requests(self, body: ChatRequest) -> list[Request]:
        """Return the n requests of a conversation, rendered in the tokenizer's own chat template."""
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


def build_app(models: Models, key_digests: Sequence[str], limits: ServingConfig, meters: Meters | None = None,
              *, is_refusal: Callable[[str], bool] | None = None) -> FastAPI:
    """Return the application.

    Args:
        models: answer; closed when the application shuts down.
        key_digests: SHA-256 of the accepted API keys; none lets everybody in.
        limits: of lengths, numbers and sizes.
        meters: count on; None: the application has its own.
        is_refusal: says whether an answer refuses, for /refusal and the page; None: there is no such route.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        models.close()

    app = FastAPI(title="sea_ray", docs_url=None, redoc_url=None, lifespan=lifespan, responses=refusals(401, 413, 500))
    meters = meters or Meters(models)
    app.add_middleware(Guard, key_digests=key_digests, max_body_bytes=limits.max_body_bytes)
    app.add_middleware(Metered, meters=meters)
    install_error_handlers(app)
    describe(app)

    async def desk(name: str, http: HttpRequest) -> Desk:
        language = http.headers.get(PACK_HEADER)
        if models.is_ready(name, language):
            return Desk(models.find(name, language), limits)
        return Desk(await run_in_threadpool(models.find, name, language), limits)

    _add_completions(app, desk, meters)
    _add_chat(app, desk, meters)
    _add_information(app, models)
    _add_tokens(app, models)
    _add_metrics(app, meters)
    add_page(app, needs_key=bool(key_digests), flags_refusals=is_refusal is not None)
    if is_refusal is not None:
        add_refusals(app, is_refusal)
    return app


Reception = Callable[[str, HttpRequest], Awaitable[Desk]]
"""Finds the desk for a model's name and a request's headers."""


def _add_completions(app: FastAPI, reception: Reception, meters: Meters) -> None:
    @app.post("/v1/completions", response_model=None, responses=answers(Completion, *GENERATION, stream=True))
    async def completions(body: CompletionRequest, http: HttpRequest) -> Response:
        desk = await reception(body.model, http)
        requests = await read(desk.completion_requests, body, http)
        head, names, limit_s = header("text_completion", desk.name), desk.engine.token_bytes, desk.limits.request_limit_s
        if body.stream:
            return _stream(events(desk.engine, requests[0], lambda piece, end: text_chunk(head, piece, end),
                                  head if body.stream_options and body.stream_options.include_usage else None, limit_s,
                                  done=meters.answered))
        answers = await gathered(desk.engine.submit(requests), http, limit_s)
        meters.answered(requests, answers)
        choices = [completion_choice(index, request, answer, names, echo=body.echo, logprobs=body.logprobs)
                   | extras(body, request, answer, names)
                   for index, (request, answer) in enumerate(zip(requests, answers, strict=True))]
        return JSONResponse({**head, "choices": choices, "usage": usage(requests, answers)})


def _add_chat(app: FastAPI, reception: Reception, meters: Meters) -> None:
    @app.post("/v1/chat/completions", response_model=None, responses=answers(ChatCompletion, *GENERATION, stream=True))
    async def chat(body: ChatRequest, http: HttpRequest) -> Response:
        desk = await reception(body.model, http)
        requests = await read(desk.chat_requests, body, http)
        names, limit_s = desk.engine.token_bytes, desk.limits.request_limit_s
        if body.stream:
            head = header("chat.completion.chunk", desk.name)
            return _stream(events(
                desk.engine, requests[0], lambda piece, end: chat_chunk(head, {"content": piece} if piece else {}, end),
                head if body.stream_options and body.stream_options.include_usage else None, limit_s,
                opening=chat_chunk(head, {"role": "assistant", "content": ""}), done=meters.answered))
        answers = await gathered(desk.engine.submit(requests), http, limit_s)
        meters.answered(requests, answers)
        choices = [chat_choice(index, request, answer, names, top_logprobs=body.top_logprobs or 0 if body.logprobs else None)
                   | extras(body, request, answer, names)
                   for index, (request, answer) in enumerate(zip(requests, answers, strict=True))]
        return JSONResponse({**header("chat.completion", desk.name), "choices": choices, "usage": usage(requests, answers)})


async def read(make: Callable[[Asked], Made], body: Asked, http: HttpRequest) -> Made:
    """Return what is made of a body; of a long one in a thread, since cutting megabytes of text into tokens takes seconds."""
    return make(body) if len(await http.body()) < LONG_BYTES else await run_in_threadpool(make, body)


def extras(body: Sampled, request: Request, answer: Answer, names: TokenBytes) -> dict[str, Any]:
    """Return the fields of vLLM's servers that a body asks for."""
    found: dict[str, Any] = {}
    if body.prompt_logprobs is not None or body.return_token_ids:
        found["prompt_token_ids"] = list(request.prompt_ids)
    if body.prompt_logprobs is not None:
        found["prompt_logprobs"] = prompt_logprobs(answer, body.prompt_logprobs, names)
    if body.return_token_ids:
        found["token_ids"] = list(answer.token_ids)
    return found


def _stream(chunks: AsyncIterator[str]) -> StreamingResponse:
    return StreamingResponse(chunks, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


def _add_information(app: FastAPI, models: Models) -> None:
    @app.get("/v1/models", responses=answers(ModelList))
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": models.cards()}

    @app.get("/v1/models/{name:path}", responses=answers(ModelCard, 404))
    async def model(name: str) -> dict[str, Any]:
        return models.card(name)

    @app.get("/health", responses=answers(Health))
    async def health() -> dict[str, str]:
        return {"status": "ok"}


def _add_tokens(app: FastAPI, models: Models) -> None:
    def tokenizer_of(name: str | None) -> Engine:
        return models.served[0].engine if name is None else models.root(name).engine

    @app.get("/tokenizer_info", responses=answers(TokenizerInfo, 400, 404))
    async def tokenizer_info(model: str | None = None) -> dict[str, Any]:
        tokenizer = tokenizer_of(model).tokenizer
        return {"tokenizer_class": type(tokenizer).__name__, "eos_token": tokenizer.eos_token,
                "bos_token": tokenizer.bos_token, "pad_token": tokenizer.pad_token,
                "chat_template": tokenizer.chat_template}

    @app.post("/tokenize", responses=answers(Tokens, 400, 404))
    async def tokenize(body: TokenizeRequest, http: HttpRequest) -> dict[str, Any]:
        if body.add_special_tokens:
            raise ApiError(400, "add_special_tokens=true is not supported: prompts get no special tokens here",
                           param="add_special_tokens")
        engine = tokenizer_of(body.model)
        ids = await read(lambda body: encode(engine, body.prompt), body, http)
        return {"tokens": ids, "count": len(ids), "max_model_len": engine.max_context}

    @app.post("/detokenize", responses=answers(Text, 400, 404))
    async def detokenize(body: DetokenizeRequest) -> dict[str, str]:
        engine = tokenizer_of(body.model)
        return {"prompt": engine.token_bytes.decode(checked_ids(engine, body.tokens, "tokens") if body.tokens else [])}


def _add_metrics(app: FastAPI, meters: Meters) -> None:
    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(meters.page(), media_type=meters.content_type)


def load_engine(folder: Path, config: ServingConfig) -> Engine:
    """Return an engine for a checkpoint folder.

    Args:
        folder: Hugging Face model folder; only safetensors are read and no code of it is run.
        config: limits, which engine, and whether a GPU is used.

    Raises:
        ConfigError: the model is not one that the engine can serve.
        MachineError: vLLM is asked for and is not installed.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if config.engine == "vllm":
        from sea_ray.serving.paged_engine import PagedEngine

        written = (folder / "generation_config.json").exists()
        generation = GenerationConfig.from_pretrained(folder) if written else GenerationConfig()
        return PagedEngine(folder, tokenizer, end_ids(generation, tokenizer), dtype=config.dtype, max_batch=config.max_batch)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, config.dtype), use_safetensors=True,
                                                 trust_remote_code=False, local_files_only=True)
    model = model.to("cuda" if config.gpus_per_replica else "cpu")
    return TextEngine(model, tokenizer, max_batch=config.max_batch, prefill_tokens=config.prefill_tokens,
                      prefix_bytes=config.prefix_mb * 1_000_000)


def application(folder: Path, config: ServingConfig, key_digests: Sequence[str],
                *, is_refusal: Callable[[str], bool] | None = None) -> FastAPI:
    """Return the application of one checkpoint folder.

    Args:
        folder: Hugging Face model folder.
        config: name and limits.
        key_digests: SHA-256 of the accepted API keys.
        is_refusal: says whether an answer refuses; None: nothing says so.
    """
    models = Models([Served(name=config.model_name, engine=load_engine(folder, config))])
    return build_app(models, key_digests, config, is_refusal=is_refusal)
