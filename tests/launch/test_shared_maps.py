"""Ranks share out the shards of a map: threads stand for them here, `test_ray_platform.py` has real ones."""

import pickle
import threading

import fake_stages
import pytest

from sea_ray.artifacts import Store
from sea_ray.errors import DataError
from sea_ray.execution import run_stage
from sea_ray.tracking import NullTracker
from sea_ray.training.engine import PreemptedError, SoloWorker, together


class Rank(SoloWorker):
    """A rank that is a thread; values meet at a barrier that breaks when a rank stays away."""

    def __init__(self, rank, world_size, shared):
        super().__init__("cpu")
        self.rank, self.world_size = rank, world_size
        self._barrier, self._values = shared

    def gather(self, value):
        self._values[self.rank] = pickle.dumps(value)
        self._barrier.wait()
        values = [pickle.loads(self._values[rank]) for rank in range(self.world_size)]
        self._barrier.wait()
        return values


def ranks(world_size, call, kind=Rank):
    """Call a function on every rank at once and return what each returned or raised."""
    shared, ended = (threading.Barrier(world_size, timeout=20), {}), {}

    def run(rank):
        try:
            ended[rank] = call(kind(rank, world_size, shared))
        except Exception as error:
            ended[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return [ended[rank] for rank in range(world_size)]


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


def computed(store):
    return sorted(entry["shard"] for entry in fake_stages.diary(store))


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_any_number_of_ranks_computes_each_shard_once_and_the_same_whole(store, world_size):
    stage = fake_stages.map_stage(store, 5, "group", number=100)
    made = ranks(world_size, lambda worker: run_stage(stage, store, worker, NullTracker()))
    assert made == [store.find(stage.key)] * world_size
    assert made[0].facts == {"total": 5050}
    assert computed(store) == [0, 1, 2, 3, 4]
    assert not any(store.find(shard.key) for shard in stage.shards())
    assert [run_stage(stage, store, SoloWorker("cpu"), NullTracker())] * world_size == made
    assert computed(store) == [0, 1, 2, 3, 4]


def test_what_one_rank_refuses_all_raise_and_no_finished_shard_is_lost(store):
    stage = fake_stages.map_stage(store, 6, "group", number=100, refuses_once=1)
    errors = ranks(2, lambda worker: run_stage(stage, store, worker, NullTracker()))
    assert [(type(error), error.file, error.line) for error in errors] == [(DataError, "th.txt", 3)] * 2
    assert computed(store) == [0, 1, 2, 4]
    made = ranks(3, lambda worker: run_stage(stage, store, worker, NullTracker()))
    assert {artifact.facts["total"] for artifact in made} == {5050}
    assert computed(store) == [0, 1, 1, 2, 3, 4, 5]


def test_what_the_join_refuses_all_raise(store, monkeypatch):
    def add_shards(context):
        raise DataError("the shards do not add", "th.txt", 3)

    monkeypatch.setattr(fake_stages, "add_shards", add_shards)
    stage = fake_stages.map_stage(store, 2, "group", number=100)
    errors = ranks(2, lambda worker: run_stage(stage, store, worker, NullTracker()))
    assert [str(error) for error in errors] == ["th.txt:3: the shards do not add"] * 2


class Noticed(Rank):
    """Rank 1 hears after its first shard that its machine goes away."""

    @property
    def preempted(self):
        self.asked = getattr(self, "asked", 0) + 1
        return self.rank == 1 and self.asked > 1


def test_after_a_notice_no_shard_begins_and_every_rank_knows(store):
    stage = fake_stages.map_stage(store, 6, "group", number=100)
    errors = ranks(2, lambda worker: run_stage(stage, store, worker, NullTracker()), Noticed)
    assert [type(error) for error in errors] == [PreemptedError] * 2
    assert computed(store) == [0, 1, 2, 4]


def test_an_unforeseen_failure_is_raised_where_it_happens():
    def fail(worker):
        with together(worker):
            if worker.rank == 0:
                raise ValueError("unforeseen")

    shared = threading.Barrier(1), {}
    with pytest.raises(ValueError, match="unforeseen"):
        fail(Rank(0, 2, shared))
