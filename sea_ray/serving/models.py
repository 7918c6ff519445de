"""What a service answers as: one or more checkpoints, each alone or with one of its language packs.

A pack's model is called CHECKPOINT:LANGUAGE. Its values are loaded when it is first asked for and lie beside the checkpoint's.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sea_ray.artifacts import read_json
from sea_ray.errors import ConfigError, DataError
from sea_ray.neurons.pack import LanguagePack
from sea_ray.neurons.untouched import tensor_digests
from sea_ray.serving.api_errors import ApiError
from sea_ray.serving.engine import TextEngine
from sea_ray.serving.exchange import Engine, Request


@dataclass(frozen=True, kw_only=True)
class Served:
    """A checkpoint and its packs."""

    name: str
    """That clients ask for."""
    engine: Engine
    """Computes."""
    packs: Mapping[str, Path] = field(default_factory=dict)
    """Language code -> folder of its pack."""
    grafts: bool = False
    """Whether packs of an ancestor are laid on it, too; their effect is approximate. False refuses these."""
    texts: Callable[[str], Sequence[str]] = lambda _: ()
    """Language code -> held-out texts by which a pack's effect is measured when it is loaded."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a request is answered by."""

    name: str
    """As the response names it."""
    engine: Engine
    """Computes."""
    pack: str | None = None
    """Language pack of the engine."""


class Models:
    """The models of a service, by name; the first is the default of pages, never of requests."""

    def __init__(self, served: Sequence[Served]) -> None:
        """Take checkpoints.

        Args:
            served: each has another name.

        Raises:
            ConfigError: packs for an engine that has none.
        """
        for each in served:
            if each.packs and not isinstance(each.engine, TextEngine):
                raise ConfigError("packs", f"vLLM serves no language packs, and {each.name!r} has some: set serving.packs=false, "
                                           "or serving.engine=transformers")
        self.served = tuple(served)
        self._by_name = {each.name: each for each in served}
        self._digests: dict[str, Mapping[str, str]] = {}
        self._loaded: dict[str, dict[str, Any]] = {}
        self._loading = threading.Lock()

    @property
    def engines(self) -> list[Engine]:
        """All that compute."""
        return [each.engine for each in self.served]

    def find(self, name: str, language: str | None = None) -> Chosen:
        """Return what answers a request; a pack is loaded first if it has to be.

        Args:
            name: CHECKPOINT or CHECKPOINT:LANGUAGE.
            language: of a pack, as a header names it.

        Raises:
            ApiError: 404 if there is no such model or pack, 400 if name and header contradict each other or the pack is
                another base's.
        """
        root, _, own = name.partition(":")
        if own and language and own != language:
            raise ApiError(400, f"the model is {name!r}, the header asks for the pack {language!r}: name one of them",
                           param="model")
        if root not in self._by_name:
            raise ApiError(404, f"there is no model {name!r} here; this server has {', '.join(map(repr, self.names()))}",
                           param="model", code="model_not_found")
        pack, served = own or language, self._by_name[root]
        if not pack:
            return Chosen(name=root, engine=served.engine)
        if pack not in served.packs:
            has = f"its packs are {', '.join(sorted(served.packs))}" if served.packs else "it has none"
            raise ApiError(404, f"{root!r} has no language pack {pack!r}; {has}", param="model", code="model_not_found")
        self._load(served, pack)
        return Chosen(name=f"{root}:{pack}", engine=served.engine, pack=pack)

    def root(self, name: str) -> Served:
        """Return the checkpoint of a model.

        Raises:
            ApiError: 404 if there is no such model.
        """
        self.card(name)
        return self._by_name[name.partition(":")[0]]

    def is_ready(self, name: str, language: str | None = None) -> bool:
        """Return whether `find` answers at once, with nothing to load."""
        root, _, own = name.partition(":")
        pack = own or language
        return not pack or root not in self._by_name or f"{root}:{pack}" in self._loaded

    def _load(self, served: Served, language: str) -> None:
        name, engine = f"{served.name}:{language}", served.engine
        assert isinstance(engine, TextEngine)
        with self._loading:
            if name in self._loaded:
                return
            try:
                pack = LanguagePack.load(served.packs[language])
                if served.name not in self._digests:
                    self._digests[served.name] = tensor_digests(engine.model)
                approximate = bool(pack.differing(self._digests[served.name]))
                if approximate and not served.grafts:
                    pack.check_base(engine.model)
                engine.load_pack(language, pack)
            except DataError as error:
                raise ApiError(400, str(error), param="model", code="pack_of_another_base") from error
            self._loaded[name] = {"approximate": approximate, "bits_per_byte": _effect(served, language)}

    def names(self) -> list[str]:
        """Return the names of all models, checkpoints before packs."""
        return [*self._by_name, *(f"{each.name}:{pack}" for each in self.served for pack in sorted(each.packs))]

    def cards(self) -> list[dict[str, Any]]:
        """Return what /v1/models says of each model."""
        return [self.card(name) for name in self.names()]

    def card(self, name: str) -> dict[str, Any]:
        """Return what is said of one model.

        Raises:
            ApiError: 404 if there is none of that name.
        """
        root, _, language = name.partition(":")
        if name not in self.names():
            raise ApiError(404, f"there is no model {name!r} here; this server has {', '.join(map(repr, self.names()))}",
                           param="model", code="model_not_found")
        served = self._by_name[root]
        card = {"id": name, "object": "model", "created": 0, "owned_by": "sea_ray", "max_model_len": served.engine.max_context,
                "parent": None, "language": None, "loaded": True}
        if language:
            pack = read_json(served.packs[language] / "pack.json")
            card |= {"parent": root, "language": language, "neurons": pack["neurons"], "loaded": name in self._loaded,
                     "approximate": served.grafts, "bits_per_byte": None} | self._loaded.get(name, {})
        return card

    def close(self) -> None:
        """Stop the engines."""
        for engine in self.engines:
            engine.close()


def _effect(served: Served, language: str) -> dict[str, float] | None:
    """Return the bits per byte of held-out text with a loaded pack and without; None: there is no text.

    The sum of -log2 p over the tokens of all texts, each after an end token, over their UTF-8 bytes.
    """
    engine, prompts, num_bytes = served.engine, [], 0
    for text in served.texts(language):
        ids = (engine.tokenizer.eos_token_id, *engine.tokenizer(text, add_special_tokens=False)["input_ids"])
        if len(ids) <= engine.max_context:
            prompts.append(ids)
            num_bytes += len(text.encode())
    if not prompts:
        return None

    def bits(pack: str | None) -> float:
        futures = engine.submit([Request(prompt_ids=ids, max_new_tokens=0, score_prompt=True, pack=pack) for ids in prompts])
        scores = (score for future in futures for score in future.result().prompt_logprobs if score is not None)
        return -sum(score.logprob for score in scores) / math.log(2) / num_bytes

    return {"with": bits(language), "without": bits(None), "texts": len(prompts)}
