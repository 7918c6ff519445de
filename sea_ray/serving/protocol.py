"""The shapes of OpenAI's API that are really supported; anything else is refused with its reason, never ignored."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

MAX_TOP_LOGPROBS = 20
"""As OpenAI's limit."""

Count = Annotated[int, Field(ge=0, strict=True)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63, strict=True)]


class Body(BaseModel):
    """A request body: an unknown field is an error, since ignoring it would answer another question."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class StreamOptions(Body):
    """What a stream says beside its text."""

    include_usage: StrictBool = False


class Sampled(Body):
    """The fields that text and chat completions share."""

    model: StrictStr
    temperature: float = Field(default=1.0, ge=0, le=2, strict=True)
    top_p: float = Field(default=1.0, gt=0, le=1, strict=True)
    seed: Seed | None = None
    stop: StrictStr | list[StrictStr] | None = None
    stream: StrictBool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, strict=True)] = 1
    prompt_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS, strict=True)] | None = None
    return_token_ids: StrictBool = False
    presence_penalty: StrictFloat = 0.0
    frequency_penalty: StrictFloat = 0.0
    logit_bias: dict[str, StrictFloat] | None = None
    user: StrictStr | None = None

    @model_validator(mode="after")
    def _refuse_what_is_not_supported(self) -> Sampled:
        if self.stream and (self.n != 1 or self.prompt_logprobs is not None or self.return_token_ids):
            raise ValueError("stream with n, prompt_logprobs or return_token_ids is not supported: ask without stream")
        if self.presence_penalty or self.frequency_penalty:
            raise ValueError("presence_penalty and frequency_penalty are not supported, except 0")
        if self.logit_bias:
            raise ValueError("logit_bias is not supported")
        if self.stream_options and not self.stream:
            raise ValueError("stream_options needs stream=true")
        if len(self.stops) > 16 or not all(self.stops):
            raise ValueError("stop takes at most 16 strings, none of them empty")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class CompletionRequest(Sampled):
    """POST /v1/completions."""

    prompt: StrictStr | list[StrictStr] | list[StrictInt] | list[list[StrictInt]]
    max_tokens: Count = 16
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS, strict=True)] | None = None
    echo: StrictBool = False
    best_of: StrictInt | None = None
    suffix: StrictStr | None = None

    @model_validator(mode="after")
    def _refuse_more(self) -> CompletionRequest:
        if self.best_of is not None and self.best_of != self.n:
            raise ValueError(f"best_of={self.best_of} is not supported: all n={self.n} answers are returned, none is picked")
        if self.prompt_logprobs is not None and self.echo:
            raise ValueError("give echo with logprobs, or prompt_logprobs, not both")
        if self.suffix:
            raise ValueError("suffix is not supported: the model continues texts, it does not fill gaps")
        if self.stream and (self.echo or self.logprobs is not None):
            raise ValueError("stream with echo or logprobs is not supported: ask without stream")
        if self.stream and len(self.prompts) != 1:
            raise ValueError("stream takes one prompt")
        return self

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts, each a text or token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [self.prompt]
        return self.prompt  # type: ignore[return-value]


class TextPart(Body):
    """A piece of a message."""

    type: Literal["text"]
    text: StrictStr


class ChatMessage(Body):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: StrictStr | list[TextPart]
    name: None = None

    def plain(self) -> dict[str, str]:
        """Return role and text, as a chat template takes them."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": text}


class ResponseFormat(Body):
    """Plain text is the only format."""

    type: Literal["text"]


class ChatRequest(Sampled):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    logprobs: StrictBool = False
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS, strict=True)] | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="after")
    def _refuse_more(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs=true")
        if self.stream and self.logprobs:
            raise ValueError("stream with logprobs is not supported: ask without stream")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("give max_tokens or max_completion_tokens, not both")
        return self

    @property
    def longest_answer(self) -> int | None:
        """Asked length of the answer, tokens."""
        return self.max_tokens if self.max_tokens is not None else self.max_completion_tokens


class TokenizeRequest(Body):
    """POST /tokenize."""

    prompt: StrictStr
    add_special_tokens: StrictBool = False
    model: StrictStr | None = None


class DetokenizeRequest(Body):
    """POST /detokenize."""

    tokens: list[StrictInt]
    model: StrictStr | None = None
