"""A Generator whose answers are kept in a file: a second run costs nothing, and an interrupted one goes on."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sea_ray.evaluation.generator import Generator, LogLikelihood, Message

GROUP = 128
"""Questions that are asked, and kept, at a time."""


class KeptAnswers:
    """Asks another Generator only what it has not been asked before; what it scores is asked every time."""

    def __init__(self, generator: Generator, database: Path) -> None:
        """Args: generator: the model; database: SQLite file, of that model alone."""
        database.parent.mkdir(parents=True, exist_ok=True)
        self.max_tokens, self._generator = generator.max_tokens, generator
        self._rows = sqlite3.connect(database)
        self._rows.execute("CREATE TABLE IF NOT EXISTS answers (question TEXT PRIMARY KEY, answer TEXT NOT NULL)")

    def loglikelihoods(self, requests: Sequence[tuple[str, str]]) -> list[LogLikelihood]:
        """Score continuations, each given its context."""
        return self._generator.loglikelihoods(requests)

    def rolling_loglikelihoods(self, texts: Sequence[str]) -> list[float]:
        """Return the nats of whole texts."""
        return self._generator.rolling_loglikelihoods(texts)

    def complete(self, prompts: Sequence[str], max_new_tokens: int, stop: Sequence[str] = ()) -> list[str]:
        """Return greedy continuations without the prompt, cut before the first stop string."""
        return self._answers(prompts, lambda some: self._generator.complete(some, max_new_tokens, stop),
                             [max_new_tokens, list(stop)])

    def chat(self, conversations: Sequence[Sequence[Message]], max_new_tokens: int) -> list[str]:
        """Return greedy assistant turns."""
        return self._answers(conversations, lambda some: self._generator.chat(some, max_new_tokens), [max_new_tokens])

    def render(self, conversation: Sequence[Message]) -> str:
        """Return a conversation in the model's chat format."""
        return self._generator.render(conversation)

    def _answers(self, questions: Sequence[Any], ask: Callable[[list[Any]], list[str]], how: list[Any]) -> list[str]:
        keys = [hashlib.sha256(json.dumps([question, *how], sort_keys=True).encode()).hexdigest() for question in questions]
        new = list({key: number for number, key in enumerate(keys) if self._kept(key) is None}.values())
        for start in range(0, len(new), GROUP):
            group = new[start:start + GROUP]
            found = ask([questions[number] for number in group])
            with self._rows:
                self._rows.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)",
                                       zip([keys[number] for number in group], found, strict=True))
        return [str(self._kept(key)) for key in keys]

    def _kept(self, key: str) -> str | None:
        row = self._rows.execute("SELECT answer FROM answers WHERE question = ?", (key,)).fetchone()
        return row[0] if row else None
