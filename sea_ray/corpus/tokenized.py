"""The tokenised corpus: one array of tokens per language and split, memory-mapped when loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sea_ray.artifacts import plain, read_json, write_json
from sea_ray.corpus.documents import SPLITS, Documents

TOKENIZER_FOLDER = "tokenizer"
_BATCH_DOCUMENTS = 4096


@dataclass(frozen=True, kw_only=True)
class PartSize:
    """How large one split of one language is."""

    num_documents: int
    num_tokens: int
    """With one end-of-text token per document."""
    num_bytes: int
    """UTF-8 bytes of the documents; end-of-text tokens stand for none."""


class TokenizedCorpus:
    """Tokens of all languages and splits; each document is followed by the end-of-text token."""

    def __init__(
        self,
        tokens: Mapping[str, Mapping[str, NDArray[np.unsignedinteger]]],
        sizes: Mapping[str, Mapping[str, PartSize]],
        eos_id: int,
        tokenizer: PreTrainedTokenizerBase | None = None,
        folder: Path | None = None,
    ) -> None:
        """Args: tokens, sizes: by language and split; eos_id: end-of-text; tokenizer or folder: one of the two."""
        self._tokens, self._sizes, self.eos_id = tokens, sizes, eos_id
        self._tokenizer, self._folder = tokenizer, folder

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes in the order of the configuration."""
        return tuple(self._sizes)

    def tokens(self, language: str, split: str) -> NDArray[np.unsignedinteger]:
        """Return the token ids, 1-D, uint16 or uint32, memory-mapped if the corpus was loaded."""
        return self._tokens[language][split]

    def num_documents(self, language: str, split: str) -> int:
        """Return how many documents, which is also how many end-of-text tokens."""
        return self._sizes[language][split].num_documents

    def num_bytes(self, language: str, split: str) -> int:
        """Return the UTF-8 bytes of the text that the tokens encode."""
        return self._sizes[language][split].num_bytes

    def num_tokens(self, language: str, split: str) -> int:
        """Return the tokens, end-of-text included."""
        return self._sizes[language][split].num_tokens

    @property
    def tokenizer_dir(self) -> Path:
        """Folder of the tokenizer inside the saved artifact, for AutoTokenizer."""
        if self._folder is None:
            raise ValueError("the corpus is in memory: save and load it, or use load_tokenizer()")
        return self._folder / TOKENIZER_FOLDER

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer that made the tokens."""
        return self._tokenizer or AutoTokenizer.from_pretrained(self.tokenizer_dir)

    def save(self, folder: Path) -> None:
        """Write index.json, tokens/LANGUAGE.SPLIT.npy and the tokenizer's folder."""
        (folder / "tokens").mkdir(parents=True, exist_ok=True)
        for code, parts in self._tokens.items():
            for split, tokens in parts.items():
                np.save(folder / "tokens" / f"{code}.{split}.npy", tokens)
        self.load_tokenizer().save_pretrained(folder / TOKENIZER_FOLDER)
        write_json(folder / "index.json", {"eos_id": self.eos_id, "sizes": plain(self._sizes)})

    @classmethod
    def load(cls, folder: Path) -> TokenizedCorpus:
        """Open what `save` wrote, without reading the tokens."""
        index = read_json(folder / "index.json")
        sizes = {code: {s: PartSize(**size) for s, size in parts.items()} for code, parts in index["sizes"].items()}
        tokens = {
            code: {split: np.load(folder / "tokens" / f"{code}.{split}.npy", mmap_mode="r") for split in parts}
            for code, parts in sizes.items()
        }
        return cls(tokens, sizes, index["eos_id"], folder=folder)


def tokenize_documents(documents: Documents, tokenizer: PreTrainedTokenizerBase) -> TokenizedCorpus:
    """Encode all documents, each followed by the end-of-text token.

    Args:
        documents: text; a special token spelled out in it is encoded as the letters it consists of.
        tokenizer: a fast tokenizer with an end-of-text token (Qwen2's chat checkpoints name <|im_end|> as eos: there
            <|endoftext|>, their padding token, is taken).

    Returns:
        The corpus, in memory.
    """
    eos_id = end_of_text_id(tokenizer)
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32)
    tokens: dict[str, dict[str, NDArray[np.unsignedinteger]]] = {}
    sizes: dict[str, dict[str, PartSize]] = {}
    for code, parts in documents.texts.items():
        tokens[code] = {split: encode_texts(parts[split], tokenizer, eos_id, dtype) for split in SPLITS}
        sizes[code] = {
            split: PartSize(
                num_documents=len(parts[split]),
                num_tokens=len(tokens[code][split]),
                num_bytes=sum(len(text.encode()) for text in parts[split]),
            )
            for split in SPLITS
        }
    return TokenizedCorpus(tokens, sizes, eos_id, tokenizer=tokenizer)


def end_of_text_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id that ends a document: <|endoftext|> where the tokenizer has it, else its eos token."""
    vocab = tokenizer.get_vocab()
    name = "<|endoftext|>" if "<|endoftext|>" in vocab else tokenizer.eos_token
    return int(vocab[name])


def encode_texts(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, eos_id: int, dtype: np.dtype
) -> NDArray[np.unsignedinteger]:
    """Return the tokens of texts in one array, each text followed by `eos_id`."""
    backend = tokenizer.backend_tokenizer
    before = backend.encode_special_tokens
    backend.encode_special_tokens = True  # text that spells <|im_end|> is text: it must not end anything
    try:
        pieces = []
        for start in range(0, len(texts), _BATCH_DOCUMENTS):
            encodings = backend.encode_batch_fast(texts[start : start + _BATCH_DOCUMENTS], add_special_tokens=False)
            ids = chain.from_iterable([*encoding.ids, eos_id] for encoding in encodings)
            pieces.append(np.fromiter(ids, dtype=dtype))
    finally:
        backend.encode_special_tokens = before
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=dtype)
