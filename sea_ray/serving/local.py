"""A checkpoint served from a thread of this process, on loopback: tests and runs without Ray."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from sea_ray.errors import MachineError
from sea_ray.serving.app import application
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.guard import key_digest

START_LIMIT_S = 30.0


@contextlib.contextmanager
def serve_in_thread(folder: Path, config: ServingConfig) -> Iterator[dict[str, str]]:
    """Serve a checkpoint while the context is open.

    Args:
        folder: Hugging Face model folder.
        config: host, port, name, limits.

    Yields:
        url, api_key and model.

    Raises:
        MachineError: if the port cannot be had.
    """
    key = secrets.token_urlsafe(24)
    app = application(folder, config, [key_digest(key)])
    try:
        listener = socket.create_server((config.host, config.port))
    except OSError as error:
        raise MachineError(f"port {config.port} of {config.host} cannot be had ({error}): set serving.port=0 for a "
                           "free one") from error
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="serving", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not server.started:
            raise MachineError("the server did not start: see its messages above")
        yield {"url": f"http://{config.host}:{listener.getsockname()[1]}/v1", "api_key": key,
               "model": config.model_name}
    finally:
        server.should_exit = True
        thread.join(timeout=15)
        listener.close()
