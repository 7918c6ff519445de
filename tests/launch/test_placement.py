"""On a cluster whose head has no processors for work, whoever asks a served checkpoint runs where it is served: on the head."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from local_cluster import LocalCluster

pytestmark = pytest.mark.ray

HERE = Path(__file__).parent


def test_work_goes_to_the_workers_and_questions_to_the_driver_s_node(tmp_path):
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    with LocalCluster(num_cpus=0, PYTHONPATH=path, HOME=str(tmp_path)) as cluster:
        cluster.add_node(num_cpus=1, HOME=str(tmp_path / "node"))
        driver = subprocess.run([sys.executable, str(HERE / "place_driver.py"), f"local://{tmp_path / 'store'}"],
                                env=cluster.environment | {"RAY_ADDRESS": cluster.address}, capture_output=True, text=True,
                                timeout=180)
    assert driver.returncode == 0, driver.stderr
    head, works, asks = json.loads(driver.stdout.splitlines()[-1])
    assert works != head
    assert asks == head
