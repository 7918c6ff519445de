"""The door speaks OpenAI's language: right figures, and a reason for every refusal."""

import json

import pytest
import torch
from fastapi.testclient import TestClient


def post(client, path, **body):
    return client.post(path, json={"model": "tiny", **body})


def sse(response):
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_echoed_logprobs_equal_the_in_process_ones_as_lm_eval_reads_them(client, model, tokenizer, texts):
    prompts = [tokenizer(text)["input_ids"] for text in texts]
    found = post(client, "/v1/completions", prompt=prompts, max_tokens=1, temperature=0, logprobs=1, echo=True,
                 seed=1234).json()
    assert [choice["index"] for choice in found["choices"]] == list(range(len(prompts)))
    for ids, choice in zip(prompts, found["choices"], strict=True):
        with torch.no_grad():
            logprob = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        logprobs = choice["logprobs"]
        assert logprobs["token_logprobs"][0] is None
        assert logprobs["top_logprobs"][0] is None
        start = 3
        scored = logprobs["token_logprobs"][start:-1]
        expected = [logprob[place - 1, ids[place]].item() for place in range(start, len(ids))]
        assert scored == pytest.approx(expected, abs=1e-4)
        greedy = all(own == max(top.values()) for own, top in zip(scored, logprobs["top_logprobs"][start:-1],
                                                                  strict=True))
        assert greedy == all(int(logprob[place - 1].argmax()) == ids[place] for place in range(start, len(ids)))
    assert found["usage"]["prompt_tokens"] == sum(map(len, prompts))


def test_a_likely_text_is_greedy(client, tokenizer):
    first = post(client, "/v1/completions", prompt="Budi", max_tokens=6, temperature=0, logprobs=1).json()
    tokens = first["choices"][0]["logprobs"]
    assert len(tokens["tokens"]) == len(tokens["token_logprobs"]) == len(tokens["text_offset"])
    assert all(own == max(top.values())
               for own, top in zip(tokens["token_logprobs"], tokens["top_logprobs"], strict=True))


def test_echo_without_new_tokens_gives_the_prompt_back_with_offsets(client):
    text = "สมชาย lives"
    choice = post(client, "/v1/completions", prompt=text, max_tokens=0, logprobs=0, echo=True).json()["choices"][0]
    logprobs = choice["logprobs"]
    assert choice["text"] == text
    assert len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) == len(logprobs["text_offset"])
    for name, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
        assert name.startswith("bytes:") or text[offset:].startswith(name)


def test_one_token_beyond_the_prompt_is_always_in_the_logprobs_even_an_end_token(client, engine, model, tokenizer):
    bias = torch.nn.Linear(32, len(tokenizer))
    head, bias.weight, bias.bias.data[:] = engine.model.lm_head, model.lm_head.weight, 0
    bias.bias.data[tokenizer.eos_token_id] = 1e4
    try:
        engine.model.lm_head = bias
        found = post(client, "/v1/completions", prompt=[5, 6, 7], max_tokens=1, logprobs=1, echo=True).json()
    finally:
        engine.model.lm_head = head
    (choice,) = found["choices"]
    assert len(choice["logprobs"]["token_logprobs"]) == 4
    assert choice["finish_reason"] == "stop"
    assert choice["text"] == tokenizer.decode([5, 6, 7])


def test_texts_and_token_ids_get_equal_answers(client, tokenizer, texts):
    by_text = post(client, "/v1/completions", prompt=texts, max_tokens=9, temperature=0).json()["choices"]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    by_ids = post(client, "/v1/completions", prompt=ids, max_tokens=9, temperature=0).json()["choices"]
    assert by_text == by_ids
    alone = post(client, "/v1/completions", prompt=ids[1], max_tokens=9, temperature=0).json()["choices"]
    assert alone[0]["text"] == by_ids[1]["text"]


@pytest.mark.parametrize("stop", [None, ["e", "zz"]])
def test_streamed_chunks_concatenate_to_the_whole_answer(client, texts, stop):
    for text in texts:
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 30, "temperature": 0, "stop": stop}
        whole = post(client, "/v1/chat/completions", **body).json()["choices"][0]
        chunks = sse(post(client, "/v1/chat/completions", stream=True, stream_options={"include_usage": True}, **body))
        deltas = [chunk["choices"][0] for chunk in chunks[:-1]]
        assert deltas[0]["delta"]["role"] == "assistant"
        assert "".join(delta["delta"].get("content", "") for delta in deltas) == whole["message"]["content"]
        assert [delta["finish_reason"] for delta in deltas] == [None] * (len(deltas) - 1) + [whole["finish_reason"]]
        assert chunks[-1]["usage"]["completion_tokens"] > 0
        assert len({chunk["id"] for chunk in chunks}) == 1


def test_a_text_completion_streams_too(client):
    whole = post(client, "/v1/completions", prompt="Budi", max_tokens=12, temperature=0).json()["choices"][0]
    chunks = sse(post(client, "/v1/completions", prompt="Budi", max_tokens=12, temperature=0, stream=True))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["text"]


def test_a_chat_is_the_completion_of_its_rendered_template(client, tokenizer):
    plain = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Budi?"}]
    messages = [plain[0], {"role": "user", "content": [{"type": "text", "text": "Budi?"}]}]
    text = tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
    chat = post(client, "/v1/chat/completions", messages=messages, max_tokens=10, temperature=0, logprobs=True,
                top_logprobs=2).json()["choices"][0]
    completion = post(client, "/v1/completions", prompt=text, max_tokens=10, temperature=0).json()["choices"][0]
    assert chat["message"] == {"role": "assistant", "content": completion["text"]}
    assert all(len(token["top_logprobs"]) == 2 for token in chat["logprobs"]["content"])


def test_a_seed_repeats_a_draw(client):
    body = {"prompt": "Lan", "max_tokens": 12, "temperature": 1.0}
    drawn = [post(client, "/v1/completions", **body, seed=seed).json()["choices"][0]["text"] for seed in (7, 7, 8)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_tokenizer_is_as_lm_eval_asks_for_it(client, tokenizer, texts):
    info = client.get("/tokenizer_info").json()
    assert info["eos_token"] == "<|endoftext|>"
    assert info["chat_template"] == tokenizer.chat_template
    for text in [*texts, "<|endoftext|>"]:
        ids = client.post("/tokenize", json={"prompt": text, "add_special_tokens": False}).json()["tokens"]
        assert ids == tokenizer(text)["input_ids"]
        assert client.post("/detokenize", json={"tokens": ids}).json()["prompt"] == text


def test_models_and_health(app, client):
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["tiny"]
    assert client.get("/v1/models/tiny").json()["max_model_len"] == 128
    assert TestClient(app).get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic sea-test"}])
def test_a_missing_or_wrong_key_is_refused_everywhere(app, header):
    for path in ("/v1/models", "/tokenizer_info", "/nowhere", "/openapi.json"):
        response = TestClient(app, headers=header).get(path)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(("body", "status", "says"), [
    ({"prompt": "a", "model": "gpt"}, 404, "there is no model 'gpt' here; this server has 'tiny'"),
    ({"prompt": [1] * 129}, 400, "129 tokens, the model's context 128"),
    ({"prompt": [1] * 120, "max_tokens": 9}, 400, "120 tokens and max_tokens is 9"),
    ({"prompt": "a", "max_tokens": 101}, 400, "limit of 100"),
    ({"prompt": [5, 300]}, 400, "token id 300 is not in the vocabulary, 0..299"),
    ({"prompt": [[5], [-1]]}, 400, "token id -1"),
    ({"prompt": ""}, 400, "empty"),
    ({"prompt": []}, 400, "no prompt"),
    ({"prompt": [[]]}, 400, "empty"),
    ({"prompt": [1.5]}, 400, "prompt"),
    ({}, 400, "prompt"),
    ({"prompt": "a", "n": 17}, 400, "n=17 exceeds"),
    ({"prompt": "a", "best_of": 3}, 400, "best_of=3"),
    ({"prompt": "a", "logit_bias": {"5": 1}}, 400, "logit_bias"),
    ({"prompt": "a", "presence_penalty": 1}, 400, "presence_penalty"),
    ({"prompt": "a", "echo": True, "stream": True}, 400, "stream with echo"),
    ({"prompt": ["a", "b"], "stream": True}, 400, "one prompt"),
    ({"prompt": "a", "suffix": "b"}, 400, "suffix"),
    ({"prompt": "a", "min_p": 0.1}, 400, "min_p: this field is not supported"),
    ({"prompt": "a", "temperature": -1}, 400, "temperature"),
    ({"prompt": "a", "max_tokens": -1}, 400, "max_tokens"),
    ({"prompt": "a", "logprobs": 21}, 400, "logprobs"),
    ({"prompt": "\ud800"}, 400, "surrogate"),
])
def test_what_cannot_be_answered_is_refused_with_the_reason(client, body, status, says):
    response = client.post("/v1/completions", content=json.dumps({"model": "tiny", **body}),
                           headers={"Content-Type": "application/json"})
    assert response.status_code == status
    error = response.json()["error"]
    assert says in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", [
    {"messages": []}, {"messages": [{"role": "tool", "content": "x"}]}, {"messages": [{"role": "user"}]},
    {"messages": [{"role": "user", "content": "x"}], "tools": []},
    {"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_object"}},
    {"messages": [{"role": "user", "content": "x"}], "top_logprobs": 2},
    {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1, "max_completion_tokens": 1}])
def test_chats_that_cannot_be_answered_are_refused(client, body):
    response = post(client, "/v1/chat/completions", **body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("content", [b"{", b"", b"[]", b"\xff\xfe{}", b'{"model": "tiny", "prompt": NaN}'])
def test_malformed_json_is_a_400(client, content):
    response = client.post("/v1/completions", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["message"]


def test_too_large_a_body_is_a_413_announced_or_not(client):
    def parts():
        for _ in range(30):
            yield b" " * 1000

    for content in (b" " * 20_001, parts()):
        response = client.post("/v1/completions", content=content, headers={"Content-Type": "application/json"})
        assert response.status_code == 413
        assert "20,000 bytes" in response.json()["error"]["message"]


def test_unknown_routes_and_methods_answer_in_the_same_shape(client):
    for response, status in ((client.get("/v1/nothing"), 404), (client.get("/v1/completions"), 405)):
        assert response.status_code == status
        assert response.json()["error"]["type"] == "invalid_request_error"
