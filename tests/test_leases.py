"""Of several submitters one computes a result, the others wait for it; a holder that is gone is succeeded by one."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import pytest

from sea_ray import leases
from sea_ray.artifacts import StageKey, Store
from sea_ray.errors import MachineError
from sea_ray.leases import lease, once

KEY = StageKey(kind="base", name="base", config={"steps": 3})


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(leases, "POLL_S", 0.02)


def commit(store, facts=None):
    with store.building(KEY) as folder:
        (folder / "weights").write_text("1")
        return store.commit(KEY, folder, facts or {}, {}, 0.1)


def test_a_lease_is_held_by_one_and_free_again_afterwards(store):
    with lease(store, KEY) as first, lease(store, KEY) as second:
        assert (first, second) == (True, False)
    with lease(store, KEY) as third:
        assert third
    other = StageKey(kind="base", name="base", config={"steps": 4})
    with lease(store, KEY) as one, lease(store, other) as two:
        assert one
        assert two


def test_an_error_ends_the_lease(store):
    with pytest.raises(ValueError, match="boom"), lease(store, KEY):
        raise ValueError("boom")
    with lease(store, KEY) as again:
        assert again


def contend(url, barrier, results):
    store = Store(url)
    barrier.wait()
    with lease(store, KEY) as mine:
        results.put(mine)
        time.sleep(0.5)


def test_of_many_processes_that_ask_at_once_one_gets_it(store):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(8), context.Queue()
    processes = [context.Process(target=contend, args=(store.url, barrier, results)) for _ in range(8)]
    for process in processes:
        process.start()
    got = [results.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(got) == [False] * 7 + [True]


def test_a_result_is_computed_once_however_many_ask(store, quick):
    calls, made = [], []

    def compute():
        calls.append(None)
        time.sleep(0.3)
        return commit(store)

    threads = [threading.Thread(target=lambda: made.append(once(store, KEY, compute))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(calls) == 1
    assert len(made) == 4
    assert {artifact.fingerprint for artifact in made} == {KEY.fingerprint}


def test_what_fails_for_one_is_tried_by_the_next(store, quick):
    first = threading.Event()

    def failing():
        first.set()
        time.sleep(0.2)
        raise OSError("disk full")

    failed = []

    def run():
        try:
            once(store, KEY, failing)
        except OSError as error:
            failed.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    first.wait()
    assert once(store, KEY, lambda: commit(store)).fingerprint == KEY.fingerprint
    thread.join()
    assert failed == ["disk full"]


def test_a_killed_holder_on_this_machine_is_succeeded_at_once(store, quick):
    code = ("import sys, os, signal; from sea_ray.artifacts import StageKey, Store; from sea_ray.leases import lease\n"
            "with lease(Store(sys.argv[1]), StageKey(kind='base', name='base', config={'steps': 3})) as mine:\n"
            "    print(mine, flush=True); os.kill(os.getpid(), signal.SIGKILL)")
    done = subprocess.run([sys.executable, "-c", code, store.url], capture_output=True, text=True, env=os.environ)
    assert done.stdout == "True\n"
    with lease(store, KEY) as mine:
        assert mine


def elsewhere(store, seconds_ago):
    """Write the lease of a process of another machine."""
    owner = {"host": "another", "pid": 1, "since": time.time() - seconds_ago, "id": "x"}
    assert store.board.create(f"leases/base/{KEY.fingerprint}/000000.lease", json.dumps(owner).encode())


def test_a_holder_elsewhere_counts_as_gone_when_its_heartbeat_is_silent(store):
    elsewhere(store, leases.TTL_S + 5)
    board, beat = store.board, f"leases/base/{KEY.fingerprint}/000000.beat"
    board.replace(beat, str(time.time()).encode())
    with lease(store, KEY) as mine:
        assert not mine
    board.replace(beat, str(time.time() - leases.TTL_S - 1).encode())
    with lease(store, KEY) as mine, lease(store, KEY) as another:
        assert (mine, another) == (True, False)


def test_the_heartbeat_goes_on_while_the_lease_is_held(store, monkeypatch):
    monkeypatch.setattr(leases, "TTL_S", 0.2)
    with lease(store, KEY) as mine:
        assert mine
        time.sleep(0.5)
        assert time.time() - float(store.board.read(f"leases/base/{KEY.fingerprint}/000000.beat")) < 0.2


def test_a_store_that_cannot_keep_two_apart_refuses_the_second_submitter(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(leases, "MAX_UNSURE_S", 0.1)
    store = Store(f"memory://leases-{tmp_path.name}", cache=tmp_path / "cache")
    assert not store.board.is_exclusive
    elsewhere(store, 0)
    with pytest.raises(MachineError, match=r"cannot keep two of them apart: .* s3://"):
        once(store, KEY, lambda: commit(store))
