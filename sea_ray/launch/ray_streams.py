"""Streams over a cluster by Ray Data: tasks read, a pool of actors that grows with the cluster works, the caller takes it all.

Blocks wait in the object store and spill to disk; Ray Data holds the readers back when the caller is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow
import ray

from sea_ray.streams import Read, Work

_BLOCK_BYTES = 8 << 20
"""Of one batch: small enough that the actors share the work evenly at the end."""
_READER_CPUS = 0.25
"""A reader feeds several actors and waits most of the time."""


def ray_streams(items: Sequence[Any], read: Read, make_work: Callable[[], Work]) -> Iterator[pyarrow.Table]:
    """Yield the result of every batch of every item, in order; the functions run all over the cluster.

    Args:
        items: what to read.
        read: from an item to its batches.
        make_work: makes each actor's function.
    """
    if not items:
        return
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.target_max_block_size = _BLOCK_BYTES

    def read_some(numbers: pyarrow.Table) -> Iterator[pyarrow.Table]:
        for number in numbers.column("item").to_pylist():
            yield from read(items[number])

    class Worker:
        def __init__(self) -> None:
            self._work = make_work()

        def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
            return self._work(batch)

    num_cpus = int(ray.cluster_resources()["CPU"])
    numbers = ray.data.from_items([{"item": number} for number in range(len(items))], override_num_blocks=len(items))
    readers = ray.data.TaskPoolStrategy(size=max(1, num_cpus // 4))
    workers = ray.data.ActorPoolStrategy(min_size=1, max_size=num_cpus)
    results = numbers.map_batches(
        read_some, batch_size=1, batch_format="pyarrow", num_cpus=_READER_CPUS, compute=readers,
    ).map_batches(
        Worker, batch_size=None, batch_format="pyarrow", zero_copy_batch=True, num_cpus=1 - _READER_CPUS, compute=workers)
    yield from results.iter_batches(batch_size=None, batch_format="pyarrow")
