"""From tokens to text, exactly: a byte-level tokenizer's token is a string of bytes, which characters may straddle."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from sea_ray.errors import ConfigError

_BYTES = {character: byte for byte, character in bytes_to_unicode().items()}


class TokenBytes:
    """The bytes of a byte-level tokenizer's tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Read the vocabulary.

        Args:
            tokenizer: byte-level BPE, as Qwen2's.

        Raises:
            ConfigError: if its tokens are not byte strings.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None or "ByteLevel" not in repr(backend.decoder):
            raise ConfigError("", "the tokenizer is not byte-level BPE (Qwen2, Llama 3 and GPT-2 are): its tokens "
                                  "cannot be served as exact text")
        self.special_ids = frozenset(tokenizer.all_special_ids)
        added = {token_id: token.content for token_id, token in tokenizer.added_tokens_decoder.items()}
        self._bytes: dict[int, bytes] = {token_id: content.encode() for token_id, content in added.items()}
        for piece, token_id in tokenizer.get_vocab().items():
            if token_id not in added:
                self._bytes[token_id] = bytes(_BYTES[character] for character in piece)

    def __getitem__(self, token_id: int) -> bytes:
        """Return a token's bytes; an id that the model has and the tokenizer lacks is empty."""
        return self._bytes.get(token_id, b"")

    def name(self, token_id: int) -> str:
        r"""Return a token's text, or "bytes:\xe0\xb8" if it is a part of a character, as OpenAI's API does."""
        own = self[token_id]
        try:
            return own.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in own)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones written out; bytes that are no character become U+FFFD."""
        return b"".join(self[token_id] for token_id in ids).decode(errors="replace")

    def offsets(self, ids: Sequence[int], *, start: int = 0, hide_special: bool = False) -> list[int]:
        """Return where each token begins in the text of them all; a part of a character begins where that does.

        Args:
            ids: tokens.
            start: where the first one begins.
            hide_special: whether special tokens have no text.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        offsets, place = [], start
        for token_id in ids:
            offsets.append(place)
            if not (hide_special and token_id in self.special_ids):
                place += len(decoder.decode(self[token_id]))
        return offsets


class TextStream:
    """The text of a growing answer without special tokens, cut before the first stop string.

    A character appears when all its bytes are there.
    """

    def __init__(self, token_bytes: TokenBytes, stop: Sequence[str] = ()) -> None:
        """Args: token_bytes: of the tokenizer; stop: strings that end the answer."""
        self._bytes, self._stop = token_bytes, tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._longest_stop = max(map(len, self._stop), default=0)
        self._shown = 0
        self.text = ""
        self.stopped = False

    def add(self, token_id: int) -> None:
        """Take one more token; sets `stopped` if a stop string is complete."""
        if token_id not in self._bytes.special_ids:
            self._append(self._decoder.decode(self._bytes[token_id]))

    def finish(self) -> None:
        """Take what is left, whole characters or not."""
        self._append(self._decoder.decode(b"", final=True))

    def _append(self, piece: str) -> None:
        if self.stopped or not piece:
            return
        start = max(0, len(self.text) - self._longest_stop)
        self.text += piece
        places = [place for place in (self.text.find(stop, start) for stop in self._stop) if place >= 0]
        if places:
            self.text, self.stopped = self.text[:min(places)], True

    def new_text(self, final: bool) -> str:
        """Return what can be shown since the last call; what may become a stop string is held back until `final`."""
        end = len(self.text)
        if not final and not self.stopped:
            end -= max((self._overlap(stop) for stop in self._stop), default=0)
        piece = self.text[self._shown:end]
        self._shown = max(self._shown, end)
        return piece

    def _overlap(self, stop: str) -> int:
        """Return the length of the longest end of the text that begins a stop string."""
        longest = min(len(stop) - 1, len(self.text))
        return next((n for n in range(longest, 0, -1) if self.text.endswith(stop[:n])), 0)
