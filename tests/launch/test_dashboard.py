"""The dashboard's spec is held by a golden file; a change is looked at and accepted: `python tests/launch/test_dashboard.py`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_wandb import KEY, dropping_proxy
from rich.console import Console

from sea_ray.errors import MachineError
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.dashboard import dashboard
from sea_ray.launch.dashboard_spec import JOB_TYPES, report, sections, spec, workspace

REPO = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("dashboard.json")
OVERRIDES = ["experiment=demo", "corpus.languages=[en,id,th]", "neurons.languages=[id,th]", "~sft.mixes",
             "+sft.mixes={even: {en: 1, id: 1, th: 1}, english: {en: 2, id: 1, th: 1}}", "sft.mix=even",
             "sweep.mixes.space={sft.mix: [even, english]}"]


def made():
    config = compose_experiment(OVERRIDES)
    return {"workspace": spec(workspace(config, "team")), "report": spec(report(config, "team"))}


def test_the_spec_is_the_golden_one():
    assert made() == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_a_dry_run_prints_the_spec_and_asks_nobody(tmp_path):
    with dropping_proxy() as (url, taken):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")} | {
            "HTTPS_PROXY": url, "https_proxy": url, "HTTP_PROXY": url, "HOME": str(tmp_path),
            "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
        command = [sys.executable, "-m", "sea_ray.launch.cli", "dashboard", "--dry-run", "tracking.entity=team", *OVERRIDES]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd=REPO)
        assert done.returncode == 0, done.stderr
        assert not taken
    assert json.loads(done.stdout) == made()


def test_each_sweep_has_parallel_coordinates_from_its_settings_to_what_it_is_judged_by():
    config = compose_experiment(OVERRIDES)
    for title, name, path in (("Sweep: Share of neurons per language", "neurons", "neurons.selection.top_frac"),
                              ("Sweep: Language mix of fine-tuning", "mixes", "sft.mix")):
        columns = [column.metric.name for column in sections(config)[title][0].columns]
        search = getattr(config.sweep, name)
        assert columns == [path, *search.objectives, *search.at_most, "cost/seconds"]


def test_every_run_of_the_experiment_is_in_the_view(planned):
    names = planned(*OVERRIDES[1:])
    assert {name.partition("/")[0] for name in names} <= set(JOB_TYPES)


def test_without_a_network_it_says_so_and_makes_nothing(monkeypatch):
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(MachineError, match="--dry-run shows its spec"):
        dashboard(OVERRIDES, Console())


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(made(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
