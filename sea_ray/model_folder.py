"""A checkpoint or packs as they are given away: the files that transformers reads, how answers end; put on the Hub when asked."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from sea_ray.artifacts import RECORD, read_json, write_json
from sea_ray.errors import ConfigError, MachineError
from sea_ray.hub import is_networks

PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
"""What belongs to a checkpoint; nothing of it runs code."""
END_TOKENS = ("<|endoftext|>", "<|im_end|>")
"""Tokens that end an answer: of a text, and of a turn in the chat format."""


@contextlib.contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """Yield a folder to fill; it gets its place when the context ends well, so that it is there whole or not at all.

    Args:
        place: must not exist, or be an empty folder.

    Raises:
        ConfigError: something is there.
    """
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ConfigError("to", f"{str(place)!r} is there already and not empty; name another folder")
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_model(checkpoint: Path, folder: Path) -> None:
    """Copy a checkpoint's files; its generation_config.json ends an answer where a turn ends, too.

    Args:
        checkpoint: of the store.
        folder: empty.
    """
    for file in sorted({file for pattern in PATTERNS for file in checkpoint.glob(pattern)}):
        if file.name != RECORD:
            shutil.copyfile(file, folder / file.name)
    generation = folder / "generation_config.json"
    settings = read_json(generation) if generation.exists() else {}
    own = settings.get("eos_token_id")
    ends = {*_ids(checkpoint, END_TOKENS), *(own if isinstance(own, list) else [] if own is None else [own])}
    write_json(generation, settings | {"eos_token_id": sorted(ends)})


def _ids(checkpoint: Path, tokens: Sequence[str]) -> list[int]:
    """Return the ids of those tokens that a checkpoint's tokenizer has."""
    added = {token["content"]: token["id"] for token in read_json(checkpoint / "tokenizer.json")["added_tokens"]}
    return [added[token] for token in tokens if token in added]


def write_packs(packs: Path, languages: Sequence[str], folder: Path) -> None:
    """Copy the packs of some languages, each into a folder of its own.

    Args:
        packs: folder with LANGUAGE/pack.json.
        languages: codes.
        folder: empty.
    """
    for code in languages:
        shutil.copytree(packs / code, folder / code)


def push_folder(folder: Path, name: str, *, public: bool) -> str:
    """Put a folder's files into a repository of the Hub, which is made if need be, and return its address.

    Args:
        folder: of a model or of packs.
        name: USER/NAME.
        public: whether everybody can read a repository that is made; one that is there stays as it is.

    Raises:
        ConfigError: the Hub refuses: no token, or none that may write there.
        MachineError: the Hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    api = HfApi()
    try:
        address = api.create_repo(name, private=not public, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Exported by sea_ray")
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        raise ConfigError("push", f"the Hub refuses {name!r} ({error}): check that HF_TOKEN may write there; the folder "
                                  f"{folder} is complete") from error
    except Exception as error:
        if not (isinstance(error, OfflineModeIsEnabled | OSError) or is_networks(error)):
            raise
        raise MachineError(f"the Hub cannot be reached ({type(error).__name__}: {error}); the folder {folder} is complete, so "
                           f"push it later: hf upload {name} {folder}") from error
    return str(address)
