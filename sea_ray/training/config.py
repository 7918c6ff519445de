"""What a training is and how it is computed: plain values, importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from sea_ray.errors import ConfigError, nearest

PolicyKind = Literal["all", "neurons", "ffn_only", "embeddings", "lora"]
PolicyControl = Literal["continued_pretraining", "ffn_only", "embeddings", "lora"]
"""Arms beside neuron training: all values, or the policy of that name."""
FFN_PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", *FFN_PROJECTIONS)
"""The linear layers of a decoder layer, by Qwen2's module names."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of a Qwen2 trained from scratch."""

    d_model: int = 128
    """Width of the residual stream, values; a multiple of num_heads."""
    num_layers: int = 4
    """Decoder layers."""
    num_heads: int = 4
    """Query heads; each is d_model / num_heads values wide, an even number."""
    num_kv_heads: int = 2
    """Key and value heads; divides num_heads."""
    d_mlp: int = 384
    """Channels of the gated feed-forward network: what "ffn" neurons are."""
    max_position: int = 4096
    """Longest context, tokens."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies."""
    tie_embeddings: bool = True
    """Whether the output projection is the embedding matrix."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("d_model", "num_layers", "num_heads", "num_kv_heads", "d_mlp", "max_position"):
            if getattr(self, name) < 1:
                raise ConfigError(name, f"{getattr(self, name)} is below 1")
        if self.d_model % (2 * self.num_heads):
            raise ConfigError("d_model", f"{self.d_model} does not give {self.num_heads} heads of an even width: "
                                         f"choose a multiple of {2 * self.num_heads}")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError("num_kv_heads", f"{self.num_kv_heads} does not divide num_heads={self.num_heads}")
        if self.rope_theta <= 1:
            raise ConfigError("rope_theta", f"{self.rope_theta} is not above 1")


@dataclass(frozen=True, kw_only=True)
class TrainPolicy:
    """What trains; everything else of the model stays as it is, byte for byte."""

    kind: PolicyKind = "all"
    """"all": every value; "neurons": a set's rows and columns; "ffn_only": the gated feed-forward networks;
    "embeddings": input and output embeddings, tied or not; "lora": low-rank adapters, merged at the end."""
    lora_rank: int = 16
    """Inner width r of an adapter, for "lora" as the fields below."""
    lora_alpha: float = 32.0
    """Scale of an adapter: its product is multiplied by lora_alpha / lora_rank."""
    lora_modules: tuple[str, ...] = PROJECTIONS
    """Linear layers that get an adapter, in every decoder layer."""
    lora_seed: int = 0
    """Of the adapters' initial values."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.lora_rank < 1:
            raise ConfigError("lora_rank", f"{self.lora_rank} is below 1")
        if not self.lora_alpha > 0:
            raise ConfigError("lora_alpha", f"{self.lora_alpha} is not above 0: the adapters would change nothing")
        if not self.lora_modules:
            raise ConfigError("lora_modules", "it names no layer: nothing would train")
        for name in self.lora_modules:
            if name not in PROJECTIONS:
                raise ConfigError("lora_modules", f"there is no linear layer {name!r}{nearest(name, PROJECTIONS)}")


@dataclass(frozen=True, kw_only=True)
class MixRule:
    """A rule that makes the shares of a mixture from how much there is of each source."""

    kind: Literal["natural", "temperature", "uniform", "dirichlet"]
    """natural: as much as there is; temperature: size^(1 / temperature) (arXiv 1907.05019, section 3.1); uniform: all alike,
    which with max_epochs is UniMax (arXiv 2304.09151); dirichlet: a random draw, for a search over mixes."""
    temperature: float = 3.3
    """1 is natural, a large one uniform."""
    concentration: float = 1.0
    """Of the Dirichlet distribution, the same for all sources: below 1 draws are lopsided, above 1 near uniform."""
    seed: int = 0
    """Of the draw."""
    max_epochs: float | None = None
    """Most passes over one source, in place of the experiment's own limit; what it can't give the others share."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("temperature", "concentration"):
            if not getattr(self, name) > 0:
                raise ConfigError(name, f"{getattr(self, name)} is not above 0")
        if self.max_epochs is not None and not self.max_epochs > 0:
            raise ConfigError("max_epochs", f"{self.max_epochs} is not above 0; null is no limit")

    def weights(self, sizes: Mapping[str, int]) -> dict[str, float]:
        """Return source -> share, before max_epochs.

        Args:
            sizes: source -> number of its samples.
        """
        if self.kind == "dirichlet":
            drawn = np.random.default_rng(self.seed).dirichlet([self.concentration] * len(sizes))
            return dict(zip(sizes, drawn.tolist(), strict=True))
        power = {"natural": 1.0, "temperature": 1 / self.temperature, "uniform": 0.0}[self.kind]
        raw = {name: float(size) ** power for name, size in sizes.items()}
        return {name: value / sum(raw.values()) for name, value in raw.items()}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All values that decide a training's result; the number of workers is not among them."""

    steps: int
    """Optimiser steps."""
    batch_sequences: int = 16
    """Sequences of a step, over all workers."""
    sequence_tokens: int = 128
    """Tokens of a packed sequence."""
    learning_rate: float = 1e-3
    """Peak of the schedule."""
    warmup_frac: float = 0.05
    """Share of the steps in which the rate rises linearly to its peak."""
    schedule: Literal["cosine", "constant", "linear"] = "cosine"
    """How the rate falls after the warm-up."""
    min_lr_frac: float = 0.1
    """Rate at the end as a share of the peak; for "cosine" and "linear"."""
    weight_decay: float = 0.0
    """AdamW's decay. Of the layers' matrices towards zero; norms, biases and embeddings never decay. Of selected neurons,
    their bias elements included, towards the base."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's two averaging rates."""
    clip_norm: float = 1.0
    """Largest norm of the gradient; 0 does not clip."""
    micro_batch: int = 0
    """Sequences of one forward pass of a worker; 0 takes the worker's whole part of the batch."""
    seed: int = 0
    """Of the order of samples."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the matrix products; weights and optimiser are always float32."""
    max_loss_rise: float = 4.0
    """A step whose loss lies so many nats above the mean of the last accepted ones moves nothing; 0 accepts every finite loss."""
    max_skipped_steps: int = 10
    """Steps without a finite or with an exploding loss that a training survives; the next one ends it."""
    eval_every_steps: int = 0
    """Steps between two looks at held-out text; 0 never looks."""
    keep: Literal["last", "best"] = "last"
    """Which values the training ends with: those of its last step, or those with the lowest held-out loss."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("steps", "batch_sequences"):
            if getattr(self, name) < 1:
                raise ConfigError(name, f"{getattr(self, name)} is below 1")
        if self.sequence_tokens < 2:
            raise ConfigError("sequence_tokens", f"{self.sequence_tokens} is below 2")
        if not self.learning_rate > 0:
            raise ConfigError("learning_rate", f"{self.learning_rate} is not above 0")
        for name in ("warmup_frac", "min_lr_frac"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(name, f"{getattr(self, name)} is not in 0..1")
        for name in ("weight_decay", "clip_norm", "micro_batch", "max_loss_rise", "max_skipped_steps", "eval_every_steps"):
            if getattr(self, name) < 0:
                raise ConfigError(name, f"{getattr(self, name)} is below 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError("betas", f"{self.betas} are not both in 0..1, 1 excluded")
        if self.keep == "best" and not self.eval_every_steps:
            raise ConfigError("keep", "'best' compares held-out losses: set eval_every_steps above 0, or keep 'last'")

    @property
    def total_samples(self) -> int:
        """Sequences drawn in the whole training."""
        return self.steps * self.batch_sequences


@dataclass(frozen=True, kw_only=True)
class WholeExecution:
    """How trainings of all of a model's values are computed, where they need more room than the others."""

    zero_stage: int = 3
    """As in ExecutionConfig."""
    offload: Literal["none", "optimizer", "all"] = "none"
    """As in ExecutionConfig."""
    activation_checkpointing: bool = True
    """As in ExecutionConfig."""


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """How a training is computed; never part of its identity."""

    num_workers: int = 1
    """Processes that share each step; with min_workers the most of them."""
    min_workers: int = 0
    """Fewest processes that a training goes on with when nodes are lost or missing; 0: always num_workers."""
    engine: Literal["deepspeed", "torch"] = "torch"
    """What computes a step; "torch" is for one process."""
    zero_stage: int = 1
    """DeepSpeed: 0 replicates everything, 1 shares out optimiser state, 2 gradients too, 3 parameters too."""
    threads_per_worker: int = 1
    """Threads of each process on the CPU; 0 leaves it to torch."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs; "auto" takes a GPU if there is one."""
    log_every_steps: int = 10
    """Steps between two reports of loss and speed."""
    checkpoint_every_steps: int = 100
    """Steps between two saved states: what a lost process costs at most. 0 saves only at the end and before a preemption."""
    keep_checkpoints: int = 2
    """Newest states that are kept, besides the best."""
    offload: Literal["none", "optimizer", "all"] = "none"
    """DeepSpeed: what waits in the processor's memory instead of the accelerator's; "all" are optimiser and parameters."""
    activation_checkpointing: bool = False
    """Whether activations are computed again in the backward pass instead of kept: a third more work, far less memory."""
    fused_kernels: bool = False
    """Liger's kernels for norms, rotary positions and SwiGLU, on CUDA with liger-kernel installed."""
    compile: bool = False
    """Whether torch.compile takes the model: a minute or more at first, then faster steps on an accelerator."""
    whole: WholeExecution | None = None
    """What is otherwise where all values train: neurons and adapters go best with stage 0 or 1, all values of a large model
    need 2 or 3. null: nothing."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.num_workers < 1:
            raise ConfigError("num_workers", f"{self.num_workers} is below 1")
        if self.engine == "torch" and self.num_workers > 1:
            raise ConfigError("engine", f"'torch' runs in one process, not {self.num_workers}: choose 'deepspeed'")
        if self.zero_stage not in (0, 1, 2, 3):
            raise ConfigError("zero_stage", f"{self.zero_stage} is not 0, 1, 2 or 3")
        if self.threads_per_worker < 0:
            raise ConfigError("threads_per_worker", f"{self.threads_per_worker} is below 0")
        if not 0 <= self.min_workers <= self.num_workers:
            raise ConfigError("min_workers", f"{self.min_workers} is not in 0..num_workers={self.num_workers}")
        if self.zero_stage == 3 and self.min_workers == 1:
            raise ConfigError("min_workers", "zero_stage=3 shares parameters among workers and cannot go on with 1: choose 2 or "
                                             "more, or another zero_stage")
        for name in ("log_every_steps", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ConfigError(name, f"{getattr(self, name)} is below 1")
        if self.checkpoint_every_steps < 0:
            raise ConfigError("checkpoint_every_steps", f"{self.checkpoint_every_steps} is below 0")
        if self.offload != "none" and self.engine != "deepspeed":
            raise ConfigError("offload", f"{self.offload!r} is DeepSpeed's: choose engine=deepspeed")
        if self.zero_stage not in {"none": (0, 1, 2, 3), "optimizer": (1, 2, 3), "all": (3,)}[self.offload]:
            raise ConfigError("offload", f"zero_stage={self.zero_stage} cannot offload {self.offload!r}: choose stage 1, 2 or 3 "
                                         "for the optimiser, 3 for all")
        if self.whole is not None:
            self.for_policy("all")  # checks it

    def for_policy(self, kind: PolicyKind) -> ExecutionConfig:
        """Return how a training of that policy is computed.

        Raises:
            ConfigError: `whole` is not possible.
        """
        if self.whole is None or kind != "all":
            return self
        return replace(self, whole=None, **asdict(self.whole))
