"""One real Ray: a worker group that lives through many stages, tasks that survive lost workers, sweeps, figures."""

import contextlib
import dataclasses
import os
import threading
import time
from pathlib import Path

import fake_stages
import pytest
import ray

from sea_ray.artifacts import Store
from sea_ray.config import ClusterConfig
from sea_ray.errors import DataError, MachineError
from sea_ray.execution import Stage, run_stage
from sea_ray.launch.ray_platform import RayPlatform
from sea_ray.launch.tasks import _compute
from sea_ray.launch.trial_book import TrialBook
from sea_ray.objective import RungsConfig
from sea_ray.serving.config import ServingConfig
from sea_ray.tracking import About, Made, NullTracker
from sea_ray.training.config import ExecutionConfig
from sea_ray.training.engine import SoloWorker

pytestmark = pytest.mark.ray

CLUSTER = ClusterConfig(num_cpus=2, max_group_restarts=9, max_stage_retries=0,
                        training=ExecutionConfig(num_workers=2, engine="deepspeed", device="cpu"))


class Recorder:
    """A tracker that keeps what it gets, by run."""

    def __init__(self, events=None, run=""):
        self.events, self.run = events if events is not None else [], run

    def log(self, step=None, **figures):
        self.events.append((self.run, step, figures))

    def note(self, text):
        self.events.append((self.run, None, text))

    def made(self, result):
        self.events.append((self.run, None, result))

    def child(self, name, about=None):
        if about is not None:
            self.events.append((name, None, about))
        return Recorder(self.events, name)

    def finish(self, *, failed=False):
        self.events.append((self.run, None, {"failed": failed}))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def tracker():
    return Recorder()


@pytest.fixture(scope="module")
def platform(store, tracker):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # Ray's processes inherit it
        with RayPlatform.open(store, tracker, CLUSTER) as platform:
            # Ray's processes end with the thread that started them, so start it here and not in a thread of `within`.
            platform.run(fake_stages.stage("add", store, number=1))
            yield platform


def within(seconds, call, *arguments):
    """Return what a call returns or raise what it raises; a call that hangs fails its test and stops no other."""
    outcome = {}

    def run():
        try:
            outcome["value"] = call(*arguments)
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        pytest.fail(f"no answer within {seconds} s")
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def test_stages_run_one_after_the_other_in_one_group_of_two_ranks(platform, store):
    stages = [fake_stages.stage("add", store, number=number) for number in (10, 20, 30)]
    made = [within(90, platform.run, stage) for stage in stages]
    assert [artifact.facts["total"] for artifact in made] == [55, 210, 465]
    assert {artifact.facts["workers"] for artifact in made} == {2}
    assert len({artifact.facts["pid"] for artifact in made}) == 1
    assert made[0].record["execution"]["backend"] == "gloo"
    starts = [entry for entry in fake_stages.diary(store) if entry["what"] == "start" and entry["number"] >= 10]
    assert len({entry["pid"] for entry in starts}) == 2
    assert sorted((entry["number"], entry["rank"]) for entry in starts) == [
        (number, rank) for number in (10, 20, 30) for rank in (0, 1)]


def test_a_warm_group_takes_a_stage_in_no_time(platform, store):
    start = time.perf_counter()
    within(30, platform.run, fake_stages.stage("add", store, number=31))
    assert time.perf_counter() - start < 3


def test_a_finished_stage_is_reused(platform, store):
    stage = fake_stages.stage("add", store, number=40)
    before = within(30, platform.run, stage)
    entries = len(fake_stages.diary(store))
    assert within(30, platform.run, stage) == before
    assert len(fake_stages.diary(store)) == entries


def test_two_submitters_of_one_stage_share_one_run(platform, store):
    stage = fake_stages.stage("add", store, number=50, seconds=1.0)
    found = []
    threads = [threading.Thread(target=lambda: found.append(platform.run(stage)), daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 2
    assert found[0] == found[1]
    runs = [entry for entry in fake_stages.diary(store) if entry["what"] == "start" and entry["number"] == 50]
    assert sorted(entry["rank"] for entry in runs) == [0, 1]


def test_what_a_stage_refuses_reaches_the_driver_with_its_type_and_leaves_the_group_alive(platform, store):
    before = within(30, platform.run, fake_stages.stage("add", store, number=60))
    with pytest.raises(DataError, match=r"th\.txt:3: the text is empty") as caught:
        within(30, platform.run, fake_stages.stage("refuse", store))
    assert (caught.value.file, caught.value.line) == ("th.txt", 3)
    after = within(30, platform.run, fake_stages.stage("add", store, number=61))
    assert after.facts["pid"] == before.facts["pid"]


def test_what_a_task_refuses_reaches_the_driver_with_its_type(platform, store):
    with pytest.raises(DataError, match=r"th\.txt:3: the text is empty"):
        within(60, platform.run, fake_stages.stage("refuse", store, place="task"))
    refusing = fake_stages.map_stage(store, 2, number=10, refuses=1)
    with pytest.raises(DataError, match=r"th\.txt:3"):
        within(60, platform.run, refusing)
    assert store.find(refusing.key) is None


def test_a_stage_without_a_group_runs_in_one_task(platform, store):
    artifact = within(60, platform.run, fake_stages.stage("add", store, place="task", number=11))
    assert artifact.facts["total"] == 66
    assert artifact.facts["workers"] == 1


def test_shards_whose_worker_is_killed_are_computed_again_and_the_sum_is_right(platform, store):
    artifact = within(90, platform.run, fake_stages.map_stage(store, 4, number=100, dies=2))
    assert (store.root / "died").exists()
    assert artifact.facts["total"] == 5050
    assert artifact.record["execution"]["num_shards"] == 4
    shards = [entry["shard"] for entry in fake_stages.diary(store) if entry["what"] == "shard"]
    assert shards.count(2) >= 2
    assert set(shards) >= {0, 1, 2, 3}


def test_a_map_that_broke_off_computes_only_the_shards_that_are_missing(platform, store):
    stage = fake_stages.map_stage(store, 4, number=200, refuses_once=3)
    before = len(fake_stages.diary(store))
    with pytest.raises(DataError):
        within(60, platform.run, stage)
    time.sleep(1)  # shards under way finish
    finished = [shard.shard for shard in stage.shards() if store.find(shard.key)]
    assert finished
    assert within(60, platform.run, stage).facts["total"] == 20100
    computed = [entry["shard"] for entry in fake_stages.diary(store)[before:] if entry["what"] == "shard"]
    assert computed.count(3) == 2
    assert all(computed.count(shard) == 1 for shard in finished)
    assert not any(store.find(shard.key) for shard in stage.shards()), "the whole is kept, its shards are not"


def shards_of(store, number):
    return [entry for entry in fake_stages.diary(store) if entry["what"] == "shard" and entry["number"] == number]


def test_a_map_in_the_group_is_shared_out_over_its_ranks_and_makes_what_tasks_make(platform, store, tracker):
    before = within(90, platform.run, fake_stages.stage("add", store, number=401)).facts["pid"]
    stage = fake_stages.map_stage(store, 4, "group", number=400)
    made = within(60, platform.run, stage)
    assert made.fingerprint == dataclasses.replace(stage, place="task").key.fingerprint
    by_tasks = within(60, platform.run, fake_stages.map_stage(store, 4, number=400, arm="tasks"))
    assert made.facts == by_tasks.facts == {"total": 80200}
    assert {file.name for file in made.folder.iterdir()} == {file.name for file in by_tasks.folder.iterdir()}
    assert made.record["execution"] | {"workers": 2, "num_shards": 4} == made.record["execution"]
    pids = {entry["shard"]: entry["pid"] for entry in shards_of(store, 400)[:4]}
    assert before == pids[0] == pids[2] != pids[1] == pids[3]
    assert {step for run, step, _ in tracker.events if run == "shards" and step is not None} >= {0, 1, 2, 3}


def test_what_one_rank_refuses_of_its_shards_reaches_the_driver_and_leaves_the_group_and_the_other_shards(platform, store):
    before = within(90, platform.run, fake_stages.stage("add", store, number=411))
    stage = fake_stages.map_stage(store, 4, "group", number=410, refuses_once=1)
    store.root.joinpath("refused").unlink(missing_ok=True)
    with pytest.raises(DataError, match=r"th\.txt:3"):
        within(60, platform.run, stage)
    assert [shard.shard for shard in stage.shards() if store.find(shard.key)] == [0, 2]
    assert within(60, platform.run, stage).facts["total"] == 84255
    assert sorted(entry["shard"] for entry in shards_of(store, 410)) == [0, 1, 1, 2, 3]
    assert within(30, platform.run, fake_stages.stage("add", store, number=412)).facts["pid"] == before.facts["pid"]


def test_a_map_whose_group_was_lost_computes_only_the_shards_that_are_missing(platform, store):
    store.root.joinpath("died").unlink(missing_ok=True)
    stage = fake_stages.map_stage(store, 4, "group", number=420, dies=3)
    with pytest.raises(MachineError):
        within(90, platform.run, stage)
    finished = [shard.shard for shard in stage.shards() if store.find(shard.key)]
    assert 1 in finished
    before = len(shards_of(store, 420))
    assert within(90, platform.run, stage).facts["total"] == 88410
    assert sorted([*finished, *(entry["shard"] for entry in shards_of(store, 420)[before:])]) == [0, 1, 2, 3]


def test_a_map_that_another_run_finished_is_not_joined_again(platform, store):
    stage = fake_stages.map_stage(store, 2, number=300)
    made = within(60, platform.run, stage)
    before = [entry for entry in fake_stages.diary(store) if entry["number"] == 300]  # not what earlier tests left running
    assert run_stage(stage, store, SoloWorker(), NullTracker()) == made
    within(60, ray.get, ray.remote(_compute).remote(stage, store.url, platform._queue_name, 1))
    assert before
    assert [entry for entry in fake_stages.diary(store) if entry["number"] == 300] == before


def test_the_number_of_shards_is_not_part_of_what_the_result_is(platform, store):
    made = within(30, platform.run, fake_stages.map_stage(store, 4, number=100, dies=2))
    again = within(30, platform.run, fake_stages.map_stage(store, 1, number=100, dies=2))
    assert made.fingerprint == again.fingerprint


def test_figures_arrive_at_the_tracker_under_the_name_of_their_stage(platform, store, tracker):
    stage = fake_stages.stage("add", store, number=70)
    within(30, platform.run, stage)
    mine = [event[1:] for event in tracker.events if event[0] == stage.name]
    assert (1, {"num_steps": 1, "loss": 2485.0}) in mine
    assert (None, "added up to 70") in mine
    assert mine[-1] == (None, {"failed": False})
    assert any(figures.get("total") == 2485 for _, figures in mine if isinstance(figures, dict))
    (about,) = (event for _, event in mine if isinstance(event, About))
    (result,) = (event for _, event in mine if isinstance(event, Made))
    assert about.key == result.fingerprint == stage.key.fingerprint
    assert any(figures.get("cost/seconds", 0) > 0 for _, figures in mine if isinstance(figures, dict))
    steps = [event for event in tracker.events if event[0] == "shards" and event[1] is not None]
    assert {step for _, step, _ in steps} >= {0, 1, 2, 3}


def test_a_function_that_is_not_there_is_an_error_and_not_a_hang(platform, store):
    missing = Stage(kind="fake", name="missing", function="fake_stages:nothing", config={}, place="task")
    with pytest.raises(Exception, match="nothing"):
        within(60, platform.run, missing)


def test_a_failing_trial_is_reported_and_does_not_sink_the_sweep(platform, store, tracker):
    trials = [({"number": number}, fake_stages.stage("refuse_one", store, number=number, bad=3)) for number in range(1, 5)]
    done = within(100, platform.sweep, "numbers", fake_stages.Listed(trials))
    assert [trial.point for trial in done] == [point for point, _ in trials]
    assert [trial.artifact.facts["total"] if trial.artifact else None for trial in done] == [1, 3, None, 10]
    assert not any(trial.reused for trial in done)
    assert [trial.outcome for trial in done] == ["finished", "finished", "failed", "finished"]
    ending = TrialBook(store).ending(trials[2][1].key)
    assert (ending.outcome, ending.reason, ending.looks) == ("failed", done[2].error, 0)
    assert "th.txt:3: the text is empty" in done[2].error
    failed = [event[1:] for event in tracker.events if event[0] == trials[2][1].name]
    assert (7, {"loss": 3.5}) in failed, "the last figures before the end"
    assert failed[-1] == (None, {"failed": True})
    first_ended = tracker.events.index((trials[0][1].name, None, {"failed": False}))
    assert first_ended < [event[0] for event in tracker.events].index(trials[3][1].name), "a trial ends with the sweep"

    start = time.perf_counter()
    again = within(60, platform.sweep, "numbers", fake_stages.Listed([trials[0], trials[1], trials[3]]))
    assert all(trial.reused for trial in again)
    assert time.perf_counter() - start < 2


class Broken(fake_stages.Listed):
    """A search that cannot record how a trial ended."""

    def tell(self, proposal, trial):
        super().tell(proposal, trial)
        raise OSError("no space left")


def test_an_end_that_cannot_be_recorded_ends_the_sweep_and_runs_nothing_again(platform, store):
    search = Broken([({"number": number}, fake_stages.stage("add", store, number=number)) for number in range(201, 207)])
    with pytest.raises(OSError, match="no space left"):
        within(60, platform.sweep, "numbers", search)
    assert len(search.told) == len(set(search.told)) < 6


RATES = (3e-3, 1e-7, 1e-6)
"""Of these only the first learns anything."""
STEPS = 32
"""They last several times as long as Tune takes to prune one."""


def learning(store, rate):
    return ({"rate": rate}, fake_stages.stage("learn", store, steps=STEPS, seconds=0.2, every=2, rate=rate))


def steps_of(store, rate):
    return [entry["step"] for entry in fake_stages.diary(store) if entry["what"] == "step" and entry.get("rate") == rate]


def test_a_trial_that_is_behind_is_pruned_and_whoever_runs_it_again_goes_on_from_there(platform, store, tracker, monkeypatch):
    one_by_one = dataclasses.replace(platform.config, max_concurrent_trials=1)  # the first at a rung passes it, whoever it is
    monkeypatch.setattr(platform, "config", one_by_one)
    trials = [learning(store, rate) for rate in RATES]
    search = fake_stages.Listed(trials, RungsConfig(first=1, reduction=2))
    done = within(200, platform.sweep, "rungs", search)
    assert [trial.outcome for trial in done] == ["finished", "pruned", "pruned"]
    assert search.told == list(enumerate(["finished", "pruned", "pruned"]))
    assert steps_of(store, RATES[0]) == list(range(STEPS))
    for rate, trial, (_, stage) in zip(RATES[1:], done[1:], trials[1:], strict=True):
        assert 2 <= len(steps_of(store, rate)) < STEPS
        assert trial.artifact is None
        assert "behind at look 1: held_out_mean 8." in trial.error
        ending = TrialBook(store).ending(stage.key)
        assert (ending.outcome, ending.sweep) == ("pruned", "listed")
        assert (stage.name, None, {"failed": False}) in tracker.events

    start = time.perf_counter()
    again = within(60, platform.sweep, "rungs", fake_stages.Listed(trials, RungsConfig(first=1, reduction=2)))
    assert [(trial.outcome, trial.reused) for trial in again] == [("finished", True), ("pruned", True), ("pruned", True)]
    assert time.perf_counter() - start < 2, "the same sweep starts nothing"

    whole = within(120, platform.sweep, "whole", fake_stages.Listed(trials[:2], identity="another"))
    assert [(trial.outcome, trial.reused) for trial in whole] == [("finished", True), ("finished", False)]
    assert whole[1].artifact.facts["resumed_step"] >= 2
    assert steps_of(store, RATES[1]) == list(range(STEPS)), "no step is trained twice"


def test_a_replica_on_an_accelerator_gets_those_of_the_groups_which_come_again(platform, store, monkeypatch):
    """No accelerator is here: what is shown is that the group is gone while a checkpoint is served, and trains again after."""
    alive = []

    @contextlib.contextmanager
    def deployed(*arguments):
        alive.append(platform._groups[0]._thread)
        yield "endpoint"

    monkeypatch.setattr("sea_ray.launch.serve.deployed", deployed)
    made = platform.run(fake_stages.stage("add", store, number=70))
    assert platform._groups[0]._thread is not None
    with platform.serving(made, ServingConfig(gpus_per_replica=1.0)):
        pass
    assert alive == [None]
    assert within(120, platform.run, fake_stages.stage("add", store, number=71)).facts["total"] == 2556


def test_an_unforeseen_failure_reaches_the_driver_and_the_next_stage_runs(platform, store):
    with pytest.raises(Exception, match="unforeseen"):
        within(60, platform.run, fake_stages.stage("stumble", store))
    assert within(90, platform.run, fake_stages.stage("add", store, number=80)).facts["total"] == 3240


def test_a_trial_that_loses_a_rank_is_a_failed_trial_and_the_others_finish(platform, store):
    trials = [({"number": number}, fake_stages.stage("die_once", store, number=number, bad=9)) for number in (8, 9, 10)]
    done = within(150, platform.sweep, "losses", fake_stages.Listed(trials))
    assert [trial.artifact is None for trial in done] == [False, True, False]
    assert done[1].error


def test_a_group_that_is_lost_whole_is_told_as_the_machines_fault_and_is_no_hang(platform, store):
    """Nobody is left in the group to say what happened."""
    with pytest.raises(MachineError):
        within(60, platform.run, fake_stages.stage("die_all", store))
    assert within(90, platform.run, fake_stages.stage("add", store, number=110)).facts["total"] == 6105


def test_a_lost_rank_is_told_as_the_machines_fault(platform, store):
    with pytest.raises(MachineError):
        within(60, platform.run, fake_stages.stage("die", store))
