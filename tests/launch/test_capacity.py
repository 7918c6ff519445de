"""A cluster that can never hold what is asked says so, by the name of the resource and of the setting."""

import os
import time
from dataclasses import replace

import fake_stages
import pytest
import ray

from sea_ray.artifacts import Store
from sea_ray.conf_folder import config_folder
from sea_ray.config import ClusterConfig
from sea_ray.errors import MachineError
from sea_ray.launch import capacity
from sea_ray.launch.ray_platform import RayPlatform, connect
from sea_ray.tracking import NullTracker
from sea_ray.training.config import ExecutionConfig

EXECUTION = ExecutionConfig(num_workers=2, engine="deepspeed", device="cpu")
CLUSTER = ClusterConfig(num_cpus=2, cpus_per_worker=1.0, cpus_per_task=1.0, training=EXECUTION)


def test_bundles_find_room_on_the_node_that_has_all_of_one_together():
    nodes = [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 4.0}]
    assert capacity.room_for([{"CPU": 3, "GPU": 1}] * 2, nodes) == 1
    assert capacity.room_for([{"CPU": 1, "GPU": 1}] * 2, nodes) == 2
    assert capacity.room_for([{"CPU": 0.1}] * 50, nodes) == 50
    assert capacity.room_for([{"CPU": 1}], []) == 0


@pytest.mark.parametrize(("changes", "execution", "nodes", "says"), [
    ({"cpus_per_worker": 3.0}, {}, [{"CPU": 2.0}], ["3 CPU on one node", "most on a node is 2 CPU", "missing: CPU",
                                                    "cpus_per_worker"]),
    ({}, {"device": "cuda"}, [{"CPU": 8.0}], ["1 CPU and 1 GPU", "0 GPU", "missing: GPU", "cluster.training.device"]),
    ({"cpus_per_worker": 4.0}, {"device": "cuda"}, [{"CPU": 8.0}, {"CPU": 2.0, "GPU": 1.0}], ["no node has all of it together"]),
    ({"cpus_per_task": 5.0}, {}, [{"CPU": 4.0}], ["a task of corpus", "5 CPU", "cluster.cpus_per_task"]),
    ({}, {"num_workers": 4}, [{"CPU": 2.0}] * 2, ["a group of 4 workers and a task", "5 CPU", "its nodes have 4 CPU",
                                                  "room for 4 of 5", "missing: CPU", "min_workers"]),
    ({}, {}, [], ["the most on a node is 0 CPU"]),
])
def test_what_is_missing_is_named_with_what_is_asked_what_there_is_and_the_setting(changes, execution, nodes, says):
    config = replace(CLUSTER, training=replace(EXECUTION, **execution), **changes)
    text, autoscaled = (capacity.shortage(config, config.training.num_workers, True, nodes, autoscaled=there)
                        for there in (False, True))
    assert all(part in text for part in says), text
    assert "autoscaler says" not in text
    assert "autoscaler says" in autoscaled


@pytest.mark.ray
def test_a_small_ray_refuses_within_seconds_what_it_can_never_hold(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("SEA_RAY_CONF", raising=False)
    with connect(CLUSTER):
        # What Ray starts works in other folders and must know the same configuration; this process decides for itself.
        assert ray.get(ray.remote(os.getenv).remote("SEA_RAY_CONF")) == str(config_folder())
        assert "SEA_RAY_CONF" not in os.environ
        assert capacity.autoscaler_version() == 0
        capacity.check_capacity(CLUSTER, trains=True)
        capacity.check_capacity(replace(CLUSTER, cpus_per_worker=0.5), trains=True, tasks=True)
        capacity.check_capacity(replace(CLUSTER, training=replace(EXECUTION, num_workers=9, min_workers=2)), trains=True)
        capacity.check_capacity(replace(CLUSTER, cpus_per_worker=9.0), trains=False, tasks=True)
        start = time.monotonic()
        for config, tasks, says in ((CLUSTER, True, "and a task beside it"),
                                    (replace(CLUSTER, cpus_per_worker=3.0), False, "missing: CPU"),
                                    (replace(CLUSTER, training=replace(EXECUTION, device="cuda")), False, "missing: GPU")):
            with pytest.raises(MachineError, match=says):
                capacity.check_capacity(config, trains=True, tasks=tasks)
        assert time.monotonic() - start < 3 * (capacity.JOINING_S + 3)


@pytest.mark.ray
def test_a_run_whose_group_finds_no_room_ends_with_the_reason_instead_of_waiting(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    store = Store(str(tmp_path))
    config = replace(CLUSTER, training=replace(EXECUTION, num_workers=3))
    with (RayPlatform.open(store, NullTracker(), config) as platform,
          pytest.raises(MachineError, match=r"a group of 3 workers: together 3 CPU are asked, its nodes have 2 CPU")):
        platform.run(fake_stages.stage("add", store, number=1))
