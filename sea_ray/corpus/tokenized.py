"""The tokenised corpus: one array of tokens per language and split, memory-mapped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray
from pyarrow import compute
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sea_ray.artifacts import plain, read_json, write_json
from sea_ray.corpus.documents import SPLITS, Documents, num_row_groups
from sea_ray.streams import Streams, in_process, parted

TOKENIZER_FOLDER = "tokenizer"


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

    def __init__(self, folder: Path, sizes: Mapping[str, Mapping[str, PartSize]], eos_id: int, dtype: str) -> None:
        """Args: folder: holds the files; sizes: by language and split; eos_id: end-of-text; dtype: of a token in the files."""
        self._folder, self._sizes, self.eos_id = folder, sizes, eos_id
        self._tokens = {(code, split): _map_tokens(tokens_file(folder, code, split), dtype)
                        for code, parts in sizes.items() for split in parts}

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes in the order of the configuration."""
        return tuple(self._sizes)

    def tokens(self, language: str, split: str) -> NDArray[np.unsignedinteger]:
        """Return the token ids, 1-D, uint16 or uint32, memory-mapped."""
        return self._tokens[language, split]

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
        """Folder of the tokenizer inside the artifact, for AutoTokenizer."""
        return self._folder / TOKENIZER_FOLDER

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer that made the tokens."""
        return AutoTokenizer.from_pretrained(self.tokenizer_dir)

    @classmethod
    def load(cls, folder: Path) -> TokenizedCorpus:
        """Open what `tokenize_documents` wrote, without reading the tokens."""
        index = read_json(folder / "index.json")
        sizes = {code: {s: PartSize(**size) for s, size in parts.items()} for code, parts in index["sizes"].items()}
        return cls(folder, sizes, index["eos_id"], index["dtype"])


def tokens_file(folder: Path, language: str, split: str) -> Path:
    """Return the file of a split's tokens: nothing but the ids, one after the other."""
    return folder / "tokens" / f"{language}.{split}.bin"


def _map_tokens(file: Path, dtype: str) -> NDArray[np.unsignedinteger]:
    if file.stat().st_size == 0:
        return np.zeros(0, dtype)
    return np.memmap(file, dtype, mode="r")


def tokenize_documents(documents: Documents, tokenizer: PreTrainedTokenizerBase, folder: Path, *, max_tokens: int = 0,
                       streams: Streams = in_process) -> TokenizedCorpus:
    """Encode all documents, each followed by the end-of-text token, into files.

    Args:
        documents: text; a special token spelled out in it is encoded as the letters it consists of.
        tokenizer: a fast tokenizer with an end-of-text token (Qwen2's chat checkpoints name <|im_end|> as eos: there
            <|endoftext|>, their padding token, is taken).
        folder: made; gets index.json, tokens/LANGUAGE.SPLIT.bin and the tokenizer's folder.
        max_tokens: of the training split of a language; the document that would pass it and what follows are left out.
            0: no limit.
        streams: where documents are encoded; the result is the same everywhere.
    """
    eos_id = end_of_text_id(tokenizer)
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32)
    (folder / "tokens").mkdir(parents=True)
    parts = {(code, split): _Part(tokens_file(folder, code, split), dtype, max_tokens if split == "train" else 0)
             for code in documents.languages for split in SPLITS}
    items = [_Group(language=code, split=split, number=number, url=documents.url(code, split))
             for code, split in parts for number in range(num_row_groups(documents.file(code, split)))]
    for table in streams(items, _read_group, partial(_Encoder, tokenizer, eos_id)):
        for place, rows in parted(table, "language", "split"):
            parts[place].append(rows)
    sizes: dict[str, dict[str, PartSize]] = {code: {} for code in documents.languages}
    for (code, split), part in parts.items():
        sizes[code][split] = part.close()
    tokenizer.save_pretrained(folder / TOKENIZER_FOLDER)
    write_json(folder / "index.json", {"eos_id": eos_id, "dtype": dtype.name, "sizes": plain(sizes)})
    return TokenizedCorpus.load(folder)


@dataclass(frozen=True, kw_only=True)
class _Group:
    """A row group of a file of documents."""

    language: str
    split: str
    number: int
    url: str


def _read_group(group: _Group) -> Iterator[pyarrow.Table]:
    with fsspec.open(group.url, "rb") as stream, contextlib.closing(pyarrow.parquet.ParquetFile(stream)) as parquet:
        texts = parquet.read_row_group(group.number).column("text")
    names = ([value] * len(texts) for value in (group.language, group.split))
    yield pyarrow.table([*names, texts], names=["language", "split", "text"])


_AT_ONCE = 256
"""Documents that are encoded at a time: as lists of Python's numbers, tokens take ten times the room of the text."""


class _Encoder:
    """Turns batches of documents into batches of tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, eos_id: int) -> None:
        self._tokenizer, self._eos_id = tokenizer, eos_id

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        texts = batch.column("text").to_pylist()
        lengths, parts = [0], []
        for start in range(0, len(texts), _AT_ONCE):
            encodings = encode_texts(texts[start : start + _AT_ONCE], self._tokenizer, self._eos_id)
            lengths += map(len, encodings)
            parts.append(np.fromiter(chain.from_iterable(encodings), np.uint32, sum(map(len, encodings))))
        tokens = pyarrow.LargeListArray.from_arrays(np.cumsum(lengths), np.concatenate(parts))
        return pyarrow.table({"language": batch.column("language"), "split": batch.column("split"), "tokens": tokens,
                              "num_bytes": pyarrow.array([len(text.encode()) for text in texts], pyarrow.int64())})


class _Part:
    """Writes the tokens of one split of one language."""

    def __init__(self, file: Path, dtype: np.dtype, max_tokens: int) -> None:
        self._stream, self._dtype, self._max_tokens = file.open("wb"), dtype, max_tokens
        self._num_documents = self._num_tokens = self._num_bytes = 0
        self._is_full = False

    def append(self, batch: pyarrow.Table) -> None:
        lengths = compute.list_value_length(batch.column("tokens")).to_numpy()
        count = len(lengths)
        if self._max_tokens:
            count = int((np.cumsum(lengths) <= self._max_tokens - self._num_tokens).sum()) if not self._is_full else 0
            self._is_full |= count < len(lengths)
        taken = batch.slice(0, count)
        tokens = compute.list_flatten(taken.column("tokens")).to_numpy()
        self._stream.write(tokens.astype(self._dtype).tobytes())
        self._num_documents += count
        self._num_tokens += len(tokens)
        self._num_bytes += int(taken.column("num_bytes").to_numpy().sum())

    def close(self) -> PartSize:
        self._stream.close()
        return PartSize(num_documents=self._num_documents, num_tokens=self._num_tokens, num_bytes=self._num_bytes)


def end_of_text_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id that ends a document: <|endoftext|> where the tokenizer has it, else its eos token."""
    vocab = tokenizer.get_vocab()
    name = "<|endoftext|>" if "<|endoftext|>" in vocab else tokenizer.eos_token
    return int(vocab[name])


def encode_texts(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, eos_id: int) -> list[list[int]]:
    """Return the tokens of each text, followed by `eos_id`."""
    backend = tokenizer.backend_tokenizer
    before = backend.encode_special_tokens
    backend.encode_special_tokens = True  # text that spells <|im_end|> is text: it must not end anything
    try:
        return [[*encoding.ids, eos_id] for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    finally:
        backend.encode_special_tokens = before
