"""A byte-level BPE tokenizer in the form of Qwen2's, trained so that each language has an equal say.

Qwen2's pre-tokenisation counts vowel signs and tone marks as no letters, so that it breaks Burmese, Khmer, Lao, Tamil and
Thai words at every mark, and AutoTokenizer gives each checkpoint of model type qwen2 that expression, whatever its
tokenizer.json says. So merges are learned with marks as letters, and what Qwen2's expression would break stays one token
as an added token, which is matched before pre-tokenisation: any loader of the checkpoint cuts the text alike, and the demo's
text in these languages takes 56 to 68 % of the tokens (6,144 entries).
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import Qwen2Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from sea_ray.corpus.config import TokenizerConfig
from sea_ray.corpus.documents import Documents

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"

ROLES = ("system", "user", "assistant")
"""Every turn of a conversation names one: each is a token, as in Qwen2."""
_ROLES_READ = 10_000

PRE_TOKENS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""What no merge crosses in Qwen2's tokenizer (huggingface/transformers: models/qwen2/tokenization_qwen2.py)."""

WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]{1,1000}|\p{N}| ?[^\s\p{L}\p{M}\p{N}]{1,1000}[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The same with marks as letters, and of at most 1,000 letters: the trainer's time grows with the square of a word's length."""

_QWEN2_SPLIT = pre_tokenizers.Split(Regex(PRE_TOKENS), behavior="isolated")
_LETTER_OF_BYTE: dict[int, str] = bytes_to_unicode()

_TURNS = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHAT_TEMPLATES = {
    "chatml": _TURNS,
    "qwen2": "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
    "{% endif %}" + _TURNS,
}
"""Jinja templates of TokenizerConfig.chat_template."""


def train_tokenizer(documents: Documents, config: TokenizerConfig, seed: int) -> Qwen2Tokenizer:
    """Learn merges from the training split, from equal bytes of each language.

    Args:
        documents: only "train" is read.
        config: size and template.
        seed: chooses which documents are read where a language has more than its share.

    Returns:
        A tokenizer whose end and padding token is <|endoftext|>; `save_pretrained` writes a folder for AutoTokenizer.
        Text is brought to NFC; every byte string can be encoded.
    """
    shares = equal_shares(documents, documents.languages, config.training_bytes_per_language, seed)
    texts = [*shares, *ROLES * _ROLES_READ]
    alphabet = most_frequent(texts, max(1, (config.vocab_size - 259) // 4))  # at most three entries each: they always fit
    learned = learn_merges(texts, alphabet, config.vocab_size, config.min_frequency, config.max_token_characters)
    vocab, merges, broken = _as_qwen2(learned, config.vocab_size)
    tokenizer = Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        extra_special_tokens=[TURN_START, TURN_END],
        chat_template=CHAT_TEMPLATES[config.chat_template],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=True) for text in broken])
    return tokenizer


def learn_merges(texts: Sequence[str], alphabet: Sequence[str], vocab_size: int, min_frequency: int, max_characters: int
                 ) -> Mapping[str, Any]:
    """Return BPE over characters, with vowel signs and tone marks as letters of a word.

    Args:
        texts: brought to NFC.
        alphabet: characters that pieces are made of; others part them.
        vocab_size: pieces, the alphabet among them.
        min_frequency: a pair must occur so often to be merged.
        max_characters: of the longest piece.

    Returns:
        "vocab": piece -> number, and "merges": pairs of pieces, in the order in which they were learned.
    """
    learner = Tokenizer(BPE())
    learner.normalizer = normalizers.NFC()
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        max_token_length=max_characters,
        initial_alphabet=list(alphabet),
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    return json.loads(learner.to_str())["model"]


def most_frequent(texts: Iterable[str], limit: int) -> list[str]:
    """Return the most frequent characters; of equally frequent ones the first by code point, where the trainer would let the
    hash of its process decide."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return sorted(counts, key=lambda letter: (-counts[letter], letter))[:limit]


def _as_qwen2(
    learned: Mapping[str, Any], vocab_size: int
) -> tuple[dict[str, int], list[tuple[str, str]], list[str]]:
    """Return a byte-level vocabulary and its merges, and the learned texts that Qwen2's pre-tokenisation breaks.

    Bytes are first merged into the learned alphabet's characters, so that no token holds a part of one character and all
    of another; then come the learned merges, the most frequent first, until the vocabulary is full.

    Args:
        learned: character-level BPE of the `tokenizers` library: "vocab", and "merges" in their order.
        vocab_size: entries, the broken ones among them.
    """
    vocab = dict.fromkeys([END_OF_TEXT, TURN_START, TURN_END, *sorted(_LETTER_OF_BYTE.values())])
    characters = [_byte_level(piece) for piece in learned["vocab"] if len(piece) == 1]
    merges = dict.fromkeys((letters[:end], letters[end]) for letters in characters for end in range(1, len(letters)))
    vocab |= dict.fromkeys(left + right for left, right in merges)
    broken: dict[str, None] = {}
    for left, right in learned["merges"]:
        if len(vocab) + len(broken) >= vocab_size:
            break
        if len(_QWEN2_SPLIT.pre_tokenize_str(left + right)) > 1:
            broken[left + right] = None
        else:
            pair = (_byte_level(left), _byte_level(right))
            merges[pair] = vocab["".join(pair)] = None
    return {piece: number for number, piece in enumerate(vocab)}, list(merges), list(broken)


def _byte_level(text: str) -> str:
    """Return text in the letters that byte-level BPE writes bytes with."""
    return "".join(_LETTER_OF_BYTE[byte] for byte in text.encode())


def equal_shares(documents: Documents, languages: Sequence[str], cap_bytes: int, seed: int) -> Iterator[str]:
    """Yield training documents until each language has given as many bytes as the largest has, at most `cap_bytes`."""
    largest = max(sum(len(text.encode()) for text in documents.texts(code, "train")) for code in languages)
    budget_bytes = min(cap_bytes, largest)
    for code in languages:
        rng = random.Random(f"{seed}/{code}")
        size = sum(len(text) for text in _cut(documents, code, budget_bytes))
        taken = min(1.0, 2 * budget_bytes / size)  # of more text than twice the budget, a sample is shuffled
        texts = [text for text in _cut(documents, code, budget_bytes) if taken == 1.0 or rng.random() < taken]
        texts = texts or list(islice(_cut(documents, code, budget_bytes), 2))
        yield from _share([text.decode(errors="ignore") for text in texts], budget_bytes, rng)


def _cut(documents: Documents, code: str, num_bytes: int) -> Iterator[bytes]:
    """Yield a language's documents to train on, of a huge one no more than `num_bytes`."""
    return (text.encode()[:num_bytes] for text in documents.texts(code, "train"))


def _share(texts: Sequence[str], budget_bytes: int, rng: random.Random) -> Iterator[str]:
    order = list(texts)
    while budget_bytes > 0:
        rng.shuffle(order)
        for text in order:
            yield text
            budget_bytes -= len(text.encode())
            if budget_bytes <= 0:
                return
