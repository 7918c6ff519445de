"""What `sea-ray serve --build` writes, deployed by Ray's own `serve deploy` on a cluster of its own."""

import io
import subprocess
import time
from pathlib import Path

import httpx
import psutil
import pytest
import tiny_checkpoint
import yaml
from local_cluster import RAY, LocalCluster, free_ports
from rich.console import Console

from sea_ray.errors import ConfigError
from sea_ray.launch.proxy import CALLBACK
from sea_ray.launch.serve_command import serve
from sea_ray.serving.guard import key_digest

REPO = Path(__file__).resolve().parents[2]


def build(file, *overrides):
    console = Console(file=io.StringIO(), soft_wrap=True)
    assert serve([*overrides], console, build=str(file)) == 0
    return console.file.getvalue(), yaml.safe_load(file.read_text())


def test_what_is_built_passes_serve_s_own_schema_and_says_what_is_not_a_default(tmp_path):
    from ray.serve.schema import ServeDeploySchema

    told, declared = build(tmp_path / "service.yaml", "checkpoint=owner/name", "serving.max_replicas=3", "serving.max_batch=10",
                           "serving.drain_s=5")
    assert "SEA_RAY_API_KEY" in told
    read = ServeDeploySchema.model_validate(declared)
    assert (read.http_options.host, read.http_options.port, read.http_options.request_timeout_s) == ("127.0.0.1", 8000, 630)
    (deployment,) = read.applications[0].deployments
    assert deployment.autoscaling_config == {"min_replicas": 1, "max_replicas": 3, "target_ongoing_requests": 10}
    assert deployment.max_ongoing_requests == 10 + 64 + 256
    assert deployment.graceful_shutdown_timeout_s == 5
    assert deployment.user_config == {"serving": {"models": [{"name": "sea-ray", "checkpoint": "owner/name"}]}}
    assert declared["applications"][0]["args"]["serving"] == {"port": 8000, "max_replicas": 3, "max_batch": 10, "drain_s": 5}


@pytest.mark.parametrize(("override", "reason"), [
    ("serving.key_digests=[sea-secret]", "10 characters are no SHA-256"), ("serving.max_replicas=1", None),
    ("serving.model_name=base", "cannot be told from the base"), ("serving.model_name='a:b'", "without a colon"),
    ("serving.num_replica=2", "num_replicas"), ("packs=none", "holds no language pack")])
def test_a_wrong_setting_of_a_service_is_refused(tmp_path, override, reason):
    if reason is None:
        build(tmp_path / "service.yaml", "checkpoint=owner/name", override)
        return
    with pytest.raises(ConfigError, match=reason):
        build(tmp_path / "service.yaml", "checkpoint=owner/name", override)


class Deployed:
    """A declaration on a cluster."""

    def __init__(self, cluster, file, port):
        self.cluster, self.file, self.url = cluster, file, f"http://127.0.0.1:{port}"

    def deploy(self, declared):
        self.file.write_text(yaml.safe_dump(declared))
        end = time.monotonic() + 60
        while (done := self.serve("deploy", self.file)).returncode:
            assert "Failed to connect" in done.stderr, done.stderr  # the dashboard is the last to come up
            assert time.monotonic() < end

    def serve(self, command, *arguments):
        return subprocess.run([RAY.with_name("serve"), command, "--address", self.cluster.dashboard, *arguments],
                              env=self.cluster.environment, capture_output=True, text=True, timeout=60)

    def ask(self, key="from-env"):
        body = {"model": "sea-ray", "prompt": tiny_checkpoint.PROMPT, "temperature": 0, "max_tokens": 0, "echo": True,
                "logprobs": 1}
        return httpx.post(f"{self.url}/v1/completions", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def until(self, value):
        """Wait until the service says a value; whatever comes before is another one's, or that it isn't up."""
        end = time.monotonic() + 90
        while True:
            try:
                response = self.ask()
                assert response.status_code in (200, 503), response.text
                if response.status_code == 200 and self.says(response) == pytest.approx(value, abs=1e-3):
                    return
            except httpx.ConnectError:
                pass
            assert time.monotonic() < end
            time.sleep(0.2)

    def says(self, response):
        return sum(response.json()["choices"][0]["logprobs"]["token_logprobs"][1:])

    def replicas(self):
        return {child.pid for node in self.cluster._nodes for child in psutil.Process(node.pid).children(recursive=True)
                if "ServeReplica" in " ".join(child.cmdline())}

    def status(self):
        return yaml.safe_load(self.serve("status").stdout)["applications"]["sea_ray"]["status"]


@pytest.mark.ray
def test_serve_deploy_serves_it_with_several_keys_and_exchanges_its_checkpoint_in_place(tmp_path):
    old, new, broken = (tiny_checkpoint.make(tmp_path / name, seed, broken=name == "broken")
                        for seed, name in enumerate(("old", "new", "broken")))
    (port,) = free_ports(1)
    _, declared = build(tmp_path / "service.yaml", f"checkpoint={old}", f"serving.port={port}",
                        f"serving.key_digests=[{key_digest('another')}]")
    with LocalCluster(num_cpus=2, SEA_RAY_API_KEY="from-env", PYTHONPATH=str(REPO), **CALLBACK) as cluster:
        service = Deployed(cluster, tmp_path / "service.yaml", port)
        service.deploy(declared)
        service.until(tiny_checkpoint.loglikelihood(old))
        assert [service.ask(key).status_code for key in ("from-env", "another", "wrong")] == [200, 200, 401]
        replicas = service.replicas()
        assert len(replicas) == 1

        (offered,) = declared["applications"][0]["deployments"][0]["user_config"]["serving"]["models"]
        offered["checkpoint"] = str(new)
        service.deploy(declared)
        service.until(says_new := tiny_checkpoint.loglikelihood(new))

        offered["checkpoint"] = str(broken)
        service.deploy(declared)
        end = time.monotonic() + 60
        while service.status() != "RUNNING":
            assert time.monotonic() < end
        assert service.says(service.ask()) == pytest.approx(says_new, abs=1e-3), "what answers wrongly does not come in"
        assert service.replicas() == replicas, "nothing was restarted"
