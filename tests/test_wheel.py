"""What is installed is complete: a wheel of this checkout plans the demo from an empty folder, with nothing of the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
COMMAND = """
import sys
sys.path = [place for place in sys.path if place != sys.argv[1]]
import sea_ray
print(sea_ray.__file__)
from sea_ray.launch.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without the network."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPO)],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel's content, as pip lays it out."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_every_file_of_the_package_and_of_conf_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    package = {f"sea_ray/{file.relative_to(REPO / 'sea_ray').as_posix()}" for file in (REPO / "sea_ray").rglob("*")
               if file.is_file() and "__pycache__" not in file.parts}
    conf = {f"sea_ray/conf/{file.relative_to(REPO / 'conf').as_posix()}" for file in (REPO / "conf").rglob("*") if file.is_file()}
    assert {"sea_ray/conf/experiment/demo.yaml", "sea_ray/demo/lexicon/th.yaml", "sea_ray/report/style.css",
            "sea_ray/evaluation/published.yaml"} <= package | conf
    assert not (package | conf) - held
    assert not [name for name in held if name.split("/")[0] not in ("sea_ray", f"sea_ray-{wheel.name.split('-')[1]}.dist-info")]


def test_an_installed_wheel_plans_the_demo_outside_the_checkout(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    environment.pop("SEA_RAY_CONF", None)
    done = subprocess.run([sys.executable, "-c", COMMAND, str(REPO), "plan", "experiment=demo", "--no-measure"], cwd=tmp_path,
                          env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    place, *said = done.stdout.splitlines()
    assert place == str(installed / "sea_ray" / "__init__.py")
    assert any("detection" in line for line in said)
    assert not [line for line in said if str(REPO) in line]


def test_it_has_its_own_configuration_and_the_harness_its_tasks(installed, tmp_path):
    code = ("from sea_ray.conf_folder import config_folder\nfrom sea_ray.evaluation.benchmarks import task_folder\n"
            "print(config_folder())\nprint(task_folder())")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)},
                          capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [str(installed / "sea_ray" / "conf"),
                                        str(installed / "sea_ray" / "conf" / "evaluation" / "tasks")], done.stderr
