"""Models that the experiment did not make, asked the same questions: a checkpoint, or whatever answers at an endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from sea_ray.asking import EndpointConfig, Question, ask, client
from sea_ray.errors import ConfigError
from sea_ray.evaluation.generator import LogLikelihood, Message
from sea_ray.evaluation.harness_models import in_process
from sea_ray.evaluation.local import LocalGenerator
from sea_ray.execution import StageContext
from sea_ray.stages.configs import OtherModelStage
from sea_ray.stages.evaluation import languages_of, report_on
from sea_ray.tracking import Tracker
from sea_ray.training.checkpoint import Checkpoint


def evaluate_shard(context: StageContext) -> Mapping[str, Any]:
    """Write the report of this shard's languages."""
    config: OtherModelStage = context.config
    if not languages_of(context):
        return {}
    if config.endpoint is not None:
        asked = AnsweringEndpoint(config.endpoint, context.folder / "answers.jsonl", context.tracker)
        report_on(context, asked, None, name=f"{config.endpoint.model} at {config.endpoint.url}")
    else:
        assert config.checkpoint is not None, "OtherModel wants one of both"
        checkpoint = Checkpoint.from_hub_or_path(config.checkpoint, config.revision)
        model, tokenizer = checkpoint.load_for(context.worker.device), checkpoint.load_tokenizer()
        report_on(context, LocalGenerator(model, tokenizer), lambda: in_process(model, tokenizer), name=config.checkpoint)
    return {}


class AnsweringEndpoint:
    """A Generator that can be asked one question at a time and gives its answer: all that every chat endpoint offers.

    `HttpGenerator` can do more, and for it needs the model's tokenizer and log-probabilities of prompts.
    """

    max_tokens = 0
    """Not known."""

    def __init__(self, config: EndpointConfig, log: Path, tracker: Tracker) -> None:
        """Args: config: who is asked; log: gets every answer; tracker: told how many there are."""
        self._config, self._log, self._tracker = config, log, tracker

    def chat(self, conversations: Sequence[Sequence[Message]], max_new_tokens: int) -> list[str]:
        """Return the answers to conversations of one question each; what is asked twice is sent once.

        Raises:
            ConfigError: no key, a refused key, an unknown model, or a longer conversation.
            MachineError: the endpoint cannot be reached, or fails again and again.
        """
        if any(len(conversation) != 1 for conversation in conversations):
            self._refuse("a conversation of several turns")
        config = replace(self._config, max_tokens=max_new_tokens)
        questions = [Question(conversation[0]["content"]) for conversation in conversations]
        endpoint = client(config)

        async def opened() -> dict[Question, str]:
            distinct = list(dict.fromkeys(questions))
            async with endpoint as one:
                answers = await ask(one, config, distinct, self._log, self._tracker)
            return {question: answer.text for question, answer in zip(distinct, answers, strict=True)}

        said = asyncio.run(opened())
        return [said[question] for question in questions]

    def loglikelihoods(self, requests: Sequence[tuple[str, str]]) -> list[LogLikelihood]:
        """Refuse."""
        self._refuse("log-probabilities")

    def rolling_loglikelihoods(self, texts: Sequence[str]) -> list[float]:
        """Refuse."""
        self._refuse("log-probabilities")

    def complete(self, prompts: Sequence[str], max_new_tokens: int, stop: Sequence[str] = ()) -> list[str]:
        """Refuse."""
        self._refuse("a continuation")

    def render(self, conversation: Sequence[Message]) -> str:
        """Refuse."""
        self._refuse("its chat format")

    def _refuse(self, what: str) -> NoReturn:
        raise ConfigError("tasks", f"{self._config.model} at {self._config.url} is asked for answers alone; this takes {what}")
