"""The Google Cloud twin and KubeRay's manifests: of one shape with cluster.yaml, with the fields that their readers require."""

from pathlib import Path

import pytest
import yaml

from deploy import kuberay
from sea_ray.decoding import decode
from sea_ray.errors import ConfigError
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.offers import Rota

REPO = Path(__file__).resolve().parents[2]
AWS, GCP = (yaml.safe_load((REPO / name).read_text()) for name in ("cluster.yaml", "cluster.gcp.yaml"))
SPECS = {"RayCluster": lambda spec: spec, "RayJob": lambda spec: spec["rayClusterSpec"],
         "RayService": lambda spec: spec["rayClusterConfig"]}


def test_the_twin_passes_ray_s_validation():
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load((REPO / "cluster.gcp.yaml").read_text())))


def test_the_twin_has_the_same_nodes_commands_and_limits():
    for key in ("cluster_name", "max_workers", "idle_timeout_minutes", "upscaling_speed", "head_node_type", "file_mounts",
                "head_start_ray_commands", "worker_start_ray_commands"):
        assert GCP[key] == AWS[key], key
    assert list(GCP["available_node_types"]) == list(AWS["available_node_types"])
    for name, kind in GCP["available_node_types"].items():
        assert {key: value for key, value in kind.items() if key != "node_config"} == {
            key: value for key, value in AWS["available_node_types"][name].items() if key != "node_config"}
    assert GCP["provider"]["cache_stopped_nodes"] is False


def test_the_twin_asks_for_spot_on_demand_and_disks_that_go_with_their_machine():
    configs = {name: kind["node_config"] for name, kind in GCP["available_node_types"].items()}
    assert configs["gpu_spot"]["scheduling"]["provisioningModel"] == "SPOT"
    assert configs["gpu_spot"]["scheduling"]["instanceTerminationAction"] == "DELETE"
    assert "provisioningModel" not in configs["gpu_on_demand"]["scheduling"]
    assert "scheduling" not in configs["head"]
    for config in configs.values():
        (disk,) = config["disks"]
        assert disk["autoDelete"]
        (script,) = config["metadata"]["items"]
        assert script["key"] == "startup-script"
        assert script["value"] == AWS["available_node_types"]["head"]["node_config"]["UserData"], "tested on AWS's side"


def test_the_manifests_in_the_repository_are_what_cluster_yaml_makes():
    for name, text in kuberay.texts().items():
        assert (REPO / "deploy" / "kuberay" / name).read_text() == text, "run python -m deploy.kuberay"


@pytest.mark.parametrize("name", kuberay.texts())
def test_a_manifest_has_what_kuberay_requires(name):
    manifest = yaml.safe_load(kuberay.texts()[name])
    assert manifest["apiVersion"] == "ray.io/v1"
    assert manifest["metadata"]["name"]
    spec = SPECS[manifest["kind"]](manifest["spec"])
    assert spec["rayVersion"] == kuberay.ray_version()
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"] == {"version": "v2", "idleTimeoutSeconds": 300, "upscalingMode": "Default"}
    assert spec["authOptions"] == {"mode": "token"}
    head = spec["headGroupSpec"]
    assert {"rayStartParams", "template"} <= set(head)
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert head["serviceType"] == "ClusterIP", "no load balancer, no node port"
    groups = spec["workerGroupSpecs"]
    assert all({"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"} <= set(group)
               for group in groups)
    assert [(group["groupName"], group["minReplicas"], group["maxReplicas"], group["priority"]) for group in groups] == [
        (kind.replace("_", "-"), values["min_workers"], values["max_workers"], values["priority"])
        for kind, values in AWS["available_node_types"].items() if kind != "head"]
    for template in (head["template"], *(group["template"] for group in groups)):
        assert template["spec"]["restartPolicy"] == "Never", "autoscaler 2 replaces pods; a restarted one it doesn't know"
        (container,) = template["spec"]["containers"]
        assert container["image"] == kuberay.IMAGE
        assert container["resources"]["limits"] == container["resources"]["requests"]
    assert all(isinstance(value, str) for part in (head, *groups) for value in part["rayStartParams"].values())
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_ray_s_own_reader_makes_the_same_node_types_of_the_manifest_as_of_cluster_yaml():
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    manifest = kuberay.manifests()["raycluster.yaml"]
    manifest["metadata"] |= {"namespace": "default"}
    made = _derive_autoscaling_config_from_ray_cr(manifest)
    assert made["idle_timeout_minutes"] == AWS["idle_timeout_minutes"]
    for name, kind in AWS["available_node_types"].items():
        if name == "head":
            continue
        found = made["available_node_types"][name.replace("_", "-")]
        assert {resource: found["resources"][resource] for resource in ("CPU", "GPU")} == kind["resources"]
        assert (found["min_workers"], found["max_workers"], found["priority"]) == (
            kind["min_workers"], kind["max_workers"], kind["priority"])


def test_the_job_ends_its_cluster_and_its_command_composes():
    spec = kuberay.manifests()["rayjob.yaml"]["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    python, script, *overrides = spec["entrypoint"].split()
    assert (python, script) == ("python", "jobs/run.py")
    config = compose_experiment(overrides)
    assert config.store.url == kuberay.STORE
    assert config.cluster.accelerator == "a10g"


def test_the_service_names_an_application_that_is_there_and_passes_serve_s_own_schema():
    from ray.serve.schema import ServeDeploySchema

    config = yaml.safe_load(kuberay.manifests()["rayservice.yaml"]["spec"]["serveConfigV2"])
    (application,) = ServeDeploySchema.model_validate(config).applications
    module, _, name = application.import_path.partition(":")
    assert callable(getattr(__import__(module, fromlist=[name]), name))


def test_the_service_s_application_asks_for_keys_and_keeps_their_digests_only(monkeypatch):
    from sea_ray.launch.serve import application
    from sea_ray.serving.guard import key_digest

    config = yaml.safe_load(kuberay.manifests()["rayservice.yaml"]["spec"]["serveConfigV2"])
    arguments = config["applications"][0]["args"]
    monkeypatch.delenv("SEA_RAY_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="answers everybody"):
        application(arguments)
    monkeypatch.setenv("SEA_RAY_API_KEY", "a key")
    settings = {"serving": arguments["serving"] | {"key_digests": [key_digest("another")]}}
    deployment = application(settings)._bound_deployment
    assert deployment.init_args[0].key_digests == (key_digest("another"), key_digest("a key"))
    assert "a key" not in str(deployment.init_args)


def test_the_service_needs_one_gpu_for_each_replica_and_serves_the_run_s_winner():
    config = yaml.safe_load(kuberay.manifests()["rayservice.yaml"]["spec"]["serveConfigV2"])
    (deployment,) = config["applications"][0]["deployments"]
    assert deployment["ray_actor_options"]["num_gpus"] == 1
    assert deployment["autoscaling_config"]["max_replicas"] == 2
    offer = decode(Rota, deployment["user_config"]).serving
    assert (offer.store, offer.run) == (kuberay.STORE, "demo")
