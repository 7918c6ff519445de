"""OpenAI's own client gets over HTTP what it expects: answers, streams and its classes of errors."""

import contextlib
import socket
import threading
import time

import httpx
import openai
import pytest
import torch

from sea_ray.serving.exchange import Request

MESSAGES = [{"role": "user", "content": "Budi lives in"}]


@pytest.fixture
def client(door):
    with openai.OpenAI(base_url=door.url + "/v1", api_key=door.key, max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
def endless(door, monkeypatch):
    """No token ends an answer."""
    monkeypatch.setattr(door.engine, "_end_ids", frozenset())


@pytest.fixture
def complete(client):
    return lambda prompt, **more: client.completions.create(**{"model": "small", "prompt": prompt, "temperature": 0, **more})


@pytest.fixture
def chat(client):
    return lambda **more: client.chat.completions.create(**{"model": "small", "messages": MESSAGES, "temperature": 0, **more})


def test_models_are_listed_and_described(client):
    assert [model.id for model in client.models.list()] == ["small"]
    assert client.models.retrieve("small").owned_by == "sea_ray"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("large")


def test_texts_and_ids_one_or_many_get_the_models_greedy_answers(small, complete):
    texts = small.sure_texts[::6]
    ids = [small.tokenizer(text)["input_ids"] for text in texts]
    for prompt in (texts, ids):
        found = complete(prompt, max_tokens=24)
        assert [choice.text for choice in found.choices] == [small.sure[text] for text in texts]
        assert found.usage.prompt_tokens == sum(map(len, ids))
    for prompt in (texts[0], ids[0]):
        assert complete(prompt, max_tokens=24).choices[0].text == small.sure[texts[0]]


def test_n_answers_differ_and_a_seed_repeats_them(complete):
    first, again, other = ([choice.text for choice in complete("Lan ", n=2, temperature=1.0, max_tokens=12, seed=seed).choices]
                           for seed in (5, 5, 9))
    assert first == again != other
    assert len(set(first)) == 2


def test_echoed_logprobs_are_the_models(small, complete):
    ids = small.tokenizer(small.sure_texts[1])["input_ids"]
    found = complete(ids, max_tokens=0, logprobs=3, echo=True).choices[0]
    with torch.no_grad():
        logprob_TV = small.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = [float(logprob_TV[place - 1, token]) for place, token in enumerate(ids) if place]
    assert found.text == small.tokenizer.decode(ids)
    assert found.logprobs.token_logprobs[0] is None
    assert found.logprobs.token_logprobs[1:] == pytest.approx(expected, abs=1e-4)
    assert all(len(top) in (3, 4) for top in found.logprobs.top_logprobs[1:])


def test_vllms_fields_say_what_echo_says(small, complete):
    ids = small.tokenizer(small.sure_texts[2])["input_ids"]
    echoed = complete(ids, max_tokens=4, logprobs=1, echo=True).choices[0].logprobs.token_logprobs
    choice = complete(ids, max_tokens=4, extra_body={"prompt_logprobs": 1, "return_token_ids": True}).choices[0].to_dict()
    assert choice["prompt_token_ids"] == ids
    assert choice["prompt_logprobs"][0] is None
    scores = [score[str(token)]["logprob"] for token, score in zip(ids[1:], choice["prompt_logprobs"][1:], strict=True)]
    assert scores == pytest.approx(echoed[1:len(ids)], abs=1e-5)
    assert small.tokenizer.decode(choice["token_ids"], skip_special_tokens=True) == choice["text"]


def test_chat_logprobs_belong_to_its_tokens(chat):
    choice = chat(max_tokens=8, logprobs=True, top_logprobs=2).choices[0]
    tokens = choice.logprobs.content
    assert 0 < len(tokens) <= 8
    assert all(token.logprob == token.top_logprobs[0].logprob and len(token.top_logprobs) == 2 for token in tokens)
    written = b"".join(bytes(token.bytes) for token in tokens if not token.token.startswith("<|"))
    assert written.decode(errors="replace") == choice.message.content


@pytest.mark.parametrize("place", [3, 9])
def test_a_stop_string_ends_the_answer(small, complete, place):
    text = max(small.sure_texts, key=lambda text: len(small.sure[text]))
    whole = small.sure[text]
    found = complete(text, max_tokens=24, stop=[whole[place:place + 3]]).choices[0]
    assert (found.text, found.finish_reason) == (whole[:whole.index(whole[place:place + 3])], "stop")


def test_streams_of_chat_and_text_are_the_whole_answers_with_usage(small, chat, complete):
    whole, chunks = chat(max_tokens=20), list(chat(max_tokens=20, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    *others, last = (chunk.choices[0].finish_reason for chunk in chunks[:-1])
    assert (set(others), last) == ({None}, whole.choices[0].finish_reason)
    text = small.sure_texts[0]
    assert "".join(chunk.choices[0].text for chunk in complete(text, max_tokens=24, stream=True)) == small.sure[text]


@pytest.mark.parametrize(("kind", "status", "body"), [
    (openai.NotFoundError, 404, {"model": "large"}),
    (openai.BadRequestError, 400, {"max_tokens": -1}),
    (openai.BadRequestError, 400, {"prompt": [1] * 1025}),
    (openai.BadRequestError, 400, {"extra_body": {"min_p": 0.1}}),
    (openai.APIStatusError, 413, {"prompt": "a" * (9 << 20)}),
])
def test_refusals_are_the_clients_own_errors(complete, kind, status, body):
    with pytest.raises(kind) as refused:
        complete(**{"prompt": "a", **body})
    assert refused.value.status_code == status
    assert refused.value.body["message"]
    assert refused.value.type == "invalid_request_error"


def test_a_wrong_key_is_an_authentication_error(door):
    with openai.OpenAI(base_url=door.url + "/v1", api_key="wrong", max_retries=0) as client, \
            pytest.raises(openai.AuthenticationError) as refused:
        client.completions.create(model="small", prompt="a")
    assert refused.value.code == "invalid_api_key"


def test_who_comes_when_too_many_wait_gets_a_rate_limit_error_and_is_answered_on_a_later_try(door, client, complete, endless):
    crowd = door.engine.submit([Request(prompt_ids=(5 + number, 6), max_new_tokens=1000) for number in range(8 + 16)])
    try:
        with pytest.raises(openai.RateLimitError) as refused:
            complete("a", max_tokens=1)
        assert refused.value.response.headers["retry-after"] == "1"
        assert refused.value.type == "rate_limit_error"
        threading.Timer(0.3, lambda: [each.cancel() for each in crowd]).start()
        patient = client.with_options(max_retries=3)
        assert patient.completions.create(model="small", prompt="a", max_tokens=1, temperature=0).choices
    finally:
        for each in crowd:
            each.cancel()
    assert door.emptied()


def test_leaving_a_stream_frees_its_place_within_a_step(door, complete, endless):
    stream = complete("Budi", stream=True, max_tokens=1000)
    next(iter(stream))
    (too_much,) = watched(door, 1)
    stream.close()
    assert door.emptied()
    assert too_much() <= 1


def test_leaving_before_a_whole_answer_frees_its_places_within_a_step(door, endless):
    body = {"model": "small", "prompt": ["Budi", "Lan", "สมชาย"], "n": 2, "max_tokens": 1000, "temperature": 1.0}
    with httpx.Client(headers=door.headers) as client:
        thread = threading.Thread(target=lambda: suppressed(client.post, door.url + "/v1/completions", json=body, timeout=0.3))
        thread.start()
        too_much = watched(door, 6)
        thread.join()
    assert door.emptied()
    assert all(each() <= 1 for each in too_much)


def test_half_a_request_holds_no_place(door):
    host, port = door.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as half:
        half.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {door.key}\r\n"
                     "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"model\": ".encode())
        time.sleep(0.05)
    assert door.emptied()
    assert httpx.get(door.url + "/health").json() == {"status": "ok"}


def watched(door, count):
    """Return, for each answer in progress, a function that says how many tokens were written after it was given up."""
    end = time.monotonic() + 5
    while door.engine.num_active < count and time.monotonic() < end:
        time.sleep(0.002)
    jobs = list(door.engine._active)
    assert len(jobs) == count
    given_up = {}
    for job in jobs:
        job.future.add_done_callback(lambda future, job=job: given_up.setdefault(id(job), (len(job.ids), future.cancelled())))

    def too_much(job):
        written, cancelled = given_up[id(job)]
        assert cancelled
        assert written < job.request.max_new_tokens - 1
        return len(job.ids) - written

    return [lambda job=job: too_much(job) for job in jobs]


def suppressed(call, *args, **more):
    with contextlib.suppress(httpx.ReadTimeout):
        call(*args, **more)
