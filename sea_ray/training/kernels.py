"""What changes how a model computes while it trains, and nothing of what it computes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from transformers import PreTrainedModel

from sea_ray.errors import ConfigError
from sea_ray.training.engine import Worker, execution_for


@contextmanager
def prepared(model: PreTrainedModel, worker: Worker) -> Iterator[None]:
    """Give a model what its worker's configuration asks while the block runs: activation checkpointing, fused kernels.

    Raises:
        ConfigError: fused kernels are asked for where there are none.
    """
    execution = execution_for(model, worker.execution)
    with ExitStack() as stack:
        if execution.fused_kernels:
            stack.enter_context(_fused(model, worker))
        if execution.activation_checkpointing:
            # Each layer's input is kept, the rest is computed again in the backward pass (arXiv 1604.06174).
            model.gradient_checkpointing_enable({"use_reentrant": False})
            stack.callback(model.gradient_checkpointing_disable)
        yield


@contextmanager
def _fused(model: PreTrainedModel, worker: Worker) -> Iterator[None]:
    """Let Liger's kernels compute norms, rotary positions and SwiGLU while the block runs; the loss is ours (token_loss.py).

    Liger replaces functions and classes of transformers for the whole process, and its rotation writes into the queries and
    keys that detection's hooks have just read (neurons/detection.py): so all is put back.
    """
    if worker.device.type != "cuda":
        raise ConfigError("fused_kernels", f"Liger's kernels need CUDA; this worker trains on {worker.device.type}")
    if importlib.util.find_spec("liger_kernel") is None:
        raise ConfigError("fused_kernels", "liger-kernel is not installed: pip install 'sea_ray[gpu]'")
    from liger_kernel.transformers import _apply_liger_kernel_to_instance

    shared = vars(sys.modules[type(model).__module__])
    places = [shared, *(vars(module) for module in model.modules())]
    before = [dict(place) for place in places]
    _apply_liger_kernel_to_instance(model=model, rope=True, rms_norm=True, swiglu=True, cross_entropy=False,
                                    fused_linear_cross_entropy=False)
    gained = [place.keys() - old.keys() for place, old in zip(places, before, strict=True)]
    try:
        yield
    finally:
        for place, new in zip(places, gained, strict=True):
            for name in new:
                place.pop(name, None)
        shared.update(before[0])
