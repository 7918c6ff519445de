"""From the texts of a request to the tokens of a model, the same for a local model and for an endpoint."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from sea_ray.errors import DataError
from sea_ray.evaluation.bits_per_byte import windows
from sea_ray.evaluation.generator import Message
from sea_ray.evaluation.scoring import Span

_ENDINGS = ("<|endoftext|>", "<|im_end|>")


class RequestTokens:
    """Encodes requests with a checkpoint's tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> None:
        """Args: tokenizer: of the checkpoint; max_tokens: context length that a request must fit in."""
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        vocab = tokenizer.get_vocab()
        known = [vocab[name] for name in _ENDINGS if name in vocab]
        own = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        if not known and not own:
            raise DataError("the tokenizer has no end token: nothing can open a text or end an answer")
        self.prefix_id = int((known + own)[0])
        """End-of-text: what the first token of a text is conditioned on (Qwen2's chat models name another eos)."""
        self.end_ids = frozenset(map(int, known + own))
        """Tokens that end an answer."""

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text; special tokens written in it are special."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def choice(self, context: str, continuation: str) -> Span:
        """Return a context and its continuation as a span that scores the continuation.

        The two are encoded together and cut after as many tokens as the context alone has; white space at the end of
        the context belongs to the continuation. It is the cut of lm-evaluation-harness (api/model.py, _encode_pair), so
        that figures agree with published ones, also where a token straddles the border.

        Raises:
            DataError: an empty continuation, or more tokens than the context holds.
        """
        bare = context.rstrip()
        continuation = context[len(bare) :] + continuation
        before = self.encode(bare) if bare else []
        start = len(before)
        ids = [*before, *self.encode(bare + continuation)[start:]]
        if len(ids) == start:
            raise DataError(f"the continuation {continuation!r} has no tokens of its own; nothing can be scored")
        if start == 0:
            ids, start = [self.prefix_id, *ids], 1
        self._fits(len(ids), 1, context)
        return Span(ids, start)

    def rolling(self, text: str) -> list[Span]:
        """Return the spans that score each token of a text once."""
        return list(windows(self.encode(text), self.prefix_id, self.max_tokens))

    def prompt(self, text: str, max_new_tokens: int) -> list[int]:
        """Return the tokens of a prompt that leaves room for its answer.

        Raises:
            DataError: prompt and answer do not fit the context.
        """
        ids = self.encode(text) or [self.prefix_id]
        self._fits(len(ids), max_new_tokens, text)
        return ids

    def render(self, conversation: Sequence[Message]) -> str:
        """Return a conversation in the tokenizer's chat template, up to where the assistant speaks."""
        if self.tokenizer.chat_template is None:
            raise DataError("the tokenizer has no chat template; evaluate with evaluation.prompting=plain")
        return str(self.tokenizer.apply_chat_template(list(conversation), tokenize=False, add_generation_prompt=True))

    def decode(self, ids: Sequence[int], stop: Sequence[str]) -> str:
        """Return the text of an answer, cut before the first stop string."""
        text = str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
        cuts = [place for place in map(text.find, stop) if place >= 0]
        return text[: min(cuts)] if cuts else text

    def _fits(self, num_tokens: int, max_new_tokens: int, text: str) -> None:
        if num_tokens + max_new_tokens > self.max_tokens:
            raise DataError(
                f"a prompt of {num_tokens} tokens with {max_new_tokens} for the answer exceeds the model's context of "
                f"{self.max_tokens}: shorten the item that begins with {text[:60]!r}"
            )
