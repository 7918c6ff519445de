"""What the application's own description says of its answers; `responses` makes them, and tests hold the two together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict

from sea_ray.serving.api_errors import ErrorBody
from sea_ray.serving.guard import OPEN_PATHS

REASONS = {
    400: "Something in the request is wrong or not supported; the message says what.",
    401: "The API key is missing or wrong.",
    404: "There is no such model or language pack.",
    413: "The body is too large.",
    429: "Too many prompts wait for their turn: try again after the seconds of Retry-After.",
    500: "An error of the server.",
    503: "The server is closing, or its machine fails.",
    504: "The answer took longer than this server's limit.",
}

Responses = dict[int | str, dict[str, Any]]


class _Described(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Usage(_Described):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionLogprobs(_Described):
    """Four lists of equal length: a token, its log-probability, the likeliest tokens in its place, where it begins."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class PromptLogprob(_Described):
    """One of the likeliest tokens of a place."""

    logprob: float
    rank: int | None
    decoded_token: str


class _Choice(_Described):
    index: int
    finish_reason: Literal["stop", "length"]
    prompt_token_ids: list[int] = []
    """With return_token_ids or prompt_logprobs."""
    prompt_logprobs: list[dict[str, PromptLogprob] | None] = []
    """With prompt_logprobs."""
    token_ids: list[int] = []
    """With return_token_ids."""


class CompletionChoice(_Choice):
    """An answer to a prompt."""

    text: str
    logprobs: CompletionLogprobs | None


class Completion(_Described):
    """What POST /v1/completions answers."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


class Likely(_Described):
    """A token that was likely in some place."""

    token: str
    logprob: float
    bytes: list[int]


class ChatToken(Likely):
    """A token of a message."""

    top_logprobs: list[Likely]


class ChatLogprobs(_Described):
    """One entry for each token of a message."""

    content: list[ChatToken]


class Message(_Described):
    """A turn that the model wrote."""

    role: Literal["assistant"]
    content: str


class ChatChoice(_Choice):
    """An answer to a conversation."""

    message: Message
    logprobs: ChatLogprobs | None


class ChatCompletion(_Described):
    """What POST /v1/chat/completions answers."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class ModelCard(_Described):
    """A model, or a model with a language pack."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int
    parent: str | None
    language: str | None
    loaded: bool
    neurons: int | None = None
    """Of the pack."""
    approximate: bool | None = None
    """Whether the pack is an ancestor's."""
    bits_per_byte: dict[str, float] | None = None
    """Of held-out text, with the pack and without; measured when it is loaded."""


class ModelList(_Described):
    """All models."""

    object: Literal["list"]
    data: list[ModelCard]


class Health(_Described):
    """That the server answers."""

    status: Literal["ok"]


class TokenizerInfo(_Described):
    """What a client needs to know of a tokenizer."""

    tokenizer_class: str
    eos_token: str | None
    bos_token: str | None
    pad_token: str | None
    chat_template: str | None


class Tokens(_Described):
    """What POST /tokenize answers."""

    tokens: list[int]
    count: int
    max_model_len: int


class Text(_Described):
    """What POST /detokenize answers."""

    prompt: str


def answers(model: type[BaseModel], *errors: int, stream: bool = False) -> Responses:
    """Return what a route's description says of its responses.

    Args:
        model: of the good one.
        errors: status codes of the others, beside those of every route.
        stream: whether the good one may come as server-sent events.
    """
    events: Mapping[str, Any] = {"content": {"text/event-stream": {"schema": {"type": "string"}}}} if stream else {}
    return {200: {"model": model, **events}, **refusals(*errors)}


def refusals(*errors: int) -> Responses:
    """Return what a description says of some status codes."""
    schema = {"$ref": "#/components/schemas/ErrorBody"}
    described: Responses = {status: {"description": REASONS[status], "content": {"application/json": {"schema": schema}}}
                            for status in errors}
    if 429 in described:
        described[429]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return described


def describe(app: FastAPI) -> None:
    """Make an application's OpenAPI description say that a key is needed, and that invalid bodies get 400, not 422."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(title=app.title, version=app.version, routes=app.routes)
            for path, operations in found["paths"].items():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
                    if path in OPEN_PATHS:
                        operation["security"] = []
                        operation["responses"].pop("401", None)
            schemas = found["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            error = ErrorBody.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= {**error.pop("$defs"), "ErrorBody": error}
            found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            found["security"] = [{"key": []}]
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
