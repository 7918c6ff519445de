"""A toy model and corpus for the training room."""

import numpy as np
import pytest
import torch

from sea_ray.training.model import ModelConfig, new_model
from sea_ray.training.sequences import pack_corpus

VOCAB, EOS = 61, 0


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shape():
    return ModelConfig(d_model=32, num_layers=2, num_heads=4, num_kv_heads=2, d_mlp=48, max_position=64)


@pytest.fixture
def model(shape):
    return new_model(shape, VOCAB, seed=3, eos_id=EOS).eval()


class Toy:
    """Builds small corpora."""

    eos = EOS
    vocab = VOCAB

    @staticmethod
    def tokens(seed, count=40):
        return tokens_of(documents(seed, count))


@pytest.fixture
def toy():
    return Toy


def documents(seed, count=40):
    """Return documents whose tokens count upwards, so that there is something to learn."""
    generator = np.random.default_rng(seed)
    lengths, starts = generator.integers(2, 30, count), generator.integers(0, VOCAB, count)
    return [(np.arange(length) + start) % (VOCAB - 1) + 1 for length, start in zip(lengths, starts, strict=True)]


def tokens_of(texts):
    return np.concatenate([np.append(text, EOS) for text in texts]).astype(np.int32)


@pytest.fixture
def sources():
    return {name: pack_corpus(tokens_of(documents(seed)), EOS, 16) for seed, name in enumerate(("th", "vi"))}
