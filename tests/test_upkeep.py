"""What a store holds: what a run's record needs stays, whatever its age; what nobody needs is found, with the reason."""

import json
import os
import time
from dataclasses import replace

import fsspec
import pytest
from dry_platform import DryPlatform

from sea_ray.artifacts import StageKey, Store, write_json
from sea_ray.errors import DataError
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.foresight import Foresight
from sea_ray.leases import lease
from sea_ray.pipeline import run_experiment
from sea_ray.upkeep import remove, survey

BASE = StageKey(kind="base", name="base", config={"steps": 3})
TUNED = StageKey(kind="sft", name="sft", config={}, parents={"start": BASE.fingerprint})
OTHER = StageKey(kind="base", name="base", config={"steps": 4})


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    if request.param == "local":
        yield Store(str(tmp_path / "store"))
        return
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    yield Store("memory://bucket/store", cache=tmp_path / "cache")
    memory.store.clear()


def commit(store, key, text="weights"):
    with store.building(key) as folder:
        (folder / "weights").write_text(text)
        return store.commit(key, folder, {}, {}, 0.1)


def finish(store, name, *keys):
    """Write the record of a finished run."""
    file = store.run_folder(name) / "run.json"
    write_json(file, {"name": name, "stages": [{"kind": key.kind, "fingerprint": key.fingerprint} for key in keys]})
    store.publish(file)


def put_state(store, key, name="step-1"):
    states = store.unfinished(key).part("whole")
    folder = states.temporary()
    (folder / "values").write_text("state")
    states.put(folder, name, {})


def grow_old(store, days, part=""):
    """Make every file of a part look as if it had not been touched for some days."""
    then = time.time() - days * 24 * 3600
    for file in (store.root / part).rglob("*"):
        os.utime(file, (then, then))
    if store.is_shared:
        for place, file in fsspec.filesystem("memory").store.items():
            if place.startswith(f"/bucket/store/{part}"):
                file.created = time_of(then)


def time_of(seconds):
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC)


def going(store, days=14.0):
    return {holding.place: holding.why for holding in survey(store, days) if holding.why}


def place(key, part="artifacts"):
    return f"{part}/{key.kind}/{key.fingerprint}"


def test_what_a_record_names_and_what_that_was_made_from_stays(store):
    for key in (BASE, TUNED, OTHER):
        commit(store, key)
    finish(store, "demo", TUNED)
    grow_old(store, 100)
    assert going(store) == {place(OTHER): "no run's record needs it"}
    remove(store, survey(store))
    assert store.find(BASE)
    assert store.find(TUNED)
    assert store.find(OTHER) is None
    assert going(store, 0) == {}


def test_every_holding_is_shown_with_its_bytes(store):
    commit(store, BASE, "x" * 5000)
    finish(store, "demo", BASE)
    put_state(store, OTHER)
    held = {holding.place: holding for holding in survey(store)}
    assert held[place(BASE)].num_bytes > 5000
    assert held[place(BASE)].kind == "base"
    assert held[place(OTHER, "unfinished")].num_bytes > 5
    assert held["demo"].part == "runs"
    assert held["demo"].num_bytes == len((store.run_folder("demo") / "run.json").read_bytes())


def test_young_results_of_an_interrupted_run_stay_with_what_they_were_made_from(store):
    commit(store, BASE)
    grow_old(store, 100)
    assert going(store) == {place(BASE): "no run's record needs it"}
    commit(store, TUNED)
    assert going(store) == {}
    assert going(store, 0).keys() == {place(BASE), place(TUNED)}


def test_a_result_without_a_record_goes_when_it_is_old(store):
    commit(store, BASE)
    if store.is_shared:
        fsspec.filesystem("memory").rm(f"/bucket/store/{place(BASE)}/record.json")
    else:
        (store.root / place(BASE) / "record.json").unlink()
    assert going(store) == {}
    grow_old(store, 15)
    assert going(store) == {place(BASE): "it has no record"}
    assert len(remove(store, survey(store))) == 1
    assert not survey(store)


def test_states_go_when_their_result_is_finished_or_nobody_goes_on(store):
    put_state(store, BASE)
    put_state(store, OTHER)
    assert going(store) == {}
    commit(store, BASE)
    finish(store, "demo", BASE)
    assert going(store) == {place(BASE, "unfinished"): "its result is finished"}
    grow_old(store, 20, "unfinished")
    assert going(store)[place(OTHER, "unfinished")] == "nobody has gone on with it for 20 days"
    remove(store, survey(store))
    assert store.unfinished(OTHER).part("whole").names() == []
    assert store.find(BASE)


def test_while_states_wait_to_go_on_no_result_goes(store):
    commit(store, BASE)
    grow_old(store, 100)
    put_state(store, TUNED)
    assert going(store) == {}


def test_what_a_live_lease_holds_is_left_alone_and_no_result_goes(store):
    commit(store, OTHER)
    put_state(store, BASE)
    with lease(store, BASE) as mine:
        assert mine
        grow_old(store, 100, "unfinished")
        grow_old(store, 100, "artifacts")
        assert going(store) == {}
    assert going(store).keys() == {place(BASE, "unfinished"), place(OTHER)}


def test_a_lease_goes_when_it_is_over_and_can_be_taken_again(store):
    with lease(store, BASE):
        pass
    assert going(store) == {}
    grow_old(store, 1, "leases")
    assert going(store) == {place(BASE, "leases"): "it is over"}
    remove(store, survey(store))
    assert not survey(store)
    with lease(store, BASE) as again:
        assert again


def test_a_lease_whose_holder_fell_silent_goes(store):
    silent = {"host": "elsewhere", "pid": 1, "since": time.time() - 7200, "id": "x"}
    store.board.create(f"{place(BASE, 'leases')}/000000.lease", json.dumps(silent).encode())
    grow_old(store, 1, "leases")
    assert going(store) == {place(BASE, "leases"): "it is over"}


def test_what_begins_between_the_look_and_the_removal_is_left_alone(store):
    commit(store, OTHER)
    grow_old(store, 100)
    seen = survey(store)
    assert [holding.why for holding in seen if holding.why]
    with lease(store, BASE):
        assert remove(store, seen) == []
    assert store.find(OTHER)


def test_only_what_was_chosen_is_removed(store):
    commit(store, BASE)
    commit(store, OTHER)
    grow_old(store, 100)
    chosen = [holding for holding in survey(store) if holding.fingerprint == OTHER.fingerprint]
    remove(store, chosen)
    assert store.find(BASE)
    assert store.find(OTHER) is None


def test_half_built_folders_go_an_hour_after_their_builder(store):
    folder = store._temporary("base-0123-")
    (folder / "weights").write_text("half")
    assert going(store) == {}
    grow_old(store, 1, "building")
    assert going(store) == {f"building/{folder.name}": "nobody builds it"}
    with lease(store, BASE):
        assert going(store) == {}
    remove(store, survey(store))
    assert not folder.exists()


def test_a_record_that_cannot_be_read_refuses_everything(store):
    commit(store, BASE)
    finish(store, "demo", BASE)
    grow_old(store, 100)
    file = store.run_folder("demo") / "run.json"
    file.write_text("{")
    store.publish(file)
    with pytest.raises(DataError, match="nobody knows what it needs"):
        survey(store)


def test_an_empty_store_holds_nothing(store):
    assert survey(store) == []


def test_after_cleaning_a_finished_experiment_is_reused_whole(store):
    config = compose_experiment(["experiment=demo"])
    platform = DryPlatform(store)
    run_experiment(config, platform)
    finish(store, "demo", *(stage.key for stage in platform.stages.values()))
    old = replace(platform.stages["base"], config={"other": 1})
    commit(store, old.key)
    grow_old(store, 100)
    assert going(store) == {place(old.key): "no run's record needs it"}
    assert len(remove(store, survey(store))) == 1
    foresight = Foresight(store)
    run_experiment(config, foresight)
    assert {state for _, state in foresight.stages} == {"finished"}
