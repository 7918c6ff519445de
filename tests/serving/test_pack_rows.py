"""Language packs at request time: each row as if the pack lay on the model, all in one batch, the weights untouched."""

import copy
import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from sea_ray.errors import ConfigError, DataError
from sea_ray.neurons.config import SITE_KINDS
from sea_ray.neurons.pack import LanguagePack, SliceDelta
from sea_ray.neurons.sites import describe
from sea_ray.neurons.untouched import tensor_digests
from sea_ray.serving.app import build_app
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.described import ModelList
from sea_ray.serving.engine import TextEngine
from sea_ray.serving.exchange import Request
from sea_ray.serving.models import Models, Served

LANGUAGES = ("th", "vi")


def make_pack(model, language, seed, share=0.1, size=0.3):
    """Return a pack of random changes of some neurons of every kind of site."""
    draw, architecture, parameters, deltas = np.random.default_rng(seed), describe(model), dict(model.named_parameters()), {}
    for site, layer in architecture.keys(SITE_KINDS):
        count = architecture.count(site)
        neurons = np.sort(draw.choice(count, max(1, int(share * count)), replace=False))
        for place in architecture.slices(site, layer, neurons):
            shape = list(parameters[place.tensor].shape)
            shape[place.dim] = len(place.index)
            deltas[place.tensor] = SliceDelta(place, draw.normal(0, size, shape).astype(np.float32))
    return LanguagePack(language=language, deltas=deltas, base_digests=tensor_digests(model))


@pytest.fixture(scope="module")
def packs(model):
    return {language: make_pack(model, language, seed) for seed, language in enumerate(LANGUAGES)}


@pytest.fixture(scope="module")
def laid(model, packs):
    """The models that a user would have made by laying each pack on the base."""
    found = {None: model}
    for language, pack in packs.items():
        found[language] = copy.deepcopy(model)
        pack.apply(found[language])
    return found


@pytest.fixture(scope="module")
def base(model, tokenizer):
    torch.set_num_threads(1)
    engine = TextEngine(copy.deepcopy(model), tokenizer, max_batch=8)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def folders(packs, tmp_path_factory):
    place = tmp_path_factory.mktemp("packs")
    for language, pack in packs.items():
        (place / language).mkdir()
        pack.save(place / language)
    return {language: place / language for language in packs}


@pytest.fixture(scope="module")
def models(base, folders):
    return Models([Served(name="base", engine=base, packs=folders)])


@pytest.fixture(scope="module")
def client(models):
    return TestClient(build_app(models, [], ServingConfig()), raise_server_exceptions=False)


def test_rows_of_one_batch_are_each_read_with_their_own_pack(models, base, laid, texts, tokenizer):
    for language in LANGUAGES:
        models.find(f"base:{language}")
    asked = [(language, tokenizer(text * repeat)["input_ids"]) for repeat in (1, 3) for text in texts for language in laid]
    before = tensor_digests(base.model)
    futures = base.submit([Request(prompt_ids=tuple(ids), max_new_tokens=10, score_prompt=True, top_logprobs=0, pack=language)
                           for language, ids in asked])
    for (language, ids), future in zip(asked, futures, strict=True):
        answer, own = future.result(timeout=60), laid[language]
        with torch.no_grad():
            logprob = own(torch.tensor([[*ids, *answer.token_ids]])).logits[0].log_softmax(-1)
        expected = [logprob[place - 1, ids[place]].item() for place in range(1, len(ids))]
        assert [score.logprob for score in answer.prompt_logprobs[1:]] == pytest.approx(expected, abs=2e-4)
        for place, token in enumerate(answer.token_ids, len(ids)):  # greedy under the laid model, up to rounding
            assert logprob[place - 1, token].item() == pytest.approx(logprob[place - 1].max().item(), abs=2e-4)
    assert tensor_digests(base.model) == before


def test_a_pack_takes_little_beside_its_base(model, tokenizer):
    """At 0.1 % of the neurons a further language costs less than 1 % of the base."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    large = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), hidden_size=256, intermediate_size=2000, num_hidden_layers=4,
                                         num_attention_heads=8, num_key_value_heads=8, max_position_embeddings=128))
    engine = TextEngine(large, tokenizer)
    try:
        taken = engine.load_pack("th", make_pack(large, "th", 0, share=0.001))
    finally:
        engine.close()
    assert 0 < taken < 0.01 * sum(parameter.nbytes for parameter in large.parameters())


def test_a_pack_is_chosen_by_the_model_name_or_by_the_header(client, laid, tokenizer, texts):
    prompt = tokenizer(texts[0])["input_ids"]

    def scores(model, **headers):
        body = {"model": model, "prompt": [prompt], "max_tokens": 0, "echo": True, "logprobs": 0}
        response = client.post("/v1/completions", json=body, headers=headers)
        assert response.status_code == 200, response.text
        return response.json()["model"], response.json()["choices"][0]["logprobs"]["token_logprobs"][1:]

    name, by_name = scores("base:vi")
    assert name == "base:vi"
    assert scores("base", **{"X-Language-Pack": "vi"}) == (name, pytest.approx(by_name, abs=1e-4))
    with torch.no_grad():
        logprob = laid["vi"](torch.tensor([prompt])).logits[0].log_softmax(-1)
    assert by_name == pytest.approx([logprob[place - 1, prompt[place]].item() for place in range(1, len(prompt))], abs=2e-4)
    assert scores("base")[1] != pytest.approx(by_name, abs=1e-2)


@pytest.mark.parametrize(("name", "headers", "status", "says"), [
    ("base:km", {}, 404, "its packs are th, vi"),
    ("base:", {"X-Language-Pack": "km"}, 404, "no language pack 'km'"),
    ("base:vi", {"X-Language-Pack": "th"}, 400, "name one of them"),
    ("vi", {}, 404, "'base', 'base:th', 'base:vi'"),
])
def test_a_pack_that_is_not_there_is_said_so(client, name, headers, status, says):
    response = client.post("/v1/completions", json={"model": name, "prompt": "a"}, headers=headers)
    assert response.status_code == status
    assert says in response.json()["error"]["message"]


def test_the_list_of_models_says_what_a_pack_is(client):
    listed = client.get("/v1/models")
    ModelList.model_validate_json(listed.content, strict=True)
    cards = {card["id"]: card for card in listed.json()["data"]}
    assert list(cards) == ["base", "base:th", "base:vi"]
    assert cards["base:th"]["parent"] == "base"
    assert cards["base:th"]["neurons"] > 0
    assert cards["base:th"]["approximate"] is False
    assert client.get("/v1/models/base:vi").json()["language"] == "vi"


def test_a_pack_of_another_base_is_refused_unless_it_may_be_grafted(model, tokenizer, folders):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model.norm.weight += 0.01
    engine = TextEngine(other, tokenizer)
    try:
        for grafts, status in ((False, 400), (True, 200)):
            models = Models([Served(name="winner", engine=engine, packs=folders, grafts=grafts)])
            client = TestClient(build_app(models, [], ServingConfig()))
            response = client.post("/v1/completions", json={"model": "winner:th", "prompt": "a"})
            assert response.status_code == status
            if not grafts:
                assert "belongs to another base" in response.json()["error"]["message"]
        assert client.get("/v1/models/winner:th").json()["approximate"] is True
    finally:
        engine.close()


def test_the_effect_of_a_pack_is_measured_when_it_is_loaded(base, laid, tokenizer, folders, texts):
    models = Models([Served(name="base", engine=base, packs=folders, texts={"vi": texts}.__getitem__)])
    assert models.card("base:vi")["bits_per_byte"] is None
    models.find("base:vi")
    found = models.card("base:vi")["bits_per_byte"]
    for name, own in {"with": laid["vi"], "without": laid[None]}.items():
        nats = 0.0
        for text in texts:
            ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(text)["input_ids"]]])
            with torch.no_grad():
                nats -= own(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None]).sum().item()
        assert found[name] == pytest.approx(nats / math.log(2) / sum(len(text.encode()) for text in texts), rel=1e-4)
    assert found["texts"] == len(texts)


def test_what_does_not_fit_is_refused_before_anything_is_loaded(base, packs):
    place, values = next((place, values) for place, values in packs["th"].deltas.values() if place.dim == 0)
    wrong = LanguagePack(language="th", base_digests=packs["th"].base_digests, deltas={
        place.tensor: SliceDelta(replace(place, index=place.index + 10_000), values)})
    with pytest.raises(DataError, match="does not fit"):
        base.load_pack("wrong", wrong)
    with pytest.raises(ConfigError, match="'wrong' is not loaded"):
        base.submit([Request(prompt_ids=(5,), max_new_tokens=1, pack="wrong")])


def test_packs_are_loaded_while_others_are_answered(model, tokenizer, packs):
    engine = TextEngine(copy.deepcopy(model), tokenizer)
    try:
        alone = engine.submit([Request(prompt_ids=(5, 6, 7), max_new_tokens=60)])[0].result(timeout=30).token_ids
        (busy,) = engine.submit([Request(prompt_ids=(5, 6, 7), max_new_tokens=60)])
        threads = [threading.Thread(target=engine.load_pack, args=(name, packs[name])) for name in LANGUAGES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        assert busy.result(timeout=30).token_ids == alone
        assert len(engine.submit([Request(prompt_ids=(5,), max_new_tokens=2, pack="vi")])[0].result(timeout=30).token_ids) == 2
    finally:
        engine.close()
