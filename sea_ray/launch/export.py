"""`sea-ray export`: a run's winner, or its language packs, as a Hugging Face folder with a card; pushed when asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from rich.console import Console

from sea_ray.decoding import decode
from sea_ray.errors import ConfigError, nearest


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What `sea-ray export` is told besides the run."""

    to: str
    """Folder that is written; it must not hold anything yet."""
    model: Literal["winner", "merged", "base"] = "winner"
    """Which model: the winner, the base with all packs merged, or the base that the packs belong to."""
    packs: tuple[str, ...] = ()
    """Languages whose packs are written in place of a model."""
    licence: str = ""
    """Id of the licence that it is given under, as the Hub writes it (apache-2.0); "": the card says that nobody said."""
    push: str | None = None
    """USER/NAME of the Hub, where the folder is put besides; the token is in HF_TOKEN or the Hub's own file."""
    public: bool = False
    """Whether a repository that the push makes can be read by everybody."""

    def __post_init__(self) -> None:
        if self.push is not None:
            try:
                validate_repo_id(self.push)
            except HFValidationError as error:
                raise ConfigError("push", f"{self.push!r} is no USER/NAME of the Hub: {error}") from error
            if self.push.count("/") != 1:
                raise ConfigError("push", f"{self.push!r} names no owner; write USER/NAME")


def export(arguments: Sequence[str], console: Console) -> int:
    """Write a model or packs into a folder, with a card, and return the exit code.

    Args:
        arguments: run=NAME, store.url=URL, safety.ignore_gate=true and settings of ExportConfig.
        console: where a person looks.

    Raises:
        ConfigError: no such run, pack or setting, or the folder is not empty.
        SeaRayError: the winner failed its safety gate, or a result is no longer in the store.
        MachineError: the Hub cannot be reached.
    """
    from sea_ray.launch.reading import named_run

    names = [*ExportConfig.__dataclass_fields__, "safety.ignore_gate"]
    store, name, settings = named_run(arguments, *names)
    ignore_gate = settings.pop("safety.ignore_gate", False)
    config = decode(ExportConfig, settings)
    folder = Path(config.to).expanduser()

    from sea_ray.launch.offers import check_gate_record
    from sea_ray.launch.reading import packs_of, read_experiment
    from sea_ray.launch.run import load_run
    from sea_ray.model_card import model_card, pack_card
    from sea_ray.model_folder import new_folder, push_folder, write_model, write_packs

    if config.packs:
        of = packs_of(store, name)
        for code in config.packs:
            if code not in (known := of.packs.facts["runs"]):
                raise ConfigError("packs", f"run {name!r} has no pack of {code!r}{nearest(code, known)}")
        with new_folder(folder) as place:
            write_packs(of.packs.folder / "packs", config.packs, place)
            (place / "README.md").write_text(pack_card(of, config.packs, licence=config.licence), encoding="utf-8")
    else:
        record = load_run(store, name)
        experiment = read_experiment(store, record)
        if config.model == "winner":
            check_gate_record(experiment.gate.facts, name, ignore_gate, "Give it away")
        with new_folder(folder) as place:
            write_model(getattr(experiment, config.model).folder, place)
            card = model_card(experiment, record, model=config.model, licence=config.licence)
            (place / "README.md").write_text(card, encoding="utf-8")
    console.print(f"written     {folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}", markup=False)
    if not config.licence:
        console.print("licence     nobody said under which it may be used: licence=ID, such as licence=apache-2.0")
    if config.push is not None:
        console.print(f"pushed      {push_folder(folder, config.push, public=config.public)}")
    return 0
