"""Whether the Hub still has what `conf/` names: models and data sets by revision, their configurations, splits and columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sea_ray.config import BaseModelConfig, ExperimentConfig
from sea_ray.corpus.config import QualityConfig
from sea_ray.errors import DataError, MachineError, SeaRayError, nearest
from sea_ray.hub import dataset_rows
from sea_ray.launch.compose import compose_experiment, config_folder, groups
from sea_ray.launch.doctor import Finding
from sea_ray.sft.sources import FIELDS, DatasetSource

OPTIONAL = {"input", "entity"}
"""Fields of a format that a row may lack."""


@dataclass(frozen=True, kw_only=True, order=True)
class Repository:
    """A model or a data set at a revision."""

    kind: Literal["dataset", "model"]
    name: str
    """Hub id."""
    revision: str
    """Commit, tag or branch; "" is the newest."""


@dataclass(frozen=True, kw_only=True, order=True)
class Table:
    """A split of a data set and the columns that are read."""

    dataset: str
    """Hub id, or a folder in the same layout."""
    revision: str
    name: str
    """Configuration; "": its default."""
    split: str
    columns: tuple[str, ...]
    """"a.b" is column b within a."""


def check_hub() -> Iterator[Finding]:
    """Yield what the Hub says about every id in `conf/`.

    Raises:
        MachineError: the Hub cannot be reached.
    """
    repositories, tables = wanted()
    for repository in sorted(repositories):
        yield check_repository(repository)
    for table in sorted(tables):
        yield check_table(table)


def wanted() -> tuple[set[Repository], set[Table]]:
    """Return what the files of conf/experiment and conf/model name; what an experiment's user has to add is not in it."""
    repositories, tables = set[Repository](), set[Table]()
    known = groups(config_folder())
    chosen = [[f"experiment={name}"] for name in known["experiment"]]
    chosen += [["experiment=demo", f"model={name}"] for name in known["model"]]
    for overrides in chosen:
        try:
            config = compose_experiment(overrides)
        except SeaRayError:
            continue  # the check of experiments tells
        repositories.update(_models(config.model, config.corpus.quality))
        tables.update(_tables(config))
    repositories |= {Repository(kind="dataset", name=table.dataset, revision=table.revision) for table in tables}
    return repositories, tables


def _models(*models: BaseModelConfig | QualityConfig | None) -> Iterator[Repository]:
    for model in models:
        if model is not None and model.checkpoint and not Path(model.checkpoint).expanduser().is_dir():
            yield Repository(kind="model", name=model.checkpoint, revision=model.revision or "")


def _tables(config: ExperimentConfig) -> Iterator[Table]:
    corpus = config.corpus
    for sources in corpus.hub.values() if corpus.source == "hub" else ():
        for text in sources:
            yield Table(dataset=text.dataset, revision=text.revision or "", name=text.name or "", split=text.split,
                        columns=(text.field,))
    root = Path(config.sft.data.root or ".")
    for stage in config.sft.data.stages:
        for source in stage.datasets:
            if not (root / source.dataset).is_dir():
                yield Table(dataset=source.dataset, revision=source.revision or "", name=source.name or "", split=source.split,
                            columns=columns_of(source))


def columns_of(source: DatasetSource) -> tuple[str, ...]:
    """Return the columns that a source's rows must have."""
    fields = (source.source, source.language) if source.format == "parallel" else FIELDS[source.format]
    named = [source.fields.get(field, field) for field in fields if field in source.fields or field not in OPTIONAL]
    return tuple(sorted({*named, *source.where}))


def check_repository(repository: Repository) -> Finding:
    """Ask the Hub for one revision.

    Raises:
        MachineError: it cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.utils import httpx

    subject = f"{repository.kind} {repository.name}"
    try:
        api = HfApi()
        ask = api.model_info if repository.kind == "model" else api.dataset_info
        info = ask(repository.name, revision=repository.revision or None)
    except GatedRepoError:
        return Finding(verdict="bad", subject=subject, text="is gated: ask for access on its page and set HF_TOKEN")
    except RevisionNotFoundError:
        return Finding(verdict="bad", subject=subject, text=f"has no revision {repository.revision}: name one that it has")
    except RepositoryNotFoundError:
        return Finding(verdict="bad", subject=subject, text="is not on the Hub, or not for this HF_TOKEN: it may have moved")
    except (httpx.TransportError, OSError, HfHubHTTPError) as error:
        raise unreachable(error) from error
    gated = f", gated ({info.gated}): each user has to ask for access" if info.gated else ""
    if not repository.revision:
        return Finding(verdict="note", subject=subject, text=f"no revision is named; the newest is {info.sha}{gated}")
    return Finding(verdict="ok", subject=subject, text=f"has revision {repository.revision[:12]}{gated}")


def check_table(table: Table) -> Finding:
    """Look at a split's configuration, name and first row.

    Raises:
        MachineError: the Hub cannot be reached.
    """
    import datasets
    from huggingface_hub.utils import httpx

    subject = f"split {table.dataset} {table.name}".rstrip()
    revision = table.revision or None
    try:
        names = datasets.get_dataset_config_names(table.dataset, revision=revision)
        if table.name and table.name not in names:
            return Finding(verdict="bad", subject=subject,
                           text=f"there is no configuration {table.name!r}{nearest(table.name, names)}")
        splits = datasets.get_dataset_split_names(table.dataset, table.name or None, revision=revision)
        if table.split not in splits:
            return Finding(verdict="bad", subject=subject,
                           text=f"there is no split {table.split!r}{nearest(table.split, splits)}")
        rows = dataset_rows(table.dataset, name=table.name or None, split=table.split, revision=revision, setting="conf")
        row = next((row for _, row in rows), None)
    except (DataError, FileNotFoundError, ValueError, datasets.exceptions.DatasetsError) as error:
        return Finding(verdict="bad", subject=subject, text=" ".join(str(error).split()))
    except (httpx.TransportError, OSError) as error:
        raise unreachable(error) from error
    if row is None:
        return Finding(verdict="bad", subject=subject, text=f"split {table.split!r} is empty")
    missing = [column for column in table.columns if not _has(row, column)]
    if missing:
        return Finding(verdict="bad", subject=subject, text=f"has no column {', '.join(missing)}; there are {', '.join(row)}")
    return Finding(verdict="ok", subject=subject, text=f"{table.split}: {', '.join(table.columns)}")


def _has(row: Mapping[str, Any], column: str) -> bool:
    value: Any = row
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def unreachable(error: Exception) -> MachineError:
    """Return what is said when the network is not there."""
    (line, *_) = str(error).splitlines() or [""]
    return MachineError(f"the Hub cannot be reached ({type(error).__name__}: {line}): "
                        "check the network, a proxy and HF_HUB_OFFLINE; without --online the machine alone is looked at")
