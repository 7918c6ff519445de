"""Random checkpoints that load in no time, and what they say of a text."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

PROMPT = [40, 41, 42, 43, 44, 45, 46, 47]


def make(folder: Path, seed: int, *, broken: bool = False) -> Path:
    """Write a checkpoint with a context of 2,048 tokens; a broken one's weights are no numbers."""
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    plain.train_from_iterator(["Budi tinggal di Jakarta."], trainers.BpeTrainer(
        vocab_size=260, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, initializer_range=0.3, tie_word_embeddings=False,
        eos_token_id=None, bos_token_id=None))
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos_token_id] = 0.0  # seldom the likeliest: answers are long
        if broken:
            model.lm_head.weight[:] = torch.nan
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def loglikelihood(folder: Path) -> float:
    """Return what a checkpoint says of the prompt, by a plain pass."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logprobs = model(torch.tensor([PROMPT])).logits[0].log_softmax(-1)
    return float(logprobs[:-1].gather(1, torch.tensor(PROMPT[1:])[:, None]).sum())
