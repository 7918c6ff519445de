"""Streams of tables: what is read from many items is worked on batch by batch, in the items' order, in bounded memory.

The same two functions run in this process (`in_process`) or spread over a cluster (`sea_ray.launch.ray_streams`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from typing import Any, Protocol

import pyarrow
from pyarrow import compute

Read = Callable[[Any], Iterable[pyarrow.Table]]
"""From an item, such as a file, to its rows in batches."""
Work = Callable[[pyarrow.Table], pyarrow.Table]
"""From a batch to its result; the batches' borders must not matter to the rows."""


class Streams(Protocol):
    """How a stream is computed."""

    def __call__(self, items: Sequence[Any], read: Read, make_work: Callable[[], Work]) -> Iterator[pyarrow.Table]:
        """Yield the result of every batch of every item, in order.

        Args:
            items: what to read, picklable.
            read: from an item to its batches, picklable.
            make_work: makes the worker's function, once in each process; picklable.
        """


def in_process(items: Sequence[Any], read: Read, make_work: Callable[[], Work]) -> Iterator[pyarrow.Table]:
    """Compute a stream here, lazily: what nobody takes is not read."""
    work = make_work()
    for item in items:
        for table in read(item):
            yield work(table)


def parted(table: pyarrow.Table, *names: str) -> Iterator[tuple[tuple[Any, ...], pyarrow.Table]]:
    """Yield the rows of a table that have the same values in some columns, without these columns, with the values."""
    rest = table.drop_columns(list(names))
    for row in table.select(names).group_by(names, use_threads=False).aggregate([]).to_pylist():
        mine = reduce(compute.and_, (compute.equal(table.column(name), value) for name, value in row.items()))
        yield tuple(row.values()), rest.filter(mine)
