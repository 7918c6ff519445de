"""What changes how a model computes while it trains, and nothing of what it computes."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel

from sea_ray.errors import ConfigError
from sea_ray.training.engine import Worker, execution_for


@contextmanager
def prepared(model: PreTrainedModel, worker: Worker) -> Iterator[None]:
    """Give a model what its worker's configuration asks: activation checkpointing while the block runs, and fused kernels, which
    replace transformers' own and stay until the process ends.

    Raises:
        ConfigError: fused kernels are asked for where there are none.
    """
    execution = execution_for(model, worker.execution)
    if execution.fused_kernels:
        _fuse(model, worker)
    if execution.activation_checkpointing:
        # Each layer's input is kept, the rest is computed again in the backward pass (arXiv 1604.06174).
        model.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        yield
    finally:
        if execution.activation_checkpointing:
            model.gradient_checkpointing_disable()


def _fuse(model: PreTrainedModel, worker: Worker) -> None:
    """Let Liger's kernels compute norms, rotary positions and SwiGLU; the loss is ours (token_loss.py)."""
    if worker.device.type != "cuda":
        raise ConfigError("fused_kernels", f"Liger's kernels need CUDA; this worker trains on {worker.device.type}")
    if importlib.util.find_spec("liger_kernel") is None:
        raise ConfigError("fused_kernels", "liger-kernel is not installed: pip install 'sea_ray[gpu]'")
    from liger_kernel.transformers import _apply_liger_kernel_to_instance

    _apply_liger_kernel_to_instance(model=model, rope=True, rms_norm=True, swiglu=True, cross_entropy=False,
                                    fused_linear_cross_entropy=False)
