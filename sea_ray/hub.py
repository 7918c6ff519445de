"""Rows of Hugging Face datasets, streamed: of an id on the Hub, or of a local folder in the same layout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sea_ray.errors import DataError, MachineError


def dataset_rows(dataset: str, *, name: str | None, split: str, revision: str | None,
                 setting: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number, from 1 on, and columns of each row of a dataset, in its order.

    Args:
        dataset: id such as "wikimedia/wikipedia", or a folder.
        name: configuration of the dataset; None: its default.
        split: split of the dataset.
        revision: commit, tag or branch; None: the newest.
        setting: dotted path of the setting that names the dataset, for messages.

    Raises:
        DataError: there is no such dataset, configuration, split or revision (the message says which there are), or a file of it
            is broken.
        MachineError: the network or the disk failed.
    """
    import datasets  # 2 s to import, and only these sources need it

    place = f"dataset {dataset}"
    try:
        rows = datasets.load_dataset(dataset, name, split=split, revision=revision, streaming=True)
        yield from enumerate(rows, start=1)
    except (FileNotFoundError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"cannot be opened or read ({error}); check {setting} and your access to it", file=place) from error
    except OSError as error:
        raise MachineError(f"{place}: the network or the disk failed ({error}); try again") from error
