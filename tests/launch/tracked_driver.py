"""An experiment's tracker in a process of its own, fed with points: `python tracked_driver.py STORE FIRST LAST [WHAT]`.

It logs steps FIRST..LAST-1 of one trial, then does WHAT: "finish", "kill" (itself), "wait" (for a signal).
"""

import contextlib
import os
import signal
import sys
import time

from rich.console import Console

from sea_ray.artifacts import StageKey, Store
from sea_ray.execution import Stage
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.stage_figures import made
from sea_ray.launch.watched import watched
from sea_ray.tracking import About

TRIAL = "neurons/top_frac=0.05"
ABOUT = About(key="0123456789abcdef", settings={"neurons.selection.top_frac": 0.05, "arm": "lsn"})

ENDING = []
"""When the end began."""


def result(store, kind, parents=()):
    """Return a small result of the store."""
    key = StageKey(kind=kind, name=kind, config={"of": kind}, parents={parent.kind: parent.fingerprint for parent in parents})
    with store.building(key) as folder:
        (folder / "model.safetensors").write_bytes(b"weights")
        return store.commit(key, folder, {"gain_sea": 0.1}, {"peak_memory_bytes": 1}, 1.0)


@contextlib.contextmanager
def timed_end():
    """Print how long the end took."""
    try:
        yield
    finally:
        print(f"ended in {time.monotonic() - ENDING[-1]:.1f} s" if ENDING else "nothing was logged")


def main(url, first, last, what="finish"):
    """Log, and end as told."""
    store = Store(url)
    config = compose_experiment(["experiment=demo", f"store.url={url}", *sys.argv[5:]])
    began = time.monotonic()
    with timed_end(), watched(config, store, Console(highlight=False, soft_wrap=True)) as tracker:
        print(f"opened in {time.monotonic() - began:.1f} s", flush=True)
        run = tracker.child(TRIAL, ABOUT)
        part = run.child("th")
        for step in range(int(first), int(last)):
            part.log(step, loss=step / 10)
        run.log(None, gain_sea=0.1)
        print("logged", flush=True)
        ENDING.append(time.monotonic())
        if what == "kill":
            time.sleep(3)  # W&B's own files are flushed by then
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "wait":
            try:
                time.sleep(60)
            finally:
                ENDING.append(time.monotonic())
        base = result(store, "base")
        stage = Stage(kind="neurons", name=TRIAL, function="", config={}, parents={"base": base})
        run.made(made(result(store, "neurons", [base]), store, stage))
        run.finish()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:5])
    except KeyboardInterrupt:
        sys.exit(130)
