"""Tab completion, as a shell asks for it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sea_ray.artifacts import write_json
from sea_ray.launch.cli import COMMANDS
from sea_ray.launch.completion import complete

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Return what bash completes of a line, by the function that argcomplete gives it."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "sea-ray"
    program.write_text(f"#!{sys.executable}\n# PYTHON_ARGCOMPLETE_OK\nimport sys\nfrom sea_ray.launch.cli import main\n"
                       "sys.exit(main())\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    script = ('eval "$({python} -c "import argcomplete; print(argcomplete.shellcode([\'sea-ray\']))")"\n'
              "COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9\n_python_argcomplete sea-ray\n"
              'printf "%s\\n" "${COMPREPLY[@]}"').replace("{python}", sys.executable)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join([str(REPO), *sys.path])}

    def ask(line):
        done = subprocess.run(["bash", "-c", script, "bash", line], cwd=REPO, env=environment, capture_output=True, text=True,
                              timeout=60, check=True)
        return done.stdout.split()

    return ask


@pytest.mark.slow
def test_bash_completes_commands_and_choices_of_a_group(shell):
    assert set(shell("sea-ray ")) >= set(COMMANDS)
    assert shell("sea-ray det") == ["detect"]
    assert shell("sea-ray run experiment=dem") == ["demo"]  # bash breaks words at =, so it wants the rest alone
    assert set(shell("sea-ray run neurons.sel")) >= {"neurons.selection.method=", "neurons.selection.top_frac="}
    assert "--json" in shell("sea-ray compare --")


def test_groups_and_dotted_paths_are_completed_a_level_at_a_time():
    assert complete("run", "mod", []) == ["model.", "model="]
    assert complete("run", "sweep/", []) == ["sweep/mixes=", "sweep/neurons="]
    assert "model=qwen2_7b" in complete("plan", "model=qwen", [])
    assert complete("run", "neurons.t", []) == complete("run", "neurons.training.", [])
    assert "neurons.training.steps=" in complete("run", "neurons.t", [])
    assert complete("run", "nonsense.", []) == []


def test_values_that_a_setting_may_have_are_completed():
    assert complete("run", "cluster.training.device=", []) == [
        f"cluster.training.device={value}" for value in ("auto", "cpu", "cuda")]
    assert complete("run", "neurons.selection.method=la", []) == ["neurons.selection.method=lape"]
    assert set(complete("serve", "serving.with_base=", [])) == {"serving.with_base=true", "serving.with_base=false"}
    assert complete("evaluate", "prompting=", []) == ["prompting=chat", "prompting=plain"]
    assert complete("export", "mod", []) == ["model="]


def test_what_is_submitted_is_completed_like_the_command_itself():
    assert complete("submit", "", []) == ["run", "serve"]
    assert complete("submit", "experiment=dem", ["run"]) == ["experiment=demo"]


def test_runs_of_the_store_are_completed(tmp_path):
    for name, file in (("one", "run.json"), ("two", "asked.json"), ("artifacts", "other.json")):
        write_json(tmp_path / name / file, {})
    at = f"store.url={tmp_path}"
    assert complete("report", "run=", [at]) == ["run=one", "run=two"]
    assert complete("compare", "", [at, "one"]) == ["two"]
    assert complete("compare", "", ["store.url=s3://bucket"]) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_asked(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEA_RAY_CONF", str(REPO / "conf"))
    assert isinstance(complete(command, "", []), list)
    assert isinstance(complete(command, "x=", []), list)
