"""The page in a real browser: a person types a key, picks models and a language, asks, and reads the answers."""

import copy
import json
import shutil
import time
from urllib.parse import urlsplit

import httpx
import pytest
import torch
from chromium import opened

from sea_ray.neurons.diff import diff_models
from sea_ray.serving.app import build_app
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.engine import TextEngine
from sea_ray.serving.guard import key_digest
from sea_ray.serving.local import listening
from sea_ray.serving.models import Models, Served

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; Debian has it: apt-get install chromium")

KEY = "sea-page"
MARKUP = "<b>Budi</b>"
QUESTION = "<i>Budi</i>?"


def speaking_markup(model, tokenizer):
    """Return a base without a chat template that says nothing but MARKUP, and its tokenizer."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = None
    tokenizer.add_tokens([MARKUP])
    model = copy.deepcopy(model)
    model.resize_token_embeddings(len(tokenizer))
    head = torch.nn.Linear(model.config.hidden_size, len(tokenizer))
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    head.bias.data[tokenizer.convert_tokens_to_ids(MARKUP)] = 9
    model.lm_head = head
    return model, tokenizer


def thai_pack(model, folder):
    """Write a pack that changes some neurons of the model much."""
    trained = copy.deepcopy(model)
    trained.model.layers[0].mlp.down_proj.weight.data[:, :9] += 3
    diff_models(model, trained, "th").save(folder)
    return folder


def slow(model):
    """Return a model that takes 50 ms for each step."""
    model = copy.deepcopy(model)
    model.model.layers[0].register_forward_pre_hook(lambda *_: time.sleep(0.05))
    return model


@pytest.fixture(scope="module")
def served(model, tokenizer, tmp_path_factory):
    mine = copy.deepcopy(model)
    packs = {"th": thai_pack(mine, tmp_path_factory.mktemp("th"))}
    models = Models([
        Served(name="tiny", engine=TextEngine(mine, tokenizer), packs=packs),
        Served(name="base", engine=TextEngine(*speaking_markup(model, tokenizer)), packs=packs, grafts=True),
        *(Served(name=name, engine=TextEngine(slow(model), tokenizer)) for name in ("slow", "doomed"))])
    app = build_app(models, [key_digest(KEY)], ServingConfig(), is_refusal=lambda text: MARKUP in text)
    with listening(app, "127.0.0.1") as address:
        yield address, models


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with opened(CHROMIUM, tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def page(browser, served):
    """The page as a new visitor finds it."""
    browser.open(f"{served[0]}/health")
    browser.value("sessionStorage.clear()")
    browser.open(f"{served[0]}/")
    browser.wait("document.activeElement.id === 'key'")
    browser.events.clear()
    return browser


@pytest.fixture
def connected(page):
    page.type(KEY)
    page.enter()
    page.wait("document.activeElement.id === 'question'")
    return page


def ask(page, question):
    page.value("document.getElementById('question').focus()")
    page.type(question)
    page.enter()
    page.wait("document.querySelector('.turn:last-child .answer')")


def answers(page):
    """Return the finished answers to the last question, part -> text each."""
    page.wait("!document.querySelector('#stop').checkVisibility() && !document.querySelector('.answer[aria-busy=true]') &&"
              " ![...document.querySelectorAll('.flag')].some((flag) => flag.textContent.endsWith('…'))")
    parts = ["h3", ".text", ".problem", ".figures", ".flag"]
    return page.value("[...document.querySelectorAll('.turn:last-child .answer')].map((one) => Object.fromEntries("
                      f"{parts}.map((part) => [part, one.querySelector(part).textContent])))")


def choose(page, selector, value):
    page.value(f"{{ const it = document.querySelector({json.dumps(selector)}); it.value = {json.dumps(value)};"
               " it.dispatchEvent(new Event('change')); }")


def said(served, path, **body):
    """Return what the API says when it is asked without the page."""
    response = httpx.post(f"{served[0]}{path}", headers={"Authorization": f"Bearer {KEY}"}, timeout=60,
                          json={"temperature": 0, "max_tokens": 64, **body})
    choice = response.raise_for_status().json()["choices"][0]
    return choice["text"] if "text" in choice else choice["message"]["content"]


def chat(served, model, *contents):
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(contents)]
    return said(served, "/v1/chat/completions", model=model, messages=messages)


def test_the_winner_and_the_base_answer_side_by_side_and_markup_stays_text(connected, served):
    page = connected
    ask(page, QUESTION)
    tiny, base = answers(page)
    assert (tiny["h3"], tiny[".text"]) == ("tiny", chat(served, "tiny", QUESTION))
    assert (base["h3"], base[".text"]) == ("base continues the text", MARKUP * 64)
    for one in (tiny, base):
        rate, rest = one[".figures"].split(" tokens/s · ")
        assert " in " in rest
        assert " s · first after " in rest
        seconds = float(rest.split(" in ")[1].split(" s")[0])
        assert float(rate) == pytest.approx(64 / seconds, rel=0.05 + 0.01 / seconds)
        assert "64 tokens in" in rest
        assert one[".problem"] == ""
    assert (tiny[".flag"], base[".flag"]) == ("does not refuse", "refuses")
    assert page.value("document.querySelector('.turn h2').textContent") == QUESTION
    assert page.value("document.querySelectorAll('#log b, #log i').length") == 0
    assert not page.complaints
    assert {urlsplit(url)._replace(path="", query="").geturl() for url in page.requests} == {served[0]}
    assert not [url for url in page.requests if KEY in url]


def test_a_language_pack_answers_where_it_is_ticked(connected, served):
    page = connected
    assert page.value("document.querySelector('.pack').disabled"), "there is no pack of English"
    choose(page, "#language", "th")
    assert page.value("document.querySelector('#questions button').textContent") == "บูดีอาศัยอยู่ที่ไหน"
    page.value("for (const tick of document.querySelectorAll('.pack')) tick.click()")
    assert page.value("[...document.querySelectorAll('.column .note')].map((note) => note.textContent)") == [
        "9 neurons · is loaded at the first question",
        "9 neurons · approximate: laid on another checkpoint than it was trained on · is loaded at the first question"]
    page.value("document.querySelector('#questions button').click()")
    page.enter()
    with_pack, graft = answers(page)
    plain, thai = (chat(served, model, "บูดีอาศัยอยู่ที่ไหน") for model in ("tiny", "tiny:th"))
    assert plain != thai
    assert (with_pack["h3"], with_pack[".text"]) == ("tiny:th", thai)
    assert graft["h3"] == "base:th approximate continues the text"
    page.wait("document.querySelector('.column .note').textContent === '9 neurons'")
    states = []
    for code in ("lo", "th"):
        choose(page, "#language", code)
        states.append(page.value("document.querySelector('.pack').checked"))
    assert states == [False, True], "the wish outlasts a language without a pack"
    page.value("document.querySelector('.pack').click()")
    ask(page, "บูดีอาศัยอยู่ที่ไหน")
    assert answers(page)[0][".text"] == plain
    assert not page.complaints


def test_each_model_remembers_its_own_words_if_it_is_asked_to(connected, served):
    page = connected
    choose(page, "#max-tokens", "8")
    for number in range(3):
        if number == 1:
            page.value("document.querySelector('#remember').click()")
        ask(page, f"Lan {number}?")
        shown = answers(page)[0]
    assert shown["h3"] == "tiny remembers 2 turns"
    bodies = [json.loads(params["request"]["postData"]) for name, params in page.events if name == "Network.requestWillBeSent"
              and params["request"]["url"].endswith("/chat/completions")]
    assert [len(body["messages"]) for body in bodies] == [1, 3, 5]
    assert bodies[2]["messages"][:3] == [*bodies[1]["messages"]]
    page.value("document.querySelector('#clear').click()")
    ask(page, "Lan?")
    assert answers(page)[0]["h3"] == "tiny"
    assert page.value("document.querySelectorAll('.turn').length") == 1


def test_escape_stops_an_answer_keeps_what_is_there_and_frees_its_place(connected, served):
    page, engine = connected, served[1].root("slow").engine
    choose(page, ".root", "slow")
    page.value("document.querySelector('.column:last-child .remove').click()")
    ask(page, "Budi?")
    page.wait("document.querySelector('.answer .text').textContent.length > 5")
    assert engine.num_pending == 1
    page.press("Escape", 27)
    (stopped,) = answers(page)
    assert (stopped[".problem"], stopped[".figures"]) == ("Stopped.", "")
    assert len(stopped[".text"]) > 5
    end = time.monotonic() + 5
    while engine.num_pending and time.monotonic() < end:
        time.sleep(0.01)
    assert engine.num_pending == 0
    assert page.value("document.querySelector('#send').checkVisibility()")


def test_an_answer_that_breaks_off_says_why(connected, served):
    page = connected
    choose(page, ".root", "doomed")
    ask(page, "Budi?")
    page.wait("document.querySelector('.answer .text').textContent.length > 5")
    served[1].root("doomed").engine.close()
    broken, whole = answers(page)
    assert (broken[".problem"], broken[".figures"], broken[".flag"]) == ("the engine is closed", "", "")
    assert len(broken[".text"]) > 5
    assert whole[".text"] == MARKUP * 64


def test_a_refused_request_is_told_in_the_servers_words_beside_the_answers_of_others(connected, served):
    page = connected
    choose(page, "#max-tokens", "120")
    ask(page, "Budi tinggal di mana?")
    tiny, base = answers(page)
    assert "together they exceed the model's context of 128" in tiny[".problem"] + base[".problem"]
    choose(page, "#max-tokens", "5")
    ask(page, "Budi?")
    assert [one[".problem"] for one in answers(page)] == ["", ""]


def test_a_server_that_has_gone_is_told_and_the_next_question_is_answered_when_it_is_back(connected):
    page = connected
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.call("Network.emulateNetworkConditions", offline=True, **offline)
    try:
        ask(page, "Budi?")
        assert {one[".problem"] for one in answers(page)} == {"The server cannot be reached."}
    finally:
        page.call("Network.emulateNetworkConditions", offline=False, **offline)
    ask(page, "Budi?")
    assert [one[".problem"] for one in answers(page)] == ["", ""]


def test_a_wrong_key_is_told_and_asked_for_again(page):
    page.type("another")
    page.enter()
    page.wait("document.querySelector('#connect-problem').textContent === 'This key is not accepted here.'")
    page.type(KEY)
    page.enter()
    page.wait("document.activeElement.id === 'question'")


def test_a_link_brings_the_key_and_the_address_bar_loses_it_at_once(page, served):
    page.open(f"{served[0]}/#key={KEY}")
    page.wait("document.activeElement.id === 'question'")
    assert page.value("location.href") == f"{served[0]}/"
    assert page.value("sessionStorage.length") == 1
    assert page.value("localStorage.length + document.cookie.length") == 0
    assert not [url for url in page.requests if KEY in url]
    assert not page.complaints


def test_it_works_by_keyboard_alone(connected):
    page = connected
    names = []
    page.value("document.querySelector('#change-key').focus()")
    for _ in range(20):
        names.append(page.value("(({id, className, tagName}) => id || className || tagName)(document.activeElement)"))
        page.press("Tab", 9)
    reached = ["change-key", "root", "remove", "form", "add-column", "temperature", "max-tokens", "remember", "language",
               "BUTTON", "question", "send"]
    assert [name for name in dict.fromkeys(names) if name in reached] == reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_by_day_and_by_night(connected, scheme):
    page = connected
    try:
        page.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True)
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        ask(page, "Budi?" + "x" * 60)
        answers(page)
        assert page.value("document.documentElement.scrollWidth") == 360
        background, ink = page.value("['backgroundColor', 'color'].map((part) => Number(getComputedStyle(document.body)[part]"
                                     ".match(/\\d+/)[0]))")
        assert (background > ink) == (scheme == "light")
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")
        page.call("Emulation.setEmulatedMedia", features=[])
