"""What the queue gives to a new group when the one before it did not say how its stage ended."""

import asyncio
import dataclasses
import json
import pickle
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from sea_ray.artifacts import Store
from sea_ray.cluster import ClusterConfig
from sea_ray.errors import MachineError
from sea_ray.execution import Stage
from sea_ray.launch.ray_platform import RayPlatform
from sea_ray.launch.run_queue import QueueTracker, RunQueue
from sea_ray.tracking import JsonlTracker

STAGE = Stage(kind="fake", name="fake/one", function="nothing:there", config={}, place="group")
NAME = STAGE.key.fingerprint


@pytest.fixture
def queue():
    return RunQueue(num_groups=1, max_losses=2)


def played(queue, *script):
    """Submit the stage, let groups of these sizes ask for work one after the other, and return what all of them got."""
    async def play():
        outcome = asyncio.ensure_future(queue.submit(STAGE))
        await asyncio.sleep(0)
        given = []
        for what in script:
            if isinstance(what, int):
                given.append(await queue.next(0, what))
            elif what == "notice":
                await queue.preempted(NAME)
            else:
                await queue.finished(NAME, None)
            if outcome.done():
                break
        return given, await asyncio.wait_for(outcome, 1)

    return asyncio.run(play())


def test_a_stage_whose_group_was_lost_is_given_to_the_next_one_and_that_is_told(queue):
    given, outcome = played(queue, 2, 2, "finished")
    assert given == [STAGE, STAGE]
    assert outcome is None
    (event,) = asyncio.run(queue.drain())
    assert event[:3] == ("fake/one", "", None)
    assert "a new group of 2 workers goes on" in event[3]


def test_more_losses_than_allowed_are_told_to_the_submitter(queue, monkeypatch):
    monkeypatch.setattr("sea_ray.launch.run_queue.IDLE_S", 0.01)
    given, outcome = played(queue, 2, 2, 2, 2)
    assert given == [STAGE, STAGE, STAGE, "idle"]
    error = pickle.loads(outcome)
    assert isinstance(error, MachineError)
    assert "fake/one: a process of the worker group died while it ran, 3 times" in str(error)


def test_moves_after_a_notice_and_growing_are_no_losses(queue):
    script = [2, *["notice", 2] * 5, 1, 2, 3, "finished"]  # from 2 to 1 a process was lost
    given, outcome = played(queue, *script)
    assert given == [STAGE] * 9
    assert outcome is None


def test_groups_share_the_work_and_one_that_ends_takes_only_its_own_stage_with_it():
    queue = RunQueue(num_groups=2, max_losses=0)
    stages = [dataclasses.replace(STAGE, config={"number": number}) for number in range(3)]

    async def play():
        outcomes = [asyncio.ensure_future(queue.submit(stage)) for stage in stages]
        await asyncio.sleep(0)
        assert [await queue.next(1, 2), await queue.next(0, 2)] == stages[:2]
        await queue.leave(1, "the worker group ended: too often")
        assert "too often" in str(pickle.loads(await outcomes[0]))
        await queue.finished(stages[1].key.fingerprint, None)
        assert await outcomes[1] is None
        assert await queue.next(0, 2) == stages[2]
        await queue.leave(0, "the worker group ended: so did this one")
        assert "so did this" in str(pickle.loads(await outcomes[2]))
        assert "so did this" in str(pickle.loads(await queue.submit(STAGE)))

    asyncio.run(play())


def test_all_groups_are_sent_home():
    queue = RunQueue(num_groups=2, max_losses=0)

    async def play():
        waiting = [asyncio.ensure_future(queue.next(number, 2)) for number in (0, 1)]
        await asyncio.sleep(0)
        await queue.close("the run is stopping")
        assert await asyncio.wait_for(asyncio.gather(*waiting), 2) == ["stop", "stop"]

    asyncio.run(play())


def test_a_stage_that_is_to_end_and_has_not_begun_never_begins(queue):
    async def play():
        outcome = asyncio.ensure_future(queue.submit(STAGE))
        await asyncio.sleep(0)
        await queue.end(NAME, b"pruned")
        assert await queue.ending(NAME) == b"pruned"
        assert await queue.next(0, 2) == "idle"
        return await asyncio.wait_for(outcome, 1)

    assert asyncio.run(play()) == b"pruned"


def test_what_another_rank_says_later_does_not_end_a_stage_that_is_tried_again(queue):
    async def play():
        outcome = asyncio.ensure_future(queue.submit(STAGE))
        await asyncio.sleep(0)
        assert await queue.next(0, 2) == STAGE
        await queue.finished(NAME, b"refused")  # one rank
        assert await asyncio.wait_for(outcome, 1) == b"refused"
        again = asyncio.ensure_future(queue.submit(STAGE))
        await asyncio.sleep(0)
        await queue.finished(NAME, b"refused")  # the other
        assert await queue.next(0, 2) == STAGE
        await queue.finished(NAME, None)
        return await asyncio.wait_for(again, 1)

    assert asyncio.run(play()) is None


def test_an_ended_stage_may_be_submitted_again(queue):
    async def play():
        await queue.end(NAME, b"pruned")
        outcome = asyncio.ensure_future(queue.submit(STAGE))
        await asyncio.sleep(0)
        assert await queue.ending(NAME) is None
        assert await queue.next(0, 2) == STAGE
        await queue.finished(NAME, None)
        return await asyncio.wait_for(outcome, 1)

    assert asyncio.run(play()) is None


def test_after_a_halt_nothing_begins_and_whoever_waits_is_told(queue):
    other = dataclasses.replace(STAGE, config={"n": 2})

    async def play():
        running = asyncio.ensure_future(queue.submit(STAGE))
        await asyncio.sleep(0)
        assert await queue.next(0, 2) == STAGE
        waiting = asyncio.ensure_future(queue.submit(other))
        await asyncio.sleep(0)
        await queue.halt(b"budget")
        assert await queue.ending(NAME) == b"budget"
        await queue.finished(NAME, b"budget")
        assert await queue.next(0, 2) == "idle"
        assert await queue.submit(dataclasses.replace(STAGE, config={"n": 3})) == b"budget"
        return await asyncio.wait_for(running, 1), await asyncio.wait_for(waiting, 1)

    assert asyncio.run(play()) == (b"budget", b"budget")


def test_a_group_that_was_started_anew_while_it_waited_gets_what_its_former_call_would_have_got(queue):
    async def play():
        former = asyncio.ensure_future(queue.next(0, 2))
        await asyncio.sleep(0)
        present = asyncio.ensure_future(queue.next(0, 2))
        await asyncio.sleep(0)
        outcome = asyncio.ensure_future(queue.submit(STAGE))
        given = await asyncio.wait_for(former, 1), await asyncio.wait_for(present, 1)
        await queue.finished(NAME, None)
        return given, await asyncio.wait_for(outcome, 1)

    assert asyncio.run(play()) == (("idle", STAGE), None)


def test_what_trains_when_the_queue_closes_is_told_to_save_and_end(queue):
    async def play():
        submitted = asyncio.ensure_future(queue.submit(STAGE))
        await asyncio.sleep(0)
        assert await queue.next(0, 2) == STAGE
        await queue.close("the run is stopping")
        return await asyncio.wait_for(submitted, 1), await queue.ending(NAME)

    for error in asyncio.run(play()):
        assert str(pickle.loads(error)) == "the run is stopping"


def test_looks_at_held_out_text_reach_whoever_follows_the_stage(queue):
    async def play():
        outcome = asyncio.ensure_future(queue.submit(STAGE))
        await asyncio.sleep(0)
        assert await queue.next(0, 2) == STAGE
        following = asyncio.ensure_future(queue.follow(NAME, 0))
        await queue.log(("fake/one", "th", 9, {"loss": 1.0}))
        await queue.log(("fake/other", "th", 9, {"held_out_mean": 1.0}))
        await asyncio.sleep(0)
        assert not following.done()
        await queue.log(("fake/one", "th", 9, {"held_out_mean": 2.0}))
        assert await asyncio.wait_for(following, 1) == [("th", 9, {"held_out_mean": 2.0})]
        ended = asyncio.ensure_future(queue.follow(NAME, 1))
        await asyncio.sleep(0)
        await queue.finished(NAME, None)
        assert await asyncio.wait_for(ended, 1) is None
        return await outcome

    assert asyncio.run(play()) is None


def test_groups_that_rest_are_sent_home_and_what_waits_is_given_to_them_when_they_are_back(queue, monkeypatch):
    monkeypatch.setattr("sea_ray.launch.run_queue.IDLE_S", 0.01)

    async def play():
        assert await queue.next(0, 2) == "idle"
        await queue.rest(True)
        assert await queue.next(0, 2) == "stop"
        await queue.leave(0, "the worker group has stopped")
        outcome = asyncio.ensure_future(queue.submit(STAGE))
        await queue.rest(False)
        assert await queue.next(0, 2) == STAGE
        await queue.finished(NAME, None)
        return await asyncio.wait_for(outcome, 1)

    assert asyncio.run(play()) is None


def test_figures_prose_and_tables_of_a_worker_reach_the_tracker_of_its_run(queue, tmp_path, monkeypatch):
    class Remote:
        """The actor's handle as a worker and the driver hold it, without Ray."""

        def __init__(self, method):
            self.remote = lambda *arguments: asyncio.run(method(*arguments))

    handle = SimpleNamespace(log=Remote(queue.log), drain=Remote(queue.drain))
    worker = QueueTracker(handle, "evaluation/winner")
    worker.child("th").log(3, loss=0.5)
    worker.note("slow")
    worker.table("all", ["language", "value"], [("th", 0.5)])
    platform = RayPlatform(Store(str(tmp_path / "store")), JsonlTracker(tmp_path / "events.jsonl"), ClusterConfig(), ExitStack())
    platform._queue = handle
    monkeypatch.setattr("ray.get", lambda events: events)
    platform._drain_once()
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [{key: value for key, value in event.items() if key != "time"} for event in events] == [
        {"run": "evaluation/winner/th", "step": 3, "loss": 0.5}, {"run": "evaluation/winner", "note": "slow"},
        {"run": "evaluation/winner", "table": "all", "columns": ["language", "value"], "rows": [["th", 0.5]]}]
