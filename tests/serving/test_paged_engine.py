"""What is asked of vLLM and made of its outputs. vLLM itself doesn't run here: a stand-in speaks its interface."""

import copy
import sys
import threading
import time
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import pytest
import torch

from sea_ray.errors import ConfigError, MachineError
from sea_ray.serving.engine import TextEngine, end_ids
from sea_ray.serving.exchange import Request
from sea_ray.serving.paged_engine import PagedEngine


@dataclass
class SamplingParams:
    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    stop_token_ids: list[int]
    logprobs: int | None
    prompt_logprobs: int | None
    detokenize: bool
    output_kind: str
    ignore_eos: bool = field(default=False, init=False)


class AsyncLLM:
    """Speaks vLLM's interface, one token at a time, without a cache."""

    def __init__(self, model):
        self.model, self.left = model, 0
        self.model_config = SimpleNamespace(max_model_len=model.config.max_position_embeddings,
                                            get_vocab_size=lambda: model.config.vocab_size)

    def _ranked(self, logprob_V, own, count):
        order = logprob_V.argsort(descending=True).tolist()
        ranked = {token: rank for rank, token in enumerate(order, 1)}
        return {token: SimpleNamespace(logprob=logprob_V[token].item(), rank=ranked[token]) for token in {*order[:count], own}}

    async def generate(self, prompt, sampling, request_id):
        ids, asked = list(prompt["prompt_token_ids"]), sampling.prompt_logprobs
        try:
            for number in range(sampling.max_tokens):
                with torch.no_grad():
                    logprob_TV = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
                before = None
                if number == 0 and asked is not None:
                    before = [None, *(self._ranked(logprob_TV[place - 1], ids[place], asked) for place in range(1, len(ids)))]
                token = int(logprob_TV[-1].argmax())
                ids.append(token)
                scores = None if sampling.logprobs is None else [self._ranked(logprob_TV[-1], token, sampling.logprobs)]
                yield SimpleNamespace(prompt_logprobs=before, outputs=[SimpleNamespace(token_ids=[token], logprobs=scores)])
                if token in sampling.stop_token_ids:
                    break
        finally:
            self.left += 1

    def shutdown(self):
        pass


@pytest.fixture
def paged(model, tokenizer, monkeypatch):
    stand_in, asked = AsyncLLM(model), {}

    def module(name, **parts):
        found = ModuleType(name)
        vars(found).update(parts)
        monkeypatch.setitem(sys.modules, name, found)

    module("vllm", SamplingParams=SamplingParams)
    module("vllm.sampling_params", RequestOutputKind=SimpleNamespace(DELTA="delta"))
    module("vllm.engine.arg_utils", AsyncEngineArgs=lambda **arguments: asked.update(arguments))
    module("vllm.v1.engine.async_llm", AsyncLLM=SimpleNamespace(from_engine_args=lambda _: stand_in))
    engine = PagedEngine("folder", tokenizer, end_ids(model.generation_config, tokenizer), dtype="bfloat16", max_batch=8)
    assert asked["model"] == "folder"
    assert asked["trust_remote_code"] is False
    engine.stand_in = stand_in
    yield engine
    engine.close()


def test_it_answers_as_the_own_engine_does(paged, model, tokenizer, texts):
    own = TextEngine(copy.deepcopy(model), tokenizer)
    try:
        asked = [Request(prompt_ids=tuple(tokenizer(text)["input_ids"]), max_new_tokens=count, score_prompt=True,
                         top_logprobs=top) for text in texts for count, top in ((0, 0), (1, 2), (12, 1))]
        asked += [Request(prompt_ids=(5, 6, 7), max_new_tokens=30, stop=stop) for stop in ((), ("a", "e"))]
        for request, theirs, ours in zip(asked, paged.submit(asked), own.submit(asked), strict=True):
            found, expected = theirs.result(timeout=30), ours.result(timeout=30)
            assert (found.token_ids, found.text, found.finish_reason) == (
                expected.token_ids, expected.text, expected.finish_reason), request
            for mine, other in ((found.prompt_logprobs, expected.prompt_logprobs), (found.logprobs, expected.logprobs)):
                assert [score and score.token_id for score in mine] == [score and score.token_id for score in other]
                assert [score.logprob for score in mine if score] == pytest.approx(
                    [score.logprob for score in other if score], abs=1e-4)
                assert [[token for token, _ in score.top] for score in mine if score] == [
                    [token for token, _ in score.top] for score in other if score]
    finally:
        own.close()


def test_text_is_streamed_and_a_request_that_nobody_waits_for_ends(paged):
    pieces = []
    (whole,) = paged.submit([Request(prompt_ids=(5, 6, 7), max_new_tokens=20)], pieces.append)
    text = whole.result(timeout=30).text
    assert "".join(pieces) == text
    before, begun = paged.stand_in.left, threading.Event()
    (long,) = paged.submit([Request(prompt_ids=(5, 6, 7), max_new_tokens=100)], lambda _: begun.set())
    begun.wait(10)
    long.cancel()
    deadline = time.monotonic() + 10
    while paged.stand_in.left == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (paged.stand_in.left, paged.num_requests, paged.num_active) == (before + 1, 0, 0)


def test_what_vllm_cannot_do_here_is_refused(paged):
    with pytest.raises(ConfigError, match="no language packs"):
        paged.submit([Request(prompt_ids=(5,), max_new_tokens=1, pack="vi")])
    with pytest.raises(ConfigError, match="exceed"):
        paged.submit([Request(prompt_ids=(5,), max_new_tokens=1000)])


def test_without_vllm_it_says_so(tokenizer, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm.engine.arg_utils", None)
    with pytest.raises(MachineError, match="it is not installed"):
        PagedEngine("folder", tokenizer, end_ids(model.generation_config, tokenizer), dtype="float32", max_batch=1)
