"""Manifests for KubeRay, made from cluster.yaml: `python -m deploy.kuberay` writes deploy/kuberay/*.yaml.

The same node types, limits and idle time, as groups of pods. Where pods run, Kubernetes decides: the nodes of spot and on-demand
pools are told apart by a label, which differs between clouds; this is EKS's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sea_ray.launch.offers import Offer, Rota
from sea_ray.launch.proxy import CALLBACK
from sea_ray.launch.serve import declaration
from sea_ray.serving.config import ServingConfig

HERE = Path(__file__).parent
CLUSTER = yaml.safe_load((HERE.parent / "cluster.yaml").read_text(encoding="utf-8"))
IMAGE = "REGISTRY/sea-ray:0.1.0"
"""Built from deploy/Dockerfile; put in your registry."""
STORE = "s3://BUCKET/PATH"
RUN = "demo"
"""Whose winner is served."""
MEMORY = {"head": "12Gi", "worker": "14Gi"}
"""Of the machines of cluster.yaml (16 GiB), without what Kubernetes keeps."""
CAPACITY = "eks.amazonaws.com/capacityType"
HEADER = "# Made by `python -m deploy.kuberay` from cluster.yaml; a test compares. docs/cluster.md says how to use it.\n"


def ray_version() -> str:
    """Return the version of Ray in the lock file, which the image has."""
    lock = (HERE.parent / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return next(line.removeprefix("ray==") for line in lock if line.startswith("ray=="))


def pod(role: str, resources: dict[str, str], env: list[dict[str, Any]], **spec: Any) -> dict[str, Any]:
    """Return the template of a pod with one Ray container; what it asks for and what it may take are the same."""
    container = {"name": f"ray-{role}", "image": IMAGE, "env": env, "resources": {"limits": resources, "requests": resources}}
    if role == "head":
        container["ports"] = [{"containerPort": 6379, "name": "gcs-server"}, {"containerPort": 8265, "name": "dashboard"}]
    return {"spec": {"serviceAccountName": f"sea-ray-{role}", "containers": [container], **spec}}


def cluster(*env: dict[str, Any]) -> dict[str, Any]:
    """Return the specification of a RayCluster.

    Args:
        env: further environment of every Ray container.
    """
    head, *kinds = CLUSTER["available_node_types"].items()
    groups = []
    for name, kind in kinds:
        spot = "InstanceMarketOptions" in kind["node_config"]
        resources = {"cpu": f"{kind['resources']['CPU'] - 1}.5", "memory": MEMORY["worker"],
                     "nvidia.com/gpu": str(kind["resources"]["GPU"])}
        groups.append({
            "groupName": name.replace("_", "-"), "replicas": 0, "minReplicas": kind["min_workers"],
            "maxReplicas": kind["max_workers"], "priority": kind["priority"],
            "rayStartParams": {"num-cpus": str(kind["resources"]["CPU"]), "num-gpus": str(kind["resources"]["GPU"])},
            "template": pod("worker", resources, list(env), restartPolicy="Never",
                            nodeSelector={CAPACITY: "SPOT" if spot else "ON_DEMAND"},
                            tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}])})
    return {
        "rayVersion": ray_version(), "enableInTreeAutoscaling": True, "authOptions": {"mode": "token"},
        "autoscalerOptions": {"version": "v2", "idleTimeoutSeconds": 60 * CLUSTER["idle_timeout_minutes"],
                              "upscalingMode": "Default"},
        "headGroupSpec": {
            # The dashboard must be reached from other pods; KubeRay's service for it has a cluster-internal address.
            "rayStartParams": {"num-cpus": str(head[1]["resources"]["CPU"]), "dashboard-host": "0.0.0.0"},
            "serviceType": "ClusterIP",
            "template": pod("head", {"cpu": "3", "memory": MEMORY["head"]}, list(env), restartPolicy="Never",
                            nodeSelector={CAPACITY: "ON_DEMAND"})},
        "workerGroupSpecs": groups}


def manifests() -> dict[str, dict[str, Any]]:
    """Return file name -> manifest."""
    key = {"name": "SEA_RAY_API_KEY", "valueFrom": {"secretKeyRef": {"name": "sea-ray-api-key", "key": "key"}}}
    serving = declaration(Rota(serving=Offer(store=STORE, run=RUN)), ServingConfig(
        host="0.0.0.0", port=8000, cpus_per_replica=2, gpus_per_replica=1, max_replicas=2))

    def resource(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}

    return {
        "raycluster.yaml": resource("RayCluster", CLUSTER["cluster_name"], cluster()),
        "rayjob.yaml": resource("RayJob", f"{CLUSTER['cluster_name']}-run", {
            "entrypoint": f"python jobs/run.py experiment=demo cluster=aws store.url={STORE}",
            "submissionMode": "K8sJobMode", "backoffLimit": 0, "shutdownAfterJobFinishes": True, "ttlSecondsAfterFinished": 60,
            "rayClusterSpec": cluster()}),
        "rayservice.yaml": resource("RayService", f"{CLUSTER['cluster_name']}-serve", {
            "serveConfigV2": yaml.safe_dump(serving, sort_keys=False), "rayClusterConfig": cluster(
                key, *({"name": name, "value": value} for name, value in CALLBACK.items()))})}


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice twice, and texts of several lines as such."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Plain.add_representer(str, lambda dumper, text: dumper.represent_scalar(
    "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None))


def texts() -> dict[str, str]:
    """Return file name -> what stands in it."""
    return {name: HEADER + yaml.dump(manifest, Dumper=_Plain, sort_keys=False, width=120)
            for name, manifest in manifests().items()}


if __name__ == "__main__":
    for _name, _text in texts().items():
        (HERE / "kuberay").mkdir(exist_ok=True)
        (HERE / "kuberay" / _name).write_text(_text, encoding="utf-8")
