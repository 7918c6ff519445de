"""What stands around the code is true: versions agree, actions are pinned, commands exist."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import sea_ray

REPO = Path(__file__).resolve().parents[1]
LOCK = (REPO / "requirements.lock").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
WORKFLOWS = sorted((REPO / ".github" / "workflows").glob("*.yml"))


def read(name):
    return (REPO / name).read_text(encoding="utf-8")


def steps(name):
    return [step for job in yaml.safe_load(read(f".github/workflows/{name}.yml"))["jobs"].values() for step in job["steps"]]


def test_every_place_names_the_same_version():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert tomllib.loads(read("pyproject.toml"))["project"]["version"] == citation["version"] == sea_ray.__version__
    assert sea_ray.__version__ in re.findall(r"^## .*$", read("CHANGELOG.md"), re.MULTILINE)[0]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_actions_are_pinned_by_commit_and_read_only(file):
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", one) for one in used)
    assert workflow["permissions"] == {"contents": "read"}


def test_what_is_run_on_github_is_what_is_run_here():
    said = [step["run"] for step in steps("test") if "run" in step]
    asked = {target for line in said for target in re.findall(r"make ([a-z-]+)", line)}
    assert asked == {"lint", "test"} <= TARGETS
    assert "python -m build" in said
    assert set(re.findall(r"grep -E '\^(\w+)=='", " ".join(said))) == {"build"}
    assert "\nbuild==" in LOCK


def test_hooks_are_the_locked_tools_of_make_lint():
    hooks = [hook for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]]
    tools = [hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in hooks]
    assert tools == ["ruff", "mypy"]
    assert all(f"\n{tool}==" in LOCK and f"$(BIN)/{tool}" in read("Makefile") for tool in tools)


def test_the_contributors_guide_names_what_there_is():
    guide = read("CONTRIBUTING.md")
    assert set(re.findall(r"^make ([a-z-]+)", guide, re.MULTILINE)) <= TARGETS
    for path in re.findall(r"`((?:sea_ray|docs|tests|benchmarks|conf)/[\w./]*)`", guide):
        assert (REPO / path).exists(), path


def test_issue_forms_are_whole():
    forms = sorted((REPO / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert {form.stem for form in forms} == {"bug", "config", "language", "wish"}
    for form in forms:
        content = yaml.safe_load(form.read_text(encoding="utf-8"))
        if form.stem != "config":
            assert {"name", "description", "body"} <= content.keys()
            assert all({"type", "attributes"} <= part.keys() for part in content["body"])
