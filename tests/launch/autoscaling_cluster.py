"""A head without processors and an autoscaler that starts nodes, which are process trees on this machine."""

import contextlib
import json
import subprocess

import psutil
from local_cluster import LocalCluster

PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
HEAD, HEAD_ID = "ray.head.default", "f" * 51 + "00000"


class AutoscalingCluster(LocalCluster):
    """Nodes of given types come with the work and go a few seconds after it; as a context it ends all of them."""

    def __init__(self, node_types: dict, max_workers: int, provider: str = PROVIDER, **environment: str) -> None:
        """Args: node_types: as in cluster.yaml, without node_config; max_workers: in all; provider: of nodes; environment: of
        all processes.
        """
        self._types, self._max_workers, self._provider = node_types, max_workers, provider
        super().__init__(num_cpus=0, RAY_FAKE_CLUSTER="1", AUTOSCALER_UPDATE_INTERVAL_S="1", RAY_enable_autoscaler_v2="1",
                         RAY_CLOUD_INSTANCE_ID=HEAD_ID, RAY_OVERRIDE_NODE_ID_FOR_TESTING=HEAD_ID, RAY_NODE_TYPE_NAME=HEAD,
                         **environment)

    def _start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        port = next(part for part in arguments if part.startswith("--port=")).removeprefix("--port=")
        config = {
            "cluster_name": "fake", "max_workers": self._max_workers, "upscaling_speed": 10.0, "idle_timeout_minutes": 0.1,
            "provider": {"type": "external", "module": self._provider, "launch_multiple": True, "head_node_id": HEAD_ID,
                         "gcs_address": f"127.0.0.1:{port}"},
            "auth": {}, "docker": {}, "file_mounts": {}, "cluster_synced_files": [], "file_mounts_sync_continuously": False,
            "rsync_exclude": [], "rsync_filter": [], "initialization_commands": [], "setup_commands": [],
            "head_setup_commands": [], "worker_setup_commands": [], "head_start_ray_commands": [],
            "worker_start_ray_commands": [], "head_node_type": HEAD, "available_node_types": {
                HEAD: {"resources": {"CPU": 0}, "node_config": {}, "min_workers": 0, "max_workers": 0},
                **{name: {"node_config": {}, "min_workers": 0, **kind} for name, kind in self._types.items()}}}
        file = self.scratch / "autoscaling.yaml"
        file.write_text(json.dumps(config))
        return super()._start(*arguments, f"--autoscaling-config={file}", **environment)

    def nodes(self) -> list[psutil.Process]:
        """Return the raylets of the nodes that the autoscaler has started."""
        return [process for process in self._processes() if process.name() == "raylet" and process not in self._head_processes()]

    def kill_node(self, raylet: psutil.Process) -> None:
        """End a started node with all its processes at once, as when its machine goes."""
        tree = [raylet, *raylet.children(recursive=True)]
        for process in tree:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(tree, timeout=20)

    def _head_processes(self) -> list[psutil.Process]:
        return [child for node in self._nodes for child in psutil.Process(node.pid).children()]

    def _processes(self) -> list[psutil.Process]:
        """Started nodes are nobody's children once their starter has gone: they are known by this cluster's folder."""
        return [process for process in psutil.process_iter(["cmdline"])
                if any(str(self.scratch) in part for part in process.info["cmdline"] or ())]

    def logs(self, pattern: str) -> str:
        """Return what Ray's own logs of that name say."""
        return "\n".join(file.read_text(errors="replace") for file in sorted(self.scratch.glob(f"ray/session_*/logs/{pattern}")))

    def __exit__(self, *error: object) -> None:
        while left := self._processes():  # the autoscaler may be starting one
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=20)
        self._nodes.clear()
        super().__exit__(*error)
