"""Where and how a checkpoint is served."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from sea_ray.errors import ConfigError

BASE = "base"
"""Name of a run's base where it is served beside the winner."""


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """One application on Ray Serve; loopback and a key by default."""

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback exposes the service to the network."""
    port: int = 0
    """Port; 0 takes a free one."""
    model_name: str = "sea-ray"
    """Name that the model answers to."""
    with_base: bool = False
    """Whether the base of a run's winner is served beside it, as "base"; it takes as much memory again."""
    packs: bool = True
    """Whether a run's language packs are offered: on the base as they were trained, on the winner approximately, as grafts. A
    pack takes memory from the first request for it on."""
    key_digests: tuple[str, ...] = ()
    """SHA-256 of accepted API keys, 64 hexadecimal digits each, besides the key in SEA_RAY_API_KEY."""
    num_replicas: int = 1
    """Processes that each hold the model; with more in max_replicas, the fewest."""
    max_replicas: int = 0
    """Most processes when many ask; 0: as many as num_replicas, whoever asks."""
    drain_s: float = 60.0
    """Time that a replica has for the answers it is writing when it is to end, seconds."""
    max_batch: int = 64
    """Answers that one replica writes at a time."""
    max_waiting: int = 64
    """Requests that wait in one replica beside `max_batch`; who comes when so many do gets 429."""
    max_prompts: int = 1024
    """Most prompts of one request."""
    max_choices: int = 16
    """Most answers to one prompt (n)."""
    request_limit_s: float = 600.0
    """Longest time for one request; then it fails with 504 and its places are freed."""
    prefill_tokens: int = 2048
    """Tokens of prompts that are read between two steps of the answers in progress; a longer prompt is read in parts."""
    prefix_mb: int = 256
    """What may be kept of prompts for others that begin alike, 10^6 bytes; 0 keeps none."""
    max_new_tokens: int = 1024
    """Most tokens that one request may generate."""
    max_body_bytes: int = 8 << 20
    """Longer request bodies are refused."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What computes: this project's engine on transformers' models, or vLLM, which has no language packs and wants an environment
    of its own (docs/serving.md)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights in memory; bfloat16 takes half as much, and its figures are those of bfloat16."""
    threads: int = 1
    """Torch threads of a replica; 0 leaves it to torch. More than one wait for each other at every layer: where others use
    the machine, too, two were ten times slower than one."""
    cpus_per_replica: float = 0.5
    """Ray's count for one replica."""
    gpus_per_replica: float = 0.0
    """GPUs of one replica."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ConfigError("port", f"{self.port} is not a port; 1-65535, or 0 for any free one")
        for name in ("num_replicas", "max_batch", "max_waiting", "max_prompts", "max_choices", "prefill_tokens",
                     "max_new_tokens", "max_body_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(name, f"{getattr(self, name)} is below 1")
        if self.prefix_mb < 0:
            raise ConfigError("prefix_mb", f"{self.prefix_mb} is negative; 0 keeps nothing")
        if self.model_name in ("", BASE) or ":" in self.model_name:
            raise ConfigError("model_name", f"{self.model_name!r} cannot be told from the base or from a pack: take a name other "
                                            f"than {BASE!r} and without a colon")
        for digest in self.key_digests:
            if not re.fullmatch("[0-9a-f]{64}", digest):
                raise ConfigError("key_digests", f"{len(digest)} characters are no SHA-256 in 64 lower-case hexadecimal digits: "
                                                 "printf %s \"$KEY\" | sha256sum")
        if self.max_replicas and self.max_replicas < self.num_replicas:
            raise ConfigError("max_replicas", f"{self.max_replicas} is below num_replicas={self.num_replicas}; 0 takes as many")
        if not self.drain_s >= 0:
            raise ConfigError("drain_s", f"{self.drain_s} is negative; 0 cuts off the answers in progress")
        if not self.request_limit_s > 0:
            raise ConfigError("request_limit_s", f"{self.request_limit_s} is not above 0")
