"""A tiny random model with a byte-level tokenizer, its engine and its application."""

import contextlib
import copy
import time
from dataclasses import dataclass

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from served_apart import served_apart
from small_world import make_small
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from sea_ray.serving import packed_weights
from sea_ray.serving.app import build_app, load_engine
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.engine import TextEngine
from sea_ray.serving.guard import key_digest
from sea_ray.serving.local import listening
from sea_ray.serving.models import Models, Served

KEY = "sea-test"
TEXTS = ["Budi tinggal di Jakarta.", "สมชายอยู่ที่เชียงใหม่", "ສົມໄຊຢູ່ວຽງຈັນ",
         "Lan sống ở Huế.", "小明住在北京。", "Budi lives in Jakarta."]
TEMPLATE = ("{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
            "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


@pytest.fixture(scope="session", autouse=True)
def small_weights_are_packed():
    """Let the tests' small models be read as large ones are; what a test starts as a process reads them as they lie."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_weights, "LEAST_VALUES", 0)
        yield


@pytest.fixture(scope="session")
def tokenizer():
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    plain.train_from_iterator(TEXTS * 3, trainers.BpeTrainer(
        vocab_size=299, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    fast = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token=special[0], pad_token=special[0],
                                   additional_special_tokens=special[1:])
    fast.add_tokens(["เชียง"])  # a word that Qwen2's pre-tokenisation would break, as the project's tokenizers have them
    fast.chat_template = TEMPLATE
    return fast


@pytest.fixture(scope="session")
def model(tokenizer):
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
                         initializer_range=0.3, tie_word_embeddings=False, eos_token_id=tokenizer.eos_token_id)
    return Qwen2ForCausalLM(config).eval()


@pytest.fixture(scope="session")
def engine(model, tokenizer):
    torch.set_num_threads(1)
    engine = TextEngine(copy.deepcopy(model), tokenizer, max_batch=6, prefill_tokens=256)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def app(engine):
    limits = ServingConfig(model_name="tiny", max_new_tokens=100, max_body_bytes=20_000)
    return build_app(Models([Served(name="tiny", engine=engine)]), [key_digest("another"), key_digest(KEY)], limits)


@pytest.fixture
def client(app):
    # Not as a context: the application's end would close the engine that the other tests share.
    return TestClient(app, headers={"Authorization": f"Bearer {KEY}"}, raise_server_exceptions=False)


@pytest.fixture(scope="session")
def texts():
    return TEXTS


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A small trained checkpoint."""
    return make_small(tmp_path_factory.mktemp("small"))


@dataclass(frozen=True)
class Door:
    """A served application and what stands behind it."""

    url: str
    engine: TextEngine
    app: FastAPI
    key: str = KEY

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def emptied(self, within_s: float = 2.0) -> bool:
        """Return whether the engine has nothing to do, soon."""
        end = time.monotonic() + within_s
        while (self.engine.num_pending or self.engine.num_requests) and time.monotonic() < end:
            time.sleep(0.002)
        return self.engine.num_pending == self.engine.num_requests == 0


@pytest.fixture(scope="session")
def open_door(small):
    """Return a context that serves the small checkpoint over HTTP."""

    @contextlib.contextmanager
    def opened(**limits):
        config = ServingConfig(model_name="small", **limits)
        engine = load_engine(small.folder, config)
        app = build_app(Models([Served(name="small", engine=engine)]), [key_digest(KEY)], config)
        with listening(app) as url:
            yield Door(url, engine, app)

    return opened


@pytest.fixture(scope="module")
def door(open_door):
    """The small checkpoint, open while a module's tests run."""
    with open_door(max_batch=8, max_waiting=16) as door:
        yield door


@pytest.fixture
def server(small):
    """The small checkpoint, served by a process of its own."""
    with served_apart(small.folder, max_batch=8, max_waiting=16, prefix_mb=8) as server:
        yield server
