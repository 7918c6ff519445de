"""Whether a cluster can ever hold what will be asked of it, so that a run refuses at once instead of waiting for ever.

What the present nodes have in all decides; what is busy now comes free. If that does not suffice and Ray's autoscaler is there,
it is asked: a placement group of the size in question is queued, the autoscaler says whether its node types could hold it, and
the group is taken back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from sea_ray.config import ClusterConfig
from sea_ray.errors import MachineError

Resources = Mapping[str, float]
"""Ray's names of resources, such as CPU and GPU -> how much."""
JOINING_S = 8.0
"""So long nodes may take to join before a cluster that stays as it is counts as too small."""
ANSWER_S = 60.0
"""Longest wait for the autoscaler's answer; it looks every few seconds. Without one the run goes on, and waits as Ray does."""


def worker_needs(config: ClusterConfig) -> Resources:
    """Return what one training worker asks of its node."""
    return _positive({"CPU": config.cpus_per_worker, "GPU": float(config.training.device == "cuda")})


def task_needs(config: ClusterConfig) -> Resources:
    """Return what one task asks of its node."""
    return _positive({"CPU": config.cpus_per_task})


def _positive(needs: Resources) -> Resources:
    return {name: amount for name, amount in needs.items() if amount > 0}


def check_capacity(config: ClusterConfig, *, trains: bool, tasks: bool = False) -> None:
    """Refuse a cluster that can never hold a worker group, a task, or both at the same time.

    Args:
        config: what workers and tasks ask for.
        trains: whether there will be a worker group.
        tasks: whether tasks run beside it.

    Raises:
        MachineError: names the resource, what is asked, what there is and the settings.
    """
    num_workers = (config.training.min_workers or config.training.num_workers) if trains else 0
    bundles = [worker_needs(config)] * num_workers + [task_needs(config)] * tasks
    if not any(bundles) or room_for(bundles, nodes := _alive()) == len(bundles):
        return
    autoscaler = autoscaler_version()
    if autoscaler == 1 or (autoscaler == 2 and not _infeasible(bundles)):
        return
    deadline = time.monotonic() + JOINING_S
    while autoscaler == 0 and time.monotonic() < deadline:
        time.sleep(1)
        if room_for(bundles, nodes := _alive()) == len(bundles):
            return
    raise MachineError(shortage(config, num_workers, tasks, nodes, autoscaled=autoscaler == 2))


def _alive() -> list[Resources]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def room_for(bundles: Sequence[Resources], nodes: Sequence[Resources]) -> int:
    """Return how many of the bundles, in order, find room on nodes where nothing else runs."""
    free = [dict(node) for node in nodes]
    for number, bundle in enumerate(bundles):
        chosen = next((node for node in free if _holds(node, bundle)), None)
        if chosen is None:
            return number
        for name, amount in bundle.items():
            chosen[name] -= amount
    return len(bundles)


def _holds(node: Resources, needs: Resources) -> bool:
    return all(node.get(name, 0) >= amount - 1e-6 for name, amount in needs.items())


def shortage(config: ClusterConfig, num_workers: int, tasks: bool, nodes: Sequence[Resources], *, autoscaled: bool) -> str:
    """Say what is missing, and what to change.

    Args:
        config: what a worker and a task ask for.
        num_workers: of the group that finds no room; 0 if none is asked for.
        tasks: whether a task is asked for beside it.
        nodes: what each node has in all.
        autoscaled: whether an autoscaler has said that its node types can't help.
    """
    help_ = "; its autoscaler says that no nodes which it may start would hold that" if autoscaled else ""
    worker, task = worker_needs(config), task_needs(config)
    worker_settings = "cluster.cpus_per_worker" + ", cluster.training.device" * ("GPU" in worker)
    for who, needs, asked, settings in (
            ("a training worker", worker, num_workers, worker_settings),
            ("a task of corpus, detection or evaluation", task, tasks, "cluster.cpus_per_task")):
        if asked and not any(_holds(node, needs) for node in nodes):
            most = {name: max((node.get(name, 0) for node in nodes), default=0) for name in needs}
            missing = [name for name in needs if most[name] < needs[name]]
            where = f"missing: {', '.join(missing)}" if missing else "no node has all of it together"
            return (f"this cluster can never hold {who}: it asks for {_told(needs)} on one node, and the most on a node is "
                    f"{_told(most)} ({where}){help_}; lower {settings}, or join a cluster with larger nodes")
    bundles = [worker] * num_workers + [task] * tasks
    fit = room_for(bundles, nodes)
    together = {name: sum(bundle.get(name, 0) for bundle in bundles) for name in worker}
    there = {name: sum(node.get(name, 0) for node in nodes) for name in worker}
    missing = [name for name in together if there[name] < together[name]] or list(together)
    return (f"this cluster can never hold a group of {num_workers} workers{' and a task beside it' * tasks}: together "
            f"{_told(together)} are asked, its nodes have {_told(there)} ({len(nodes)} in all, room for {fit} of {len(bundles)}; "
            f"missing: {', '.join(missing)}){help_}; lower cluster.training.num_workers, "
            "cluster.cpus_per_worker or cluster.cpus_per_task, set cluster.training.min_workers, or add nodes")


def _told(resources: Resources) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in resources.items()) or "nothing"


def autoscaler_version() -> int:
    """Return 1 or 2 for a cluster that gets nodes by itself, 0 for one that stays as it is."""
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray.autoscaler.v2.utils import is_autoscaler_v2
    from ray.experimental.internal_kv import _internal_kv_get

    if is_autoscaler_v2(fetch_from_server=True, gcs_client=_gcs()):
        return 2
    status = json.loads(_internal_kv_get(DEBUG_AUTOSCALING_STATUS) or "{}")
    types = status.get("autoscaler_report", {}).get("node_type_mapping") or {}
    # Version 1 runs everywhere and looks on; where it starts no nodes, each node is a type of its own.
    return int(any(not name.startswith("node_") for name in types.values()))


def _gcs() -> Any:
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # a compiled module

    return GcsClient(ray.get_runtime_context().gcs_address)


def _infeasible(bundles: Sequence[Resources]) -> bool:
    """Ask autoscaler 2 whether bundles could ever be placed."""
    from ray.autoscaler.v2.sdk import get_cluster_resource_state
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply
    from ray.util import placement_group, remove_placement_group

    client, group = _gcs(), placement_group([dict(bundle) for bundle in bundles])
    try:
        if group.wait(timeout_seconds=1):
            return False
        asked = get_cluster_resource_state(client).cluster_resource_state_version
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            reply = GetClusterStatusReply.FromString(client.get_cluster_status(timeout_s=10))
            if reply.autoscaling_state.last_seen_cluster_resource_state_version > asked:
                return any(_same(gang, bundles) for gang in reply.autoscaling_state.infeasible_gang_resource_requests)
            time.sleep(0.5)
        return False
    finally:
        remove_placement_group(group)


def _same(gang: Any, bundles: Sequence[Resources]) -> bool:
    """Return whether a gang request of the autoscaler's report is made of these bundles."""
    requests = gang.bundle_selectors[0].resource_requests if gang.bundle_selectors else gang.requests
    told = sorted(sorted(dict(request.resources_bundle).items()) for request in requests)
    return told == sorted(sorted(bundle.items()) for bundle in bundles)
