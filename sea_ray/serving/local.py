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
from fastapi import FastAPI

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
    with listening(application(folder, config, [key_digest(key)]), config.host, config.port) as base:
        yield {"url": f"{base}/v1", "api_key": key, "model": config.model_name}


@contextlib.contextmanager
def listening(app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Let an application answer over HTTP while the context is open; at its end the application shuts down.

    Args:
        app: answers.
        host: address to listen on.
        port: 0 takes a free one.

    Yields:
        The address, as http://HOST:PORT.

    Raises:
        MachineError: if the port cannot be had.
    """
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise MachineError(f"port {port} of {host} cannot be had ({error}): set serving.port=0 for a free one") from error
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="serving", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not server.started:
            raise MachineError("the server did not start: see its messages above")
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=15)
        listener.close()
