"""Artifacts appear whole, once, and are found again by what they are, on this machine and on others."""

import json
import shutil
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import fsspec
import pytest

from sea_ray.artifacts import (
    NOT_IDENTITY,
    RECORD,
    StageKey,
    Store,
    digest_file,
    fingerprint,
    plain,
    read_json,
    write_json,
)
from sea_ray.errors import DataError, MachineError

KEY = StageKey(kind="base", name="base", config={"steps": 3})


def build(store, key=KEY, text="weights", facts=None):
    with store.building(key) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "weights.txt").write_text(text)
        return store.commit(key, folder, facts or {"loss": 1.5}, {"workers": 1}, 0.25)


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))


@pytest.fixture
def remote():
    """An empty object store; each Store with a cache of its own is another machine."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    yield memory
    memory.store.clear()


def test_a_fingerprint_does_not_depend_on_the_order_of_keys_or_the_kind_of_sequence():
    assert fingerprint({"a": 1, "b": (2, 3)}) == fingerprint({"b": [2, 3], "a": 1})


def test_a_fingerprint_tells_values_and_letters_apart():
    values = [{"a": 1}, {"a": 2}, {"a": "1"}, {"a": None}, {"b": 1}, {"a": "ไทย"}, {"a": "ລາວ"}, {"a": [1]}]
    assert len({fingerprint(value) for value in values}) == len(values)


def test_fields_that_say_where_stay_out_of_fingerprints_at_any_depth():
    @dataclass(frozen=True)
    class Source:
        glob: str
        root: str = field(default="/here", metadata=NOT_IDENTITY)

    assert fingerprint({"s": [Source("*.txt")]}) == fingerprint({"s": [Source("*.txt", root="/there")]})
    assert fingerprint(Source("*.txt")) != fingerprint(Source("*.md"))
    assert plain(Source("*.txt"))["root"] == "/here"  # the record still says where


def test_a_key_is_what_made_it_and_not_its_name():
    assert replace(KEY, name="another").fingerprint == KEY.fingerprint
    others = [replace(KEY, kind="sft"), replace(KEY, config={"steps": 4}), replace(KEY, parents={"corpus": "a"}),
              replace(KEY, inputs={"a.txt": "d1"}), replace(KEY, version=2)]
    assert len({key.fingerprint for key in [KEY, *others]}) == 6


def test_a_value_that_is_no_number_has_no_fingerprint():
    with pytest.raises(ValueError, match="float"):
        fingerprint({"rate": float("nan")})


def test_json_appears_whole_or_not_at_all(tmp_path):
    file = tmp_path / "new" / "a.json"
    write_json(file, {"ภาษา": ("th", Path("x"))})
    assert read_json(file) == {"ภาษา": ["th", "x"]}
    with pytest.raises(TypeError):
        write_json(file, {"bad": object()})
    assert read_json(file) == {"ภาษา": ["th", "x"]}
    assert [path.name for path in file.parent.iterdir()] == ["a.json"]


def test_a_digest_is_of_the_content(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
    assert digest_file(tmp_path / "a") == digest_file(tmp_path / "b")
    (tmp_path / "b").write_bytes(b"other")
    assert digest_file(tmp_path / "a") != digest_file(tmp_path / "b")


def test_a_half_built_result_is_not_found_before_it_is_committed(store):
    assert store.find(KEY) is None
    with store.building(KEY) as folder:
        (folder / "weights.txt").write_text("half")
        write_json(folder / RECORD, {})
        assert store.find(KEY) is None
    assert store.find(KEY) is None


def test_a_failed_build_leaves_nothing(store):
    def fail():
        with store.building(KEY) as folder:
            (folder / "weights.txt").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.find(KEY) is None
    assert not list((store.root / "building").iterdir())


def test_a_folder_without_a_record_is_not_a_result(store):
    place = store.root / "artifacts" / KEY.kind / KEY.fingerprint
    place.mkdir(parents=True)
    (place / "weights.txt").write_text("half")
    assert store.find(KEY) is None


def test_a_result_is_found_with_its_record(store):
    made = build(store)
    found = store.find(KEY)
    assert found == made
    assert (found.folder / "deep" / "weights.txt").read_text() == "weights"
    assert found.facts == {"loss": 1.5}
    record = found.record
    assert record["fingerprint"] == KEY.fingerprint
    assert record["config"] == {"steps": 3}
    assert record["execution"] == {"workers": 1}
    assert record["seconds"] == 0.25


def test_a_second_process_finds_a_result_from_any_folder(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build(Store("store"))
    assert Path(Store("store").url).is_absolute()
    assert store.find(KEY) is not None


def test_of_two_builders_the_first_wins(store):
    with store.building(KEY) as late:
        (late / "weights.txt").write_text("second")
        build(store, text="first")
        artifact = store.commit(KEY, late, {"loss": 9.0}, {}, 1.0)
    assert (artifact.folder / "deep" / "weights.txt").read_text() == "first"
    assert not (artifact.folder / "weights.txt").exists()
    assert artifact.facts == {"loss": 1.5}


def test_many_builders_at_once_agree_on_one_result(store):
    seen, start = [], threading.Barrier(8)

    def one(number):
        start.wait()
        artifact = build(store, text=str(number), facts={"number": number})
        seen.append((artifact.facts["number"], (artifact.folder / "deep" / "weights.txt").read_text()))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1
    assert str(seen[0][0]) == seen[0][1]
    assert not list((store.root / "building").iterdir())


def test_a_result_is_as_readable_as_its_neighbours(store):
    assert build(store).folder.stat().st_mode & 0o777 == 0o755


def test_a_store_that_cannot_be_written_names_the_setting(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match=r"store\.url=.*name a folder that you own"):
        Store(str(tmp_path / "file" / "store"))


def test_the_record_is_uploaded_last(remote, tmp_path, monkeypatch):
    order = []
    put_file = type(remote).put_file
    monkeypatch.setattr(type(remote), "put_file",
                        lambda self, local, path, **kw: (order.append(path), put_file(self, local, path, **kw)))
    build(Store("memory://bucket/runs", cache=tmp_path / "a"))
    assert [Path(path).name for path in order] == ["weights.txt", RECORD]


def test_another_machine_fetches_a_result_from_the_remote_store(remote, tmp_path):
    made = build(Store("memory://bucket/runs", cache=tmp_path / "a"))
    other = Store("memory://bucket/runs", cache=tmp_path / "b")
    found = other.find(KEY)
    assert found is not None
    assert found.folder != made.folder
    assert found.folder.is_relative_to(tmp_path / "b")
    assert (found.folder / "deep" / "weights.txt").read_text() == "weights"
    assert found.record == made.record


def test_an_artifact_of_another_machine_opens_here(remote, tmp_path):
    made = build(Store("memory://bucket/runs", cache=tmp_path / "a"))
    shutil.rmtree(tmp_path / "a")
    folder = Store("memory://bucket/runs", cache=tmp_path / "b").open(made)
    assert folder.is_relative_to(tmp_path / "b")
    assert (folder / "deep" / "weights.txt").read_text() == "weights"


def test_what_is_discarded_is_gone_here_and_in_the_remote_store(remote, tmp_path):
    store = Store("memory://bucket/runs", cache=tmp_path / "a")
    made = build(store)
    store.discard(made)
    assert not made.folder.exists()
    assert not remote.find("/bucket")
    assert store.find(KEY) is None
    store.discard(made)
    assert not list((store.root / "building").iterdir())


def test_a_folder_that_vanishes_with_its_record_is_discarded_all_the_same(remote, tmp_path, monkeypatch):
    """As on object stores, where a folder is no more than the files below it."""
    store = Store("memory://bucket/runs", cache=tmp_path / "a")
    made = build(store)

    def no_such_prefix(self, path, recursive=False, maxdepth=None):
        raise FileNotFoundError(path)

    monkeypatch.setattr(type(remote), "rm", no_such_prefix)
    store.discard(made)
    assert store.find(KEY) is None


def test_what_has_no_record_in_the_remote_store_is_not_fetched(remote, tmp_path):
    build(Store("memory://bucket/runs", cache=tmp_path / "a"))
    remote.rm(next(path for path in remote.find("/bucket") if path.endswith(RECORD)))
    other = Store("memory://bucket/runs", cache=tmp_path / "b")
    assert other.find(KEY) is None
    assert not list(other.root.rglob("weights.txt"))


def test_a_broken_upload_is_not_found_elsewhere_and_is_completed_by_the_next_run(remote, tmp_path, monkeypatch):
    put_file = type(remote).put_file

    def lose_the_network(self, local, path, **kw):
        if path.endswith(RECORD):
            raise OSError("connection lost")
        put_file(self, local, path, **kw)

    mine, other = (Store("memory://bucket/runs", cache=tmp_path / name) for name in "ab")
    with monkeypatch.context() as patch:
        patch.setattr(type(remote), "put_file", lose_the_network)
        with pytest.raises(OSError, match="connection lost"):
            build(mine)
    assert other.find(KEY) is None
    if mine.find(KEY) is None:
        build(mine)
    assert other.find(KEY) is not None


def test_a_broken_download_is_not_taken_for_a_result(remote, tmp_path, monkeypatch):
    build(Store("memory://bucket/runs", cache=tmp_path / "a"))
    other = Store("memory://bucket/runs", cache=tmp_path / "b")
    get_file = type(remote).get_file

    def lose_the_network(self, path, local, **kw):
        if path.endswith("weights.txt"):
            raise OSError("connection lost")
        get_file(self, path, local, **kw)

    with monkeypatch.context() as patch:
        patch.setattr(type(remote), "get_file", lose_the_network)
        with pytest.raises(OSError, match="connection lost"):
            other.find(KEY)
    found = other.find(KEY)
    assert found is not None
    assert (found.folder / "deep" / "weights.txt").exists()


def test_the_first_machine_to_upload_wins_everywhere(remote, tmp_path):
    first, second, third = (Store("memory://bucket/runs", cache=tmp_path / name) for name in "abc")
    build(first, text="first")
    build(second, text="second", facts={"loss": 2.0})
    for machine in (first, second, third):
        found = machine.find(KEY)
        assert found is not None
        assert (found.folder / "deep" / "weights.txt").read_text() == "first"


def test_a_file_of_the_run_folder_is_published(remote, tmp_path):
    store = Store("memory://bucket/runs", cache=tmp_path / "a")
    write_json(store.run_folder("demo") / "run.json", {"name": "demo"})
    store.publish(store.run_folder("demo") / "run.json")
    assert json.loads(remote.cat("/bucket/runs/demo/run.json")) == {"name": "demo"}


def test_only_a_remote_store_is_shared(store, tmp_path):
    assert not store.is_shared
    assert Store("memory://bucket/runs", cache=tmp_path).is_shared


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        digest_file(tmp_path)
