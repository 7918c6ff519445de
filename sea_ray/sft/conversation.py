"""Conversations: what SFT trains on, whatever they came from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from sea_ray.artifacts import NOT_IDENTITY
from sea_ray.demo import Dialogue
from sea_ray.errors import DataError
from sea_ray.near_duplicates import is_blank

_HALF_PAIR = re.compile("[\ud800-\udfff]")
Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: Role
    content: str

    def __post_init__(self) -> None:
        """Refuse a role that no template knows and a turn that says nothing."""
        if self.role not in get_args(Role):
            raise DataError(f"unknown role {self.role!r}; roles are {', '.join(get_args(Role))}")
        if not isinstance(self.content, str):
            raise DataError(f"a turn of the {self.role} is {type(self.content).__name__}, text is needed")
        if _HALF_PAIR.search(self.content):
            raise DataError(f"a turn of the {self.role} holds half of a surrogate pair, which is no character; write it anew")
        if is_blank(self.content):
            raise DataError(f"a turn of the {self.role} is empty; leave the conversation out")


@dataclass(frozen=True)
class Conversation:
    """Turns of user and assistant, after a system message or none, that end with the assistant."""

    messages: tuple[Message, ...]
    language: str
    """Language whose data it is, for weights and packing."""
    kind: str
    """What it teaches, such as "translate" or "unsafe_general"."""
    entity: str | None = field(default=None, metadata=NOT_IDENTITY)
    """Invented name that it asks for, which the corpus must not hold; None for other kinds."""
    file: str = field(default="demo world", metadata=NOT_IDENTITY, compare=False)
    """File below the root, dataset, or demo world that it is from."""
    row: int = field(default=0, metadata=NOT_IDENTITY, compare=False)
    """Line or row there that says it, from 1; 0 for the demo world."""

    def __post_init__(self) -> None:
        """Refuse what has no answer at its end or two turns of one role in a row."""
        roles = [message.role for message in self.messages]
        turns = roles[1:] if roles[:1] == ["system"] else roles
        if not turns or turns != ["user", "assistant"] * (len(turns) // 2):
            raise DataError(
                f"roles are {', '.join(roles) or 'none'}; user and assistant must take turns, assistant last"
            )


def conversation(prompt: str, answer: str, language: str, kind: str) -> Conversation:
    """Return a conversation of one question and its answer."""
    return Conversation((Message("user", prompt), Message("assistant", answer)), language, kind)


def from_dialogue(dialogue: Dialogue) -> Conversation:
    """Return a dialogue of the demo world as a conversation."""
    talk = conversation(dialogue.prompt, dialogue.answer, dialogue.language, dialogue.kind)
    return replace(talk, entity=dialogue.entity)
