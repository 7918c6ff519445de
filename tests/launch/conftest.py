"""The command line in this process, on a miniature experiment, without Ray."""

import contextlib
import io
from types import SimpleNamespace

import pytest
import torch

from sea_ray.artifacts import Store
from sea_ray.execution import SoloPlatform


class Terminal:
    """Calls the command line and returns what it wrote; stages are computed in this process."""

    def __init__(self, store, miniature):
        self.store = store
        self.settings = [*miniature, f"store.url={store}", "cluster.min_free_memory_gib=0.1", "cluster.min_free_disk_gib=0.1",
                         "tracking.wandb=disabled"]
        self.at = f"store.url={store}"

    def __call__(self, *arguments):
        """Return exit code, standard output and errors."""
        from sea_ray.launch.cli import main
        from sea_ray.launch.ray_platform import RayPlatform

        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), pytest.MonkeyPatch.context() as patch:
            patch.setattr(RayPlatform, "open", in_this_process)  # for this call alone: other tests of the session open Ray
            try:
                code = main(list(arguments))
            except SystemExit as ended:
                code = ended.code
        return code, out.getvalue(), errors.getvalue()


@contextlib.contextmanager
def in_this_process(store, tracker, config, **_):
    """Stand in for RayPlatform.open."""
    platform = SoloPlatform(store, tracker)
    platform.meter = SimpleNamespace(usd=0.0)
    yield platform


@pytest.fixture(scope="session")
def terminal(tmp_path_factory, miniature):
    """The command line with a store of its own; nothing is in it yet."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Terminal(tmp_path_factory.mktemp("terminal") / "runs", miniature)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def told(terminal):
    """What the commands say while an experiment comes about: detect, then train, sweep and run, and report after each."""
    found = {"report before": terminal("report", "run=miniature", terminal.at)}
    for command in ("detect", "train", "sweep", "run"):
        found[command] = terminal(command, *terminal.settings, "--json")
        found[f"report after {command}"] = terminal("report", "run=miniature", terminal.at)
        page = Store(str(terminal.store)).root / "miniature" / "report.html"
        found[f"page after {command}"] = page.read_text(encoding="utf-8")
        found[f"packs after {command}"] = terminal("packs", "run=miniature", terminal.at, "--json")
    return found
