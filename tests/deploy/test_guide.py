"""docs/cluster.md: every block of commands is run here, or says that it needs a cloud account; those still parse and compose."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import aws
from sea_ray.launch.cli import COMMANDS
from sea_ray.launch.compose import compose_experiment

REPO = Path(__file__).resolve().parents[2]
TEXT = (REPO / "docs" / "cluster.md").read_text()
BLOCKS = [(before.rstrip().endswith("*Needs a cloud account:*"), block)
          for before, block in re.findall(r"([^\n]*)\n\n```sh\n(.*?)```", TEXT, re.DOTALL)]
PAID = [shlex.split(line) for paid, block in BLOCKS if paid for line in block.splitlines()]


def test_every_block_is_looked_at():
    assert len(BLOCKS) == TEXT.count("```sh")
    assert {paid for paid, _ in BLOCKS} == {True, False}


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for paid, block in BLOCKS if not paid])
def test_a_block_that_needs_no_account_runs(block, tmp_path):
    bin_folder = Path(sys.executable).parent
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sea-ray").write_text(f"#!/bin/sh\nexec {sys.executable} -m sea_ray.launch.cli \"$@\"\n")
    (tmp_path / "bin" / "sea-ray").chmod(0o755)
    environment = os.environ | {"HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}:{bin_folder}:{os.environ['PATH']}",
                                "PYTHONPATH": str(REPO)}
    done = subprocess.run(["bash", "-euc", block], cwd=REPO, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize("words", [words for words in PAID if words[0] == "sea-ray"], ids=" ".join)
def test_a_command_of_ours_that_needs_an_account_is_one_that_there_is(words):
    assert words[1] in COMMANDS
    if words[1] == "submit":
        config = compose_experiment(words[3:])
        assert config.ending.teardown
        assert config.cluster.address == "auto"
        assert config.store.url.startswith("s3://")


@pytest.mark.parametrize("words", [words for words in PAID if words[:3] == ["python", "-m", "deploy.aws"]], ids=" ".join)
def test_a_command_for_the_account_is_understood(words, monkeypatch):
    done = []
    for name in ("make", "end", "remains", "remove"):
        monkeypatch.setattr(aws, name, lambda *arguments, name=name, **options: done.append(name))
    assert aws.main(words[3:]) == 0
    assert done == [words[3]]


@pytest.mark.parametrize("file", sorted(set(re.findall(r"(?:deploy|conf|tests|sea_ray)/[\w/]+\.\w+", TEXT))))
def test_files_that_the_guide_names_are_there(file):
    assert (REPO / file).exists()
