"""A page in a real, headless Chromium, driven over the DevTools protocol."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--lang=en", "--remote-debugging-port=0")
LIMIT_S = 60.0


class Page:
    """A tab, and what happened in it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number = socket, 0
        self.events: list[tuple[str, dict[str, Any]]] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return a command's result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=LIMIT_S))
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self.events.append((message["method"], message["params"]))

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression gives, promises awaited."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, f"{expression}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + LIMIT_S
        while not self.value(f"!!({expression})"):
            assert time.monotonic() < end, f"{expression} did not come true:\n{self.value('document.body.innerText')}"
            time.sleep(0.03)

    def open(self, url: str) -> None:
        """Go to an address and wait until its scripts have run."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def type(self, text: str) -> None:
        """Type into what has the focus, as an input method does."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key: its name, its Windows code and the text that it gives."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, unmodifiedText=text, **named)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def enter(self) -> None:
        """Press Enter."""
        self.press("Enter", 13, "\r")

    @property
    def requests(self) -> list[str]:
        """Addresses asked for."""
        return [params["request"]["url"] for name, params in self.events if name == "Network.requestWillBeSent"]

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and uncaught exceptions."""
        return [json.dumps(params) for name, params in self.events
                if name == "Runtime.exceptionThrown"
                or (name == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"))
                or (name == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"))]


@contextlib.contextmanager
def opened(program: str, folder: Path) -> Iterator[Page]:
    """Yield an empty page of a browser that keeps its files in `folder`."""
    process = subprocess.Popen([program, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        told, end = folder / "DevToolsActivePort", time.monotonic() + LIMIT_S
        while not (told.exists() and told.read_text().count("\n")):
            assert process.poll() is None, f"{program} ended with {process.returncode}"
            assert time.monotonic() < end, f"{program} did not start"
            time.sleep(0.05)
        port = told.read_text().splitlines()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=LIMIT_S) as listed:
            address = next(tab["webSocketDebuggerUrl"] for tab in json.load(listed) if tab["type"] == "page")
        with connect(address, max_size=None, proxy=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.wait(timeout=LIMIT_S)
