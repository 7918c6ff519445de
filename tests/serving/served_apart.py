"""A checkpoint served by a process of its own, so that it shares no lock and no memory with those who ask it."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Server:
    """The process and its address."""

    url: str
    key: str
    process: psutil.Process

    @property
    def headers(self) -> dict[str, str]:
        """What lets in."""
        return {"Authorization": f"Bearer {self.key}"}

    def resident_bytes(self) -> int:
        """Return the memory of the process."""
        return self.process.memory_info().rss


@contextlib.contextmanager
def served_apart(folder: Path, **limits: int) -> Iterator[Server]:
    """Serve a model folder while the context is open."""
    process = subprocess.Popen([sys.executable, __file__, str(folder), json.dumps(limits)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        endpoint = next(json.loads(line) for line in iter(process.stdout.readline, b"") if line.startswith(b"{"))
        yield Server(endpoint["url"].removesuffix("/v1"), endpoint["api_key"], psutil.Process(process.pid))
    finally:
        process.stdin.close()
        process.wait(timeout=30)


def serve(folder: Path, **limits: int) -> None:
    """Serve until nobody holds the other end of stdin."""
    import torch

    from sea_ray.serving.config import ServingConfig
    from sea_ray.serving.local import serve_in_thread

    torch.set_num_threads(1)
    with serve_in_thread(folder, ServingConfig(model_name="small", **limits)) as endpoint:
        print(json.dumps(endpoint), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), **json.loads(sys.argv[2]))
