"""An endpoint as a Generator that answers questions and does nothing else."""

import pytest
from scripted_endpoint import ScriptedEndpoint

from sea_ray.asking import EndpointConfig
from sea_ray.errors import ConfigError
from sea_ray.stages.other_models import AnsweringEndpoint
from sea_ray.tracking import NullTracker


def asking(url, tmp_path):
    config = EndpointConfig(url=url, model="m", key_variable="OTHER_KEY")
    return AnsweringEndpoint(config, tmp_path / "answers.jsonl", NullTracker())


def question(text):
    return [{"role": "user", "content": text}]


def test_what_is_asked_twice_is_sent_once_and_as_long_as_the_evaluation_allows(tmp_path, monkeypatch):
    monkeypatch.setenv("OTHER_KEY", "secret")
    endpoint = ScriptedEndpoint(lambda number: (200, f"answer {number}"))
    with endpoint.running() as url:
        first, other, again = asking(url, tmp_path).chat([question("a"), question("b"), question("a")], 7)
    assert first == again != other
    assert [(body["messages"], body["max_tokens"]) for body in endpoint.asked].count((question("a"), 7)) == 1
    assert len(endpoint.asked) == 2


def test_without_its_key_an_endpoint_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.delenv("OTHER_KEY", raising=False)
    with pytest.raises(ConfigError, match="no OTHER_KEY"):
        asking("http://127.0.0.1:9/v1", tmp_path).chat([question("a")], 7)


@pytest.mark.parametrize(("method", "arguments"), [
    ("loglikelihoods", ([("a", "b")],)), ("rolling_loglikelihoods", (["a"],)), ("complete", (["a"], 3)),
    ("render", (question("a"),)), ("chat", ([[*question("a"), *question("b")]], 3)),
])
def test_what_only_some_endpoints_give_is_refused_by_name(tmp_path, method, arguments):
    with pytest.raises(ConfigError, match="m at http://h/v1 is asked for answers alone"):
        getattr(asking("http://h/v1", tmp_path), method)(*arguments)
