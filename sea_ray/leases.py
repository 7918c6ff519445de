"""Who computes what, when several submitters share a store: a lease is taken before a result is computed, the others wait.

A lease is a small file that only one can create. Its holder renews a second file beside it, its heartbeat. When that falls
silent, anybody may create the file of the next generation, again only one: no file is ever taken over, so no two processes
can believe that they hold the same generation. The first result wins in any case (`Store.commit`); leases save the work.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from sea_ray.artifacts import Artifact, StageKey, Store
from sea_ray.errors import MachineError

LEASES = "leases"
"""Their folder in a store: LEASES/KIND/FINGERPRINT of the result."""
TTL_S = 60.0
"""Silence after which a holder counts as gone. Clocks of machines that share a store may differ by half of it."""
POLL_S = 1.0
"""Between two looks at a result that another computes."""
MAX_UNSURE_S = 3 * TTL_S
"""How long one waits for another's result in a store where two may take the same lease, before it is refused."""


@contextlib.contextmanager
def lease(store: Store, key: StageKey) -> Iterator[bool]:
    """Yield whether this process may compute a result now; while it may, its heartbeat goes on in a thread.

    Args:
        store: shared by all who might compute it.
        key: of the result.
    """
    board, place = store.board, f"{LEASES}/{key.kind}/{key.fingerprint}"
    generation = _free_generation(board, place)
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time(), "id": uuid.uuid4().hex}
    if generation is None or not board.create(f"{place}/{generation:06}.lease", json.dumps(owner).encode()):
        yield False
        return
    over = threading.Event()

    def beat() -> None:
        while not over.wait(TTL_S / 4):
            with contextlib.suppress(Exception):  # a store that fails once may be back for the next
                board.replace(f"{place}/{generation:06}.beat", str(time.time()).encode())

    thread = threading.Thread(target=beat, daemon=True, name="heartbeat")
    thread.start()
    try:
        yield True
    finally:
        over.set()
        thread.join()
        board.replace(f"{place}/{generation:06}.over", b"")


def is_held(store: Store, kind: str, fingerprint: str) -> bool:
    """Return whether somebody holds the lease of a result now."""
    return _free_generation(store.board, f"{LEASES}/{kind}/{fingerprint}") is None


def _free_generation(board: Any, place: str) -> int | None:
    """Return the generation that may be created: the one after the last if that is over or silent; None if it is held."""
    names = board.names(place)
    generations = sorted(int(name.partition(".")[0]) for name in names if name.endswith(".lease"))
    if not generations:
        return 0
    last = generations[-1]
    if f"{last:06}.over" in names:
        return last + 1
    content = board.read(f"{place}/{last:06}.lease")
    if content is None:
        return None
    owner = json.loads(content)
    seen = float(board.read(f"{place}/{last:06}.beat") or owner["since"])
    gone = owner["host"] == socket.gethostname() and not _is_alive(owner["pid"], owner["since"])
    return last + 1 if gone or time.time() - seen > TTL_S else None


def _is_alive(pid: int, since: float) -> bool:
    """Return whether the process of that number runs and is old enough to be the one that took a lease then."""
    import psutil

    try:
        return psutil.Process(pid).create_time() <= since + 1
    except psutil.NoSuchProcess:
        return False


def once(store: Store, key: StageKey, compute: Callable[[], Artifact]) -> Artifact:
    """Return a result, computed by this process or by whoever was first; waits for another who computes it.

    Raises:
        MachineError: another seems to compute it in a store that cannot tell for sure.
        Exception: whatever `compute` raises.
    """
    began = time.monotonic()
    while True:
        if (found := store.find(key)) is not None:
            return found
        with lease(store, key) as mine:
            if mine:
                return store.find(key) or compute()  # it may have been finished between the look and the lease
        if not store.board.is_exclusive and time.monotonic() - began > MAX_UNSURE_S:
            raise MachineError(f"another submitter computes {key.name}, and the store {store.url!r} cannot keep two of them "
                               "apart: wait until it is done, or use a local folder, s3:// or gs://")
        time.sleep(POLL_S)
