import pytest

from sea_ray.evaluation import kept_answers
from sea_ray.evaluation.kept_answers import KeptAnswers


@pytest.fixture
def model(scripted):
    asked = []

    def reply(prompt):
        if prompt == "stop here" and len(asked) < 3:
            raise KeyboardInterrupt
        asked.append(prompt)
        return f"to {prompt}: {len(asked)}"

    return scripted(reply), asked


def chats(*prompts):
    return [[{"role": "user", "content": prompt}] for prompt in prompts]


def test_what_was_asked_before_is_not_asked_again_in_whatever_order(model, tmp_path):
    generator, asked = model
    first = KeptAnswers(generator, tmp_path / "a" / "kept.db").chat(chats("one", "two", "one"), 8)
    assert first == ["to one: 1", "to two: 2", "to one: 1"]
    again = KeptAnswers(generator, tmp_path / "a" / "kept.db")
    assert again.chat(chats("two", "one"), 8) == [first[1], first[0]]
    assert len(asked) == 2
    again.chat(chats("one"), 9)
    again.complete(["one"], 8)
    again.complete(["one"], 8, ("\n",))
    assert len(asked) == 5


def test_an_interrupted_run_goes_on_where_it_was(model, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_answers, "GROUP", 1)
    generator, asked = model
    questions = chats("one", "two", "stop here", "three")
    with pytest.raises(KeyboardInterrupt):
        KeptAnswers(generator, tmp_path / "kept.db").chat(questions, 8)
    asked.append("other")
    assert len(KeptAnswers(generator, tmp_path / "kept.db").chat(questions, 8)) == 4
    assert asked == ["one", "two", "other", "stop here", "three"]
