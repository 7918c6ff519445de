"""Own text by the README alone: its third command, on files named by their language's code."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dry_platform import DryPlatform

from sea_ray import plan
from sea_ray.artifacts import Store
from sea_ray.demo import World
from sea_ray.errors import DataError
from sea_ray.execution import SoloPlatform
from sea_ray.launch.compose import compose_experiment
from sea_ray.pipeline import run_experiment

REPO = Path(__file__).resolve().parents[1]
README = (REPO / "README.md").read_text(encoding="utf-8")
(COMMAND,) = re.findall(r"^\.venv/bin/sea-ray run (experiment=own_text .*)$", README, re.MULTILINE)


@pytest.fixture(scope="module")
def overrides(tmp_path_factory):
    """The README's overrides with DIR put in, which holds what the README says."""
    folder = tmp_path_factory.mktemp("text")
    for code in ("en", "th", "lo"):
        lines = World(0, ("en", "th", "lo")).documents(code, "train", 300)
        (folder / f"{code}.txt").write_text("\n".join(lines), encoding="utf-8")
    return [part.replace("DIR", str(folder)) for part in shlex.split(COMMAND)]


def test_the_readme_names_the_two_commands_before_it_and_the_makefile_has_them():
    before = README[:README.index(COMMAND)]
    targets = re.findall(r"^make (\w+)", before, re.MULTILINE)
    assert targets == ["demo", "open"]
    assert all(f"\n{target}:" in (REPO / "Makefile").read_text(encoding="utf-8") for target in targets)


def test_a_report_that_is_not_there_yet_is_said_to_be_missing_and_one_that_is_is_opened(tmp_path):
    shutil.copy(REPO / "Makefile", tmp_path)
    environment = {**os.environ, "BROWSER": "echo opens %s"}
    asked = ["make", "-s", "open", f"PYTHON={sys.executable}"]
    missing = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environment)
    assert missing.returncode != 0
    assert "make demo" in missing.stdout
    report = tmp_path / "runs" / "demo" / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text("")
    opened = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environment)
    assert opened.returncode == 0, opened.stderr
    assert f"opens file://{report}" in opened.stdout


def test_every_stage_of_it_is_planned(overrides, tmp_path):
    platform = DryPlatform(Store(str(tmp_path)))
    config = compose_experiment(overrides)
    run_experiment(config, platform)
    assert config.corpus.languages == ("en", "th", "lo")
    kinds = {stage.kind for stage in platform.stages.values()}
    assert {"corpus", "base", "detection", "neurons", "merged", "conversations", "sft", "evaluation", "gate"} <= kinds
    mixes = [stage.config.mix.kind for stage in platform.stages.values() if stage.kind == "sft" and stage.config.stage == "broad"]
    assert len(mixes) == 4


def test_its_text_is_read_and_split(overrides, tmp_path):
    facts = SoloPlatform(Store(str(tmp_path))).run(plan.corpus(compose_experiment(
        [*overrides, "model.tokenizer.vocab_size=512", "corpus.near_duplicate_jaccard=0"]))).facts
    for code in ("en", "th", "lo"):
        sizes = [facts["sizes"][code][split]["documents"] for split in ("train", "validation", "test")]
        assert sizes[0] > 150
        assert all(sizes)


def test_a_missing_file_is_named(overrides, tmp_path):
    wanting = [part if not part.startswith("corpus.root") else f"corpus.root={tmp_path}" for part in overrides]
    with pytest.raises(DataError, match=r"en\.\*"):
        plan.corpus(compose_experiment(wanting))
