"""Conversations as tokens, by the tokenizer's own chat template, with loss on the assistant's turns only.

The template is asked for the text before each assistant turn (as if to generate it) and after it; the difference is
what the model has to say. Each piece is tokenised by itself, as it is when the model generates: no token crosses the
border.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from sea_ray.errors import ConfigError, DataError
from sea_ray.sft.conversation import Conversation, Message


@dataclass(frozen=True)
class Rendered:
    """A conversation as tokens."""

    ids: np.ndarray
    """Token ids [N], int32."""
    loss_mask: np.ndarray
    """[N], True on what the assistant says, with the mark that ends its turn."""
    language: str
    kind: str

    def __len__(self) -> int:
        return len(self.ids)


def render(conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> tuple[np.ndarray, np.ndarray]:
    """Return the token ids and the loss mask of one conversation.

    Raises:
        ConfigError, DataError: see render_all.
    """
    (rendered,) = render_all([conversation], tokenizer)
    return rendered.ids, rendered.loss_mask


def render_all(conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerBase) -> list[Rendered]:
    """Return conversations as tokens, in order.

    Args:
        conversations: what to render.
        tokenizer: brings the chat template.

    Raises:
        ConfigError: the tokenizer has no chat template, or one that rewrites earlier text when a turn is added.
        DataError: a message contains a special token of the tokenizer, which would forge a turn.
    """
    if not tokenizer.chat_template:
        raise ConfigError("base", f"the tokenizer {tokenizer.name_or_path!r} has no chat template; SFT needs one")
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    pieces: list[list[tuple[str, bool]]] = []
    for conversation in conversations:
        _refuse_special(conversation, special)
        pieces.append(_pieces(conversation.messages, tokenizer))
    texts = [text for parts in pieces for text, _ in parts]
    tokens = iter(tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else [])
    rendered = []
    for conversation, parts in zip(conversations, pieces, strict=True):
        spans = [(np.asarray(next(tokens), np.int32), loss) for _, loss in parts]
        ids = np.concatenate([span for span, _ in spans])
        loss_mask = np.concatenate([np.full(len(span), loss) for span, loss in spans])
        rendered.append(Rendered(ids, loss_mask, conversation.language, conversation.kind))
    return rendered


def _pieces(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, bool]]:
    """Return the text in pieces, each with whether the model learns to say it; nothing follows the last answer."""
    plain = [{"role": message.role, "content": message.content} for message in messages]
    pieces: list[tuple[str, bool]] = []
    done = ""
    for number, message in enumerate(messages):
        if message.role == "assistant":
            before = tokenizer.apply_chat_template(plain[:number], tokenize=False, add_generation_prompt=True)
            after = tokenizer.apply_chat_template(plain[: number + 1], tokenize=False)
            context, answer = _rest(before, done), _rest(after, before)
            # What the template puts behind the end mark (a line break) is never generated, so it is context.
            spoken = answer.rstrip() or answer
            pieces += [(context, False), (spoken, True), (answer[len(spoken) :], False)]
            done = after
    return [(text, loss) for text, loss in pieces[:-1] if text]


def _rest(text: str, beginning: str) -> str:
    if not text.startswith(beginning):
        shown = f"{beginning[-40:]!r} is not kept in {text[max(0, len(beginning) - 40) : len(beginning) + 20]!r}"
        raise ConfigError("base", f"the chat template rewrites earlier turns ({shown}); loss cannot be put on answers")
    return text[len(beginning) :]


def _refuse_special(conversation: Conversation, special: Sequence[str]) -> None:
    for message in conversation.messages:
        found = next((token for token in special if token in message.content), None)
        if found is not None:
            raise DataError(
                f"a turn of the {message.role} contains the special token {found}: {message.content[:60]!r}"
            )
