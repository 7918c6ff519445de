"""What a service is to answer as, in plain values that stand in a YAML file, and how they become models."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sea_ray.artifacts import RECORD, Artifact, Store
from sea_ray.errors import ConfigError, SeaRayError
from sea_ray.launch.run import load_run
from sea_ray.serving.config import BASE, ServingConfig

TEXTS = 64
"""By which a pack's effect is measured."""


@dataclass(frozen=True, kw_only=True)
class Offered:
    """A checkpoint and its packs."""

    name: str
    """That clients ask for."""
    checkpoint: str
    """KIND/FINGERPRINT in the store; of an offer without a store a folder, or an id of the Hub."""
    packs: str = ""
    """Artifact with packs/LANGUAGE in the store, without a store a folder with LANGUAGE/pack.json; "": none."""
    grafts: bool = False
    """Whether the packs of an ancestor are laid on it, approximately."""
    texts: str = ""
    """Corpus in the store by whose validation text a pack's effect is measured when it is first asked for; "": it is not."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Checkpoints that are served together: those that are listed, or a run's winner and what its settings say beside it."""

    store: str = ""
    """URL of the store that holds them; "": there is none."""
    models: tuple[Offered, ...] = ()
    """Checkpoints, the first is the default of pages."""
    run: str = ""
    """Name of a finished run; it is looked up by each replica that starts."""
    ignore_gate: bool = False
    """Whether the run's winner is served although it failed its safety gate."""

    def __post_init__(self) -> None:
        if bool(self.models) == bool(self.run):
            raise ConfigError("models", "an offer has models or a run, one of them")


@dataclass(frozen=True, kw_only=True)
class Rota:
    """What answers and what stands by: the user_config of the deployment."""

    serving: Offer
    """Answers."""
    standby: Offer | None = None
    """Is loaded, so that a rollback takes no time; None: nothing."""


def offer_of_run(store: Store, name: str, config: ServingConfig, *, ignore_gate: bool = False) -> Offer:
    """Return a finished run's winner, with what the settings say beside it.

    Raises:
        ConfigError: no such run.
        SeaRayError: the winner failed its safety gate, or an artifact is no longer in the store.
    """
    roles = load_run(store, name)["experiment"]
    check_gate_record(stored(store, roles["gate"]).facts, name, ignore_gate)
    packs = ""
    if config.packs:
        choice = roles["thresholds"]
        packs = _place(store, next(trial["artifact"] for trial in choice["trials"]
                                   if trial["point"] == choice["winner"] and trial["artifact"]))
    texts = f"{roles['corpus']['kind']}/{roles['corpus']['fingerprint']}" if packs else ""
    winner = Offered(name=config.model_name, checkpoint=_place(store, roles["winner"]), packs=packs, grafts=bool(packs),
                     texts=texts)
    base = [Offered(name=BASE, checkpoint=_place(store, roles["base"]), packs=packs, texts=texts)] if config.with_base else []
    return Offer(store=store.url, models=(winner, *base))


def pinned(offer: Offer, config: ServingConfig) -> Offer:
    """Return an offer that names artifacts and no run, which may be carried out again."""
    if not offer.run:
        return offer
    return offer_of_run(Store(offer.store), offer.run, config, ignore_gate=offer.ignore_gate)


def offer_of_artifact(store: Store, checkpoint: Artifact, config: ServingConfig) -> Offer:
    """Return a checkpoint of a store alone."""
    return Offer(store=store.url, models=(
        Offered(name=config.model_name, checkpoint=f"{checkpoint.kind}/{checkpoint.fingerprint}"),))


def offer_of_checkpoint(reference: str, packs: str, config: ServingConfig) -> Offer:
    """Return a checkpoint of anybody's.

    Args:
        reference: folder, or id of the Hub.
        packs: folder with LANGUAGE/pack.json, or "". Packs of another base are laid on it as grafts.
        config: its name.

    Raises:
        ConfigError: there is no such folder of packs.
    """
    if packs and not pack_folders(Path(packs)):
        raise ConfigError("packs", f"{packs!r} holds no language pack: name a folder with LANGUAGE/pack.json in it")
    local = Path(reference).expanduser()
    return Offer(models=(Offered(name=config.model_name, checkpoint=str(local.absolute()) if local.is_dir() else reference,
                                 packs=str(Path(packs).absolute()) if packs else "", grafts=bool(packs)),))


def folders(offered: Offered, store_url: str) -> tuple[Path, dict[str, Path]]:
    """Return the checkpoint's folder on this machine, fetched if need be, and the folder of each pack.

    Raises:
        ConfigError: there is no such checkpoint.
        MachineError: the Hub cannot be reached.
        SeaRayError: it is no longer in the store.
    """
    if store_url:
        store = Store(store_url)
        checkpoint = _open(store, offered.checkpoint)
        return checkpoint, pack_folders(_open(store, offered.packs) / "packs") if offered.packs else {}
    from sea_ray.training.checkpoint import Checkpoint

    folder = Checkpoint.from_hub_or_path(offered.checkpoint).folder
    return folder, pack_folders(Path(offered.packs)) if offered.packs else {}


def held_out(offered: Offered, store_url: str, language: str) -> list[str]:
    """Return some validation texts of a language; the corpus is fetched if need be. One that is gone has none."""
    if not offered.texts:
        return []
    from sea_ray.corpus.documents import Documents

    try:
        folder = _open(Store(store_url), offered.texts)
    except SeaRayError:  # a store may be cleaned of it: the packs are served all the same, and their effect is not known
        return []
    documents = Documents.load(folder / "documents")
    return list(islice(documents.texts(language, "validation"), TEXTS))


def pack_folders(folder: Path) -> dict[str, Path]:
    """Return language code -> folder of each pack below a folder."""
    return {file.parent.name: file.parent for file in sorted(folder.glob("*/pack.json"))}


def check_gate_record(facts: dict, name: str, ignore: bool, remedy: str = "Serve it") -> None:
    """Refuse a checkpoint that failed its safety gate.

    Raises:
        SeaRayError: it failed and nobody said to ignore that.
    """
    if not facts["passed"] and not ignore:
        raise SeaRayError(f"the winner of {name!r} failed its safety gate: {'; '.join(facts['reasons'])}. "
                          f"{remedy} all the same with safety.ignore_gate=true")


def stored(store: Store, place: dict[str, str]) -> Artifact:
    """Return an artifact that a run's record names.

    Raises:
        SeaRayError: it is no longer in the store.
    """
    artifact = Artifact(kind=place["kind"], name=place["kind"], fingerprint=place["fingerprint"],
                        folder=store.root / "artifacts" / place["kind"] / place["fingerprint"])
    if not (store.open(artifact) / RECORD).exists():
        raise SeaRayError(f"{place['kind']} {place['fingerprint']} is no longer in the store; run the experiment again")
    return artifact


def _place(store: Store, place: dict[str, str]) -> str:
    artifact = stored(store, place)
    return f"{artifact.kind}/{artifact.fingerprint}"


def _open(store: Store, place: str) -> Path:
    kind, _, fingerprint = place.partition("/")
    return store.open(stored(store, {"kind": kind, "fingerprint": fingerprint}))
