"""A Ray cluster of several nodes on this machine, each a process tree of its own that can be killed."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

RAY = Path(sys.executable).with_name("ray")


def free_ports(count: int) -> list[int]:
    """Return ports on which nothing listens now."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class LocalCluster:
    """A head with token authentication; as a context it ends all nodes and removes what they wrote."""

    def __init__(self, num_cpus: int, **environment: str) -> None:
        """Args: num_cpus: of the head; environment: for its processes, beside this process's own."""
        self.scratch = Path(tempfile.mkdtemp(prefix="j-", dir="/tmp"))  # sockets below it: a short path
        self.environment = {key: value for key, value in os.environ.items()
                            if not key.startswith("RAY_") and key != "WANDB_API_KEY"}
        self.environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "TMPDIR": str(self.scratch),
                             **environment}
        port, dashboard, agent, client = free_ports(4)
        self.address, self.dashboard = f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}"
        self._nodes: list[subprocess.Popen] = []
        self._start("--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--dashboard-host=127.0.0.1",
                    f"--dashboard-port={dashboard}",
                    f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}", f"--num-cpus={num_cpus}",
                    f"--temp-dir={self.scratch / 'ray'}")

    def _start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        node = subprocess.Popen(
            [RAY, "start", "--block", "--disable-usage-stats", *arguments],
            env=self.environment | environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._nodes.append(node)
        return node

    def add_node(self, num_cpus: int, **environment: str) -> subprocess.Popen:
        """Start one more node, with an environment of its own."""
        (agent,) = free_ports(1)
        # An address of its own, so that a driver finds the head's raylet and not this one.
        return self._start(f"--node-ip-address=127.0.0.{len(self._nodes) + 1}", f"--address={self.address}",
                           f"--num-cpus={num_cpus}", f"--dashboard-agent-listen-port={agent}", **environment)

    def ray(self, *arguments: str) -> subprocess.CompletedProcess:
        """Return what a command of ray's command line says."""
        return subprocess.run([RAY, *arguments], env=self.environment, capture_output=True, text=True, timeout=60)

    def kill(self, node: subprocess.Popen) -> None:
        """End a node and all its processes at once, as when its machine goes."""
        tree = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
        for process in tree:
            process.kill()
        psutil.wait_procs(tree, timeout=20)
        self._nodes.remove(node)

    def __enter__(self):
        return self

    def __exit__(self, *error: object) -> None:
        processes = [process for node in self._nodes
                     for process in (*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid))]
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=20)
        shutil.rmtree(self.scratch, ignore_errors=True)
