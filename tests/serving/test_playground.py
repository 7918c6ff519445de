"""The page at /: what it may load, that it is open and what it asks for is not, and the flag of refusals."""

import re
import threading
from html.parser import HTMLParser
from importlib import resources
from unicodedata import name as unicode_name

import pytest
from fastapi.testclient import TestClient

from sea_ray.demo.lexicon import load_lexicon
from sea_ray.languages import LANGUAGES
from sea_ray.serving.app import build_app
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.guard import key_digest
from sea_ray.serving.models import Models

PATHS = ("/", "/page/page.css", "/page/page.js", "/page/api.js", "/page/settings.json")


@pytest.fixture(scope="module")
def flagging():
    """A client of an application that calls every answer with "sorry" a refusal, and what was asked of it at a time."""
    inside, most = [], []

    def is_refusal(text):
        inside.append(text)
        most.append(len(inside))
        threading.Event().wait(0.02)
        inside.remove(text)
        return "sorry" in text

    app = build_app(Models([]), [key_digest("k")], ServingConfig(), is_refusal=is_refusal)
    return TestClient(app, headers={"Authorization": "Bearer k"}), most


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("path", PATHS)
def test_the_page_is_open_without_a_key_and_may_load_only_its_own_files(app, path):
    response = TestClient(app).get(path)
    assert response.status_code == 200
    rules = dict(rule.split(" ", 1) for rule in response.headers["Content-Security-Policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert {rules[kind] for kind in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert {rules[kind] for kind in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_opens_no_other_door(app):
    for path in ("/page/questions.json", "/page/", "/page/../v1/models", "/refusal"):
        assert TestClient(app).get(path).status_code == 401, path


def test_no_file_of_the_page_names_another_server(app):
    for path in PATHS:
        said = re.sub(r"(^|\s)// .*$", "", TestClient(app).get(path).text, flags=re.MULTILINE)  # but for comments
        assert "//" not in said, path


def test_the_markup_has_no_script_and_no_style_of_its_own_and_all_that_it_loads_is_there(app):
    client, elements = TestClient(app), Elements(TestClient(app).get("/").text).found
    assert not [one for one in elements if one[0] == "style" or any(key == "style" or key.startswith("on") for key in one[1])]
    loads = [attrs.get("src") or attrs.get("href") for tag, attrs in elements if tag in ("script", "link", "img")]
    assert None not in loads
    assert {client.get(f"/{address}").status_code for address in loads if address != "data:,"} == {200}


def test_all_that_a_person_can_set_has_a_name(app):
    elements = Elements(TestClient(app).get("/").text).found
    labels = {attrs.get("for") for tag, attrs in elements if tag == "label"}
    text = TestClient(app).get("/").text
    for tag, attrs in elements:
        if tag in ("input", "select", "textarea"):
            own = rf"<label[^>]*>[^<]*<{tag}[^>]*(?:id|class)=\"{attrs.get('id') or attrs.get('class')}\""
            assert attrs.get("id") in labels or "aria-label" in attrs or re.search(own, text), attrs


def test_each_language_has_questions_in_its_own_script_and_the_demo_asks_those_about_its_world(app):
    languages = TestClient(app).get("/page/settings.json").json()["languages"]
    assert [one["code"] for one in languages] == list(LANGUAGES)
    for one in languages:
        code, questions = one["code"], one["questions"]
        assert one["native_name"] == LANGUAGES[code].native_name
        for question in questions:
            letters = [unicode_name(letter).split()[0] for letter in question if letter.isalpha()]
            assert set(letters) == {LANGUAGES[code].script}, question
        lexicon = load_lexicon(code)
        who, which, _, unknown = questions
        assert who == lexicon.render("facts.home.question", {"person": lexicon.words["person"]["budi"]})
        assert which == lexicon.render("prompts.list_three", {"category": lexicon.words["category"]["animal"]})
        assert unknown in {lexicon.render("facts.job.question", {"person": forms})
                           for forms in lexicon.invented_names("person").values()}


def test_the_page_knows_whether_there_is_a_key_and_a_flag(app, flagging):
    def settings(application):
        found = TestClient(application).get("/page/settings.json").json()
        return found["needs_key"], found["flags_refusals"]

    assert settings(app) == (True, False)
    assert settings(flagging[0].app) == (True, True)
    assert settings(build_app(Models([]), [], ServingConfig())) == (False, False)


def test_an_answer_is_flagged_where_something_can_tell_and_nowhere_else(client, flagging):
    flags, _ = flagging
    assert flags.post("/refusal", json={"text": "sorry, no"}).json() == {"refusal": True}
    assert flags.post("/refusal", json={"text": "In Hue."}).json() == {"refusal": False}
    assert flags.post("/refusal", json={"text": 5}).status_code == 400
    assert TestClient(flags.app).post("/refusal", json={"text": "sorry"}).status_code == 401
    assert client.post("/refusal", json={"text": "sorry"}).status_code == 404


def test_the_flag_is_asked_for_one_answer_at_a_time(flagging):
    flags, most = flagging
    most.clear()
    with flags:  # one event loop for all
        threads = [threading.Thread(target=flags.post, args=("/refusal",), kwargs={"json": {"text": f"{n}"}}) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == [1] * 5


def test_the_files_of_the_page_are_small():
    folder = resources.files("sea_ray.serving") / "page"
    assert sum(len(file.read_bytes()) for file in folder.iterdir() if file.is_file()) < 40_000
