"""`sea-ray clean`: shows first, removes only what was agreed to."""

import os
import time

import pytest

from sea_ray.artifacts import StageKey, Store
from sea_ray.errors import ConfigError
from sea_ray.launch import clean, cli

KEY = StageKey(kind="base", name="base", config={})


@pytest.fixture
def store(tmp_path):
    store = Store(str(tmp_path / "store"))
    with store.building(KEY) as folder:
        (folder / "weights").write_text("x" * 2_000_000)
        store.commit(KEY, folder, {}, {}, 0.1)
    for file in store.root.rglob("*"):
        os.utime(file, (time.time() - 1e7,) * 2)
    return store


def test_without_a_terminal_it_shows_and_removes_nothing(store, capsys, monkeypatch):
    monkeypatch.setattr(clean, "is_terminal", lambda: False)
    assert cli.main(["clean", f"store.url={store.url}"]) == 0
    said = capsys.readouterr().out
    assert "results base" in said
    assert "2.0 MB" in said
    assert "1 may go: no run's record needs it" in said
    assert "say --yes" in said
    assert store.find(KEY)


@pytest.mark.parametrize(("answer", "stays"), [("n", True), ("", True), ("y", False)])
def test_a_person_is_asked(store, answer, stays, monkeypatch):
    monkeypatch.setattr(clean, "is_terminal", lambda: True)
    monkeypatch.setattr("builtins.input", lambda *_: answer)
    assert cli.main(["clean", f"store.url={store.url}"]) == 0
    assert bool(store.find(KEY)) is stays


def test_with_yes_nobody_is_asked(store, capsys):
    assert cli.main(["clean", "--yes", f"store.url={store.url}"]) == 0
    assert "removed     1 folders, 2.0 MB" in capsys.readouterr().out
    assert store.find(KEY) is None
    assert cli.main(["clean", f"store.url={store.url}"]) == 0
    assert "nothing to remove" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["store.ulr=x"], ["experiment=demo"], ["store.url=s3://me:key@host/x"], ["--days", "-1"]])
def test_what_is_wrong_is_refused(arguments, capsys):
    assert cli.main(["clean", *arguments]) == ConfigError.exit_code
    assert "error:" in capsys.readouterr().err
