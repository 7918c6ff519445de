"""A model on disk: a Hugging Face folder of config.json, safetensors and tokenizer files; nothing in it runs code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from sea_ray.artifacts import read_json
from sea_ray.errors import ConfigError, DataError, MachineError
from sea_ray.neurons.untouched import digest_tensor

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Checkpoint:
    """A model folder that transformers, lm-eval and the Hub read as it is."""

    folder: Path
    """Holds config.json, *.safetensors and the tokenizer's files."""

    @classmethod
    def load(cls, folder: Path) -> Checkpoint:
        """Return the checkpoint of a folder, checked to be one.

        Raises:
            DataError: if config.json or the safetensors are missing.
        """
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise DataError("there is no config.json: name a Hugging Face model folder", folder)
        if not any(folder.glob("*.safetensors")):
            raise DataError("there are no *.safetensors; pickled weights are never read: convert the model with "
                            "save_pretrained of transformers", folder)
        return cls(folder)

    @classmethod
    def save(cls, folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Checkpoint:
        """Write model and tokenizer into a folder and return its checkpoint.

        Raises:
            ConfigError: if the tokenizer has ids beyond the model's vocabulary.
        """
        if len(tokenizer) > model.config.vocab_size:
            raise ConfigError("", f"the tokenizer has {len(tokenizer)} ids, the model {model.config.vocab_size}: "
                                  "they don't belong together")
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return cls.load(folder)

    @classmethod
    def from_hub_or_path(cls, reference: str, revision: str | None = None) -> Checkpoint:
        """Return the checkpoint of a local folder or of a Hugging Face id, fetched into the Hub's cache.

        Args:
            reference: folder, or "owner/name", or "owner/name@revision".
            revision: commit, tag or branch of the Hub id; a commit makes the run repeatable.

        Raises:
            ConfigError: if it is neither a folder nor known to the Hub.
            MachineError: if the Hub cannot be reached and the id is not in the cache.
        """
        if Path(reference).expanduser().is_dir():
            return cls.load(Path(reference).expanduser())
        name, _, tagged = reference.partition("@")
        if reference.startswith((".", "/", "~")) or name.count("/") != 1:
            raise ConfigError("", f"there is no folder {reference!r}, and a Hub id is written owner/name[@revision]")
        return cls.load(_fetch(name, revision or tagged or None))

    @property
    def max_tokens(self) -> int:
        """Context length, tokens."""
        return int(read_json(self.folder / "config.json")["max_position_embeddings"])

    def load_model(self, dtype: Precision = "float32") -> PreTrainedModel:
        """Return the model on the CPU, with attention by scaled_dot_product_attention and without remote code."""
        return AutoModelForCausalLM.from_pretrained(
            self.folder, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False,
            local_files_only=True, attn_implementation="sdpa")

    def load_for(self, device: torch.device) -> PreTrainedModel:
        """Return the model on a device, to be asked and not trained.

        In float32, in which a 7B takes 30 GB, so that figures do not depend on the device beyond rounding. Only a checkpoint
        whose stored values are all bfloat16 stays so on an accelerator, half as large; its products are then rounded to 8 bits.
        """
        return self.load_model("bfloat16" if device.type != "cpu" and self._is_bfloat16() else "float32").to(device)

    def _is_bfloat16(self) -> bool:
        types = set()
        for file in self.folder.glob("*.safetensors"):
            with safe_open(file, framework="pt") as tensors:
                types |= {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
        return types == {"BF16"}

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer that belongs to the model."""
        return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False, local_files_only=True)

    def tensor_digests(self) -> dict[str, str]:
        """Return name -> SHA-256 of each stored tensor's type, shape and bytes, read one at a time."""
        digests = {}
        for file in sorted(self.folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as tensors:
                digests.update({name: digest_tensor(tensors.get_tensor(name)) for name in tensors.keys()})  # noqa: SIM118
        return dict(sorted(digests.items()))


def _fetch(name: str, revision: str | None) -> Path:
    """Return the cached snapshot of a Hub id: configuration, safetensors and tokenizer files only."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except LocalEntryNotFoundError as error:
        raise MachineError(f"{name!r} is not in the local cache and the Hub cannot be reached: check the network and "
                           "HF_HUB_OFFLINE, or name a local folder") from error
    except (HfHubHTTPError, HFValidationError) as error:
        raise ConfigError("", f"the Hub refuses {name!r} at revision {revision or 'main'!r} ({error}): check the id, "
                              "the revision, and for a gated model HF_TOKEN") from error
