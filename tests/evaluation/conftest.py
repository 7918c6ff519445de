"""A tiny random Qwen2 with a byte-level tokenizer, and a Generator whose answers are written down."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from sea_ray.evaluation.generator import LogLikelihood
from sea_ray.evaluation.local import LocalGenerator
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.local import serve_in_thread
from sea_ray.training.checkpoint import Checkpoint

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer():
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        chat_template=CHATML,
    )


@pytest.fixture(scope="session")
def eos_id(tokenizer):
    return tokenizer.eos_token_id


@pytest.fixture(scope="session")
def model(tokenizer, eos_id):
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, eos_token_id=eos_id, tie_word_embeddings=False,
        initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(5)
    return Qwen2ForCausalLM(config).eval()


@pytest.fixture(scope="session")
def folder(tokenizer, tmp_path_factory):
    """A checkpoint that likes to write digits, so that some answers are numbers."""
    config = Qwen2Config(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024,
                         tie_word_embeddings=False, initializer_range=0.4)  # fmt: skip
    torch.manual_seed(8)
    model = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight[tokenizer.convert_tokens_to_ids(list("0123456789"))] *= 2
    ends = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=ends[0])
    path = tmp_path_factory.mktemp("checkpoint") / "model"
    Checkpoint.save(path, model, tokenizer)
    return path


@pytest.fixture(scope="session")
def served(folder):
    with serve_in_thread(folder, ServingConfig(model_name="tiny")) as endpoint:
        yield endpoint


@pytest.fixture
def generator(model, tokenizer):
    return LocalGenerator(model, tokenizer)


class Scripted:
    """Answers what `reply` says; scores a continuation by its length, or as `likes` says."""

    max_tokens = 10_000

    def __init__(self, reply=lambda prompt: "", likes=lambda context, continuation: -len(continuation)):
        self.reply, self.likes = reply, likes
        self.contexts = []

    def loglikelihoods(self, requests):
        self.contexts += [context for context, _ in requests]
        return [LogLikelihood(float(self.likes(*request)), 1, False) for request in requests]

    def rolling_loglikelihoods(self, texts):
        return [-float(len(text)) for text in texts]

    def complete(self, prompts, max_new_tokens, stop=()):
        return [self.reply(prompt) for prompt in prompts]

    def chat(self, conversations, max_new_tokens):
        return [self.reply(conversation[-1]["content"]) for conversation in conversations]

    def render(self, conversation):
        return f"<user>{conversation[-1]['content']}<assistant>"


@pytest.fixture
def scripted():
    return Scripted
