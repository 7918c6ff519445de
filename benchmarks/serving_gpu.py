"""Tokens a second of the serving engine on one GPU, at 1, 16 and 64 requests at a time.

In process, without Ray Serve or HTTP, on random weights of a Qwen2's true shape in bfloat16: prompts of 64 tokens, answers of 64,
new prompts every turn so that no beginning is known. Beside it transformers' own continuous batching, `model.generate` of all
prompts in one batch, and vLLM behind `serving.engine=vllm` where it is installed. An engine holds the GPU alone: they come one
after the other, each with a turn to warm up at every number.
"""

from __future__ import annotations

import contextlib
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast

from benchmarks.arms import PRESETS, Preset, make_model
from benchmarks.side_by_side import arguments, conclude
from sea_ray.serving.engine import TextEngine
from sea_ray.serving.exchange import Request
from sea_ray.serving.paged_engine import PagedEngine

PROMPT_TOKENS, ANSWER_TOKENS = 64, 64
CONCURRENT = (1, 16, 64)

Prompts = list[list[int]]
Answers = list[list[int]]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return one token a byte and none that ends an answer; other ids of the model have no text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=plain)


def submitted(engine: TextEngine | PagedEngine, prompts: Prompts) -> Answers:
    """Ask an engine of the project."""
    requests = [Request(prompt_ids=tuple(ids), max_new_tokens=ANSWER_TOKENS) for ids in prompts]
    return [list(future.result().token_ids) for future in engine.submit(requests)]


@contextlib.contextmanager
def own(preset: Preset, device: torch.device) -> Iterator[Callable[[Prompts], Answers]]:
    """Yield the engine that a replica runs."""
    model = make_model(preset, device)
    model.generation_config.eos_token_id = None
    with closing(TextEngine(model, make_tokenizer(), max_batch=max(CONCURRENT))) as engine:
        yield partial(submitted, engine)


@contextlib.contextmanager
def paged(preset: Preset, device: torch.device) -> Iterator[Callable[[Prompts], Answers]]:
    """Yield vLLM as a replica runs it."""
    with tempfile.TemporaryDirectory(prefix="sea_ray-bench-") as place:
        make_model(preset, device).save_pretrained(place)
        tokenizer = make_tokenizer()
        tokenizer.save_pretrained(place)
        torch.cuda.empty_cache()
        with closing(PagedEngine(Path(place), tokenizer, frozenset(), dtype="bfloat16", max_batch=max(CONCURRENT))) as engine:
            yield partial(submitted, engine)


@contextlib.contextmanager
def continuous(preset: Preset, device: torch.device) -> Iterator[Callable[[Prompts], Answers]]:
    """Yield transformers' continuous batching, its manager kept between turns."""
    model = make_model(preset, device).eval()
    manager = model.init_continuous_batching(GenerationConfig(
        max_new_tokens=ANSWER_TOKENS, do_sample=False, eos_token_id=-1, pad_token_id=0))
    manager.start()

    def ask(prompts: Prompts) -> Answers:
        manager.add_requests(prompts, max_new_tokens=ANSWER_TOKENS)
        answers: Answers = []
        while len(answers) < len(prompts):
            result = manager.get_result(timeout=60)
            if result is None:
                raise RuntimeError("transformers' continuous batching gave no answer within 60 s")
            if result.is_finished():
                answers.append(list(result.generated_tokens))
        return answers

    try:
        yield ask
    finally:
        manager.stop(block=True)


@contextlib.contextmanager
def generate(preset: Preset, device: torch.device) -> Iterator[Callable[[Prompts], Answers]]:
    """Yield `model.generate`, all prompts in one batch of equal lengths."""
    model = make_model(preset, device).eval()
    model.generation_config.eos_token_id = None

    def ask(prompts: Prompts) -> Answers:
        ids = torch.tensor(prompts, device=device)
        with torch.inference_mode():
            whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=ANSWER_TOKENS, do_sample=False,
                                   pad_token_id=0)
        return whole[:, ids.shape[1]:].tolist()

    yield ask


ENGINES: dict[str, Callable[[Preset, torch.device], AbstractContextManager[Callable[[Prompts], Answers]]]] = {
    "sea_ray": own, "transformers continuous batching": continuous, "transformers generate": generate, "vllm": paged}


def rates(name: str, preset: Preset, rounds: int, device: torch.device) -> dict[int, float]:
    """Return an engine's tokens a second at every number of requests, the median of its turns."""
    draw, vocab, found = np.random.default_rng(0), int(preset.model["vocab_size"]), {}
    with ENGINES[name](preset, device) as ask:
        for number in CONCURRENT:
            seconds = []
            for turn in range(rounds + 1):
                prompts = draw.integers(1, vocab, (number, PROMPT_TOKENS)).tolist()
                began = time.perf_counter()
                answers = ask(prompts)
                if turn:  # the first one warms up
                    seconds.append(time.perf_counter() - began)
                lengths = {len(answer) for answer in answers}
                if lengths != {ANSWER_TOKENS}:
                    raise RuntimeError(f"answers of {sorted(lengths)} tokens instead of {ANSWER_TOKENS}")
            found[number] = number * ANSWER_TOKENS / statistics.median(seconds)
    return found


def main() -> None:
    """Run the benchmark from the command line."""
    parser = arguments(__doc__ or "", "qwen2_0_5b", "qwen2_7b", "tiny")
    parser.set_defaults(device="cuda", rounds=3)
    options = parser.parse_args()
    device, preset = torch.device(options.device), replace(PRESETS[options.preset], dtype=torch.bfloat16)
    torch.set_num_threads(options.threads)
    found: dict[str, dict[int, float] | str] = {}
    for name in ENGINES:
        if name == "vllm" and find_spec("vllm") is None:
            found[name] = "not installed"
        else:
            try:
                found[name] = rates(name, preset, options.rounds, device)
            except Exception as error:  # the other engines are still worth their time
                found[name] = f"{type(error).__name__}: {error}"[:300]
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        own_figures = found[name]
        print(f"{name:34}", own_figures if isinstance(own_figures, str) else "  ".join(
            f"{number} at a time: {rate:8.0f} tokens/s" for number, rate in own_figures.items()), flush=True)
    conclude("serving_gpu", [], {"preset": options.preset, "tokens_per_s": found}, device, options.check)


if __name__ == "__main__":
    main()
