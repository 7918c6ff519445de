"""A byte-level BPE tokenizer in the form of Qwen2's, trained so that each language has an equal say."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import Qwen2Tokenizer

from sea_ray.corpus.config import TokenizerConfig
from sea_ray.corpus.documents import Documents

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"

WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Merges never cross what this matches: Qwen2's pre-tokenisation (huggingface/transformers:
models/qwen2/tokenization_qwen2.py). With marks as letters Burmese, Khmer and Tamil would take half the tokens, but
AutoTokenizer gives every checkpoint of model type qwen2 this expression, whatever its tokenizer.json says."""

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
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_equal_shares(documents, config.training_bytes_per_language, seed), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        extra_special_tokens=[TURN_START, TURN_END],
        chat_template=CHAT_TEMPLATES[config.chat_template],
        clean_up_tokenization_spaces=False,
    )


def _equal_shares(documents: Documents, cap_bytes: int, seed: int) -> Iterator[str]:
    """Yield documents until each language has given as many bytes as the largest has, at most `cap_bytes`."""
    largest = max(sum(len(text.encode()) for text in parts["train"]) for parts in documents.texts.values())
    for code, parts in documents.texts.items():
        yield from _share(parts["train"], min(cap_bytes, largest), random.Random(f"{seed}/{code}"))


def _share(texts: Sequence[str], budget_bytes: int, rng: random.Random) -> Iterator[str]:
    order = list(texts)
    while budget_bytes > 0:
        rng.shuffle(order)
        for text in order:
            yield text
            budget_bytes -= len(text.encode())
            if budget_bytes <= 0:
                return
