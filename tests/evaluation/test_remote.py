import json

import httpx
import pytest
import torch

from sea_ray.errors import ConfigError, DataError, MachineError
from sea_ray.evaluation import remote as remote_module
from sea_ray.evaluation.local import LocalGenerator
from sea_ray.evaluation.remote import HttpGenerator


class Server:
    """An OpenAI-compatible server over the tiny model, one prompt after the other."""

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.local = LocalGenerator(model, tokenizer)
        self.echoes, self.failures, self.failure, self.requests = True, 0, 503, []

    def __call__(self, request):
        body = json.loads(request.content)
        self.requests.append((request.url.path, body))
        if self.failures:
            self.failures -= 1
            return httpx.Response(self.failure, text="busy", headers={"Retry-After": "0"})
        if request.headers.get("authorization") != "Bearer secret":
            return httpx.Response(401, json={"error": {"message": "no"}})
        if body["model"] != "tiny":
            return httpx.Response(404, json={"error": {"message": "unknown model"}})
        if request.url.path == "/v1/chat/completions":
            (text,) = self.local.chat([body["messages"]], body["max_tokens"])
            return httpx.Response(
                200, json={"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}
            )
        choices = [self.complete(index, ids, body) for index, ids in enumerate(body["prompt"])]
        return httpx.Response(200, json={"choices": choices[::-1]})

    def complete(self, index, ids, body):
        if not body.get("echo"):
            text = self.tokenizer.decode(ids)
            (answer,) = self.local.complete([text], body["max_tokens"], body.get("stop", ()))
            return {"index": index, "text": answer}
        with torch.no_grad():
            logits = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        given = [None, *(float(logits[t, ids[t + 1]]) for t in range(len(ids) - 1)), float(logits[-1].max())]
        tops = [None, *({"best": float(row.max())} for row in logits)]
        cut = slice(None) if self.echoes else slice(-1, None)
        return {"index": index, "text": "", "logprobs": {"token_logprobs": given[cut], "top_logprobs": tops[cut]}}


@pytest.fixture
def server(model, tokenizer, monkeypatch):
    monkeypatch.setattr(remote_module, "_FIRST_WAIT_S", 0.0)
    return Server(model, tokenizer)


def connect(server, **options):
    settings = {"api_key": "secret", "model_name": "tiny", "max_tokens": 256, "prompts_per_request": 3} | options
    transport = httpx.MockTransport(server)
    return HttpGenerator("http://server/v1/", tokenizer=server.tokenizer, transport=transport, **settings)


def test_endpoint_gives_the_same_figures_as_the_local_model(server, generator):
    remote = connect(server)
    requests = [("The sky is", f" {word}") for word in ("blue", "green", "very red", "a")] + [("", "alone")]
    for own, other in zip(remote.loglikelihoods(requests), generator.loglikelihoods(requests), strict=True):
        assert own.logprob == pytest.approx(other.logprob, abs=1e-3)
        assert (own.num_tokens, own.is_greedy) == (other.num_tokens, other.is_greedy)
    texts = ["ສະບາຍດີ", "b", "long " * 100]
    assert remote.rolling_loglikelihoods(texts) == pytest.approx(generator.rolling_loglikelihoods(texts), rel=1e-4)


def test_endpoint_generates_as_the_local_model_does(server, generator):
    remote = connect(server)
    prompts = ["one", "two two", "three", "four"]
    assert remote.complete(prompts, 6) == generator.complete(prompts, 6)
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    assert remote.chat(chats, 6) == generator.chat(chats, 6)
    assert remote.render(chats[0]) == generator.render(chats[0])


def test_greedy_continuation_is_recognised_through_the_endpoint(server, generator):
    remote = connect(server)
    (answer,) = generator.complete(["abc"], 4)
    if answer.isascii() and answer.strip():
        (score,) = remote.loglikelihoods([("abc", answer)])
        assert score.is_greedy == generator.loglikelihoods([("abc", answer)])[0].is_greedy


def test_several_prompts_travel_in_one_request_as_token_ids(server):
    remote = connect(server)
    remote.loglikelihoods([("x", f" {i}") for i in range(7)])
    sizes = [len(body["prompt"]) for path, body in server.requests[1:]]
    assert sorted(sizes) == [1, 3, 3]
    assert all(isinstance(token, int) for _, body in server.requests for ids in body["prompt"] for token in ids)


def test_endpoint_without_prompt_log_probabilities_is_refused_before_anything_is_scored(server):
    server.echoes = False
    with pytest.raises(ConfigError, match="no log-probabilities of the prompt"):
        connect(server)


def test_wrong_key_and_unknown_model_are_named(server):
    with pytest.raises(ConfigError, match="API key"):
        connect(server, api_key="wrong")
    with pytest.raises(ConfigError, match="'other'"):
        connect(server, model_name="other")


def test_busy_server_is_asked_again_and_a_dead_one_is_given_up(server):
    server.failures = 3
    connect(server)
    server.failures = 99
    with pytest.raises(MachineError, match="failed 5 times"):
        connect(server)


def test_a_server_that_says_it_is_busy_is_waited_for(server, monkeypatch):
    remote = connect(server)
    expected = server.local.rolling_loglikelihoods(["a b"])
    server.failures, server.failure = 3 * remote_module._ATTEMPTS, 429
    assert remote.rolling_loglikelihoods(["a b"]) == pytest.approx(expected, abs=1e-4)
    monkeypatch.setattr(remote_module, "_LONGEST_WAIT_S", 0.0)
    server.failures = 10**6
    with pytest.raises(MachineError, match="status 429"):
        remote.rolling_loglikelihoods(["a b"])


def test_refused_requests_and_garbage_name_the_answer(server):
    answers = iter([httpx.Response(400, text="prompt too long"), httpx.Response(200, text="<html>")])
    for pattern in ("answered 400: prompt too long", "no JSON"):
        with pytest.raises(DataError, match=pattern):
            HttpGenerator(
                "http://x/v1",
                "",
                "m",
                server.tokenizer,
                max_tokens=9,
                transport=httpx.MockTransport(lambda _: next(answers)),
            )
