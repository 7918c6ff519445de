"""What a training costs in bytes, counted from the tensors that are really held and handed over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def held_bytes(tensors: Iterable[object], besides: Iterable[torch.Tensor] = ()) -> int:
    """Return the bytes of the memory behind some tensors; what several of them share counts once, and whole.

    Args:
        tensors: what is not a tensor, such as a missing gradient, holds nothing.
        besides: tensors whose memory is not counted.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in besides}
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
                for tensor in tensors if isinstance(tensor, torch.Tensor)}
    return sum(size for place, size in storages.items() if place not in known)


class CountedReductions(TorchDispatchMode):
    """Counts, while it is entered, the bytes that this rank hands to all-reduce, reduce and reduce-scatter.

    It stands where torch dispatches the operators of its process groups, so it sees what DeepSpeed, DDP or anything else
    really sends, buckets and padding included. Gathers of weights and broadcasts are not reductions: not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        """Count one operator and let it run."""
        operator: Callable[..., Any] = func
        if func.namespace == "c10d" and "reduce" in func.__name__:
            handed = args[1] if "scatter" in func.__name__ else args[0]  # scatters name their output first
            self.bytes += sum(t.numel() * t.element_size() for t in tree_leaves(handed) if isinstance(t, torch.Tensor))
        return operator(*args, **(kwargs or {}))


def readable_bytes(size: int) -> str:
    """Return a size in the largest decimal unit that it fills, such as "0.53 MB"."""
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= one / 10:
            return f"{size / one:.2f} {unit}"
    return f"{size} B"
