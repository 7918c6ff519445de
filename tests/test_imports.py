"""Imports point one way: jobs -> launch -> the pipeline's modules -> stages -> rooms -> the shared modules."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "sea_ray"

ROOMS = ("corpus", "demo", "neurons", "training", "sft", "safety", "evaluation", "serving", "report")
MEETINGS = {
    ("corpus", "demo"): "the embedded world is a source of text",
    ("sft", "demo"): "and of conversations",
    ("evaluation", "demo"): "and of test questions",
    ("training", "neurons"): "neuron training takes a NeuronSet and returns a LanguagePack",
    ("serving", "neurons"): "a served answer is read with a LanguagePack",
    ("sft", "training"): "conversations are packed into the SequenceSet that the loop takes",
}
"""(importing room, imported room): the contract in which they meet. No other room imports another."""

LEVELS = ({"errors", "board"},
          {"conf_folder", "tracking", "artifacts", "decoding", "near_duplicates", "streams", "agreement"}, {"languages"},
          {"asking", "hub", "leases", "search_space"}, set(ROOMS), {"execution", "upkeep"},
          {"objective", "stages", "cluster", "study_config"},
          {"config", "search"}, {"plan", "provenance"}, {"pipeline"}, {"studies", "run_findings"},
          {"run_report", "data_report", "part_tables", "model_folder"}, {"unfinished_report", "model_card"}, {"launch"}, {"jobs"})
"""A part imports only parts of a lower level, and itself."""

EDGE = {"ray", "deepspeed", "hydra", "omegaconf", "wandb", "wandb_workspaces"}
"""Libraries that only sea_ray/launch knows."""


def level_of(part: str) -> int:
    return next(number for number, parts in enumerate(LEVELS) if part in parts)


def imports_of(file: Path) -> Iterator[tuple[str, int]]:
    """Yield every imported module with its line, inside functions and TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import; name the module from sea_ray on"
            yield node.module or "", node.lineno
            if node.module == "sea_ray":
                yield from ((f"sea_ray.{alias.name}", node.lineno) for alias in node.names
                            if not alias.name.startswith("__"))


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py") if file.is_relative_to(PACKAGE) else "jobs"


FILES = [file for folder in (PACKAGE, REPO / "jobs") for file in sorted(folder.rglob("*.py"))]


@pytest.fixture(scope="module")
def edges() -> list[tuple[str, str, str]]:
    """(importing part, imported part, place) of every import within the project."""
    found = []
    for file in FILES:
        for module, line in imports_of(file):
            parts = module.split(".")
            if parts[0] == "sea_ray" and len(parts) > 1:
                found.append((part_of(file), parts[1], f"{file.relative_to(REPO)}:{line}"))
    assert len(found) > 200
    return found


def test_every_part_of_the_package_has_a_level():
    parts = {part_of(file) for file in FILES} - {"__init__"}
    assert parts == set().union(*LEVELS)


def test_imports_point_to_lower_levels_only(edges):
    wrong = [f"{place}: {mine} imports {theirs}, which stands above it or beside it" for mine, theirs, place in edges
             if mine not in ("__init__", theirs) and not (mine in ROOMS and theirs in ROOMS)
             and level_of(theirs) >= level_of(mine)]
    assert not wrong


def test_rooms_meet_only_in_named_contracts(edges):
    wrong = [f"{place}: room {mine} imports room {theirs}; meet in sea_ray/stages, or name the contract in MEETINGS"
             for mine, theirs, place in edges if mine in ROOMS and theirs in ROOMS and mine != theirs
             and (mine, theirs) not in MEETINGS]
    assert not wrong


def test_every_named_contract_is_used(edges):
    assert set(MEETINGS) <= {(mine, theirs) for mine, theirs, _ in edges}


def test_only_launch_and_jobs_import_launch(edges):
    assert {mine for mine, theirs, _ in edges if theirs == "launch"} == {"launch", "jobs"}


def test_the_package_itself_imports_nothing_of_the_project():
    assert not [module for module, _ in imports_of(PACKAGE / "__init__.py") if module.startswith("sea_ray")]


def test_only_launch_knows_ray_deepspeed_hydra_and_wandb():
    wrong = [f"{file.relative_to(REPO)}:{line} imports {module}" for file in FILES if part_of(file) != "launch"
             for module, line in imports_of(file) if module.split(".")[0] in EDGE]
    assert not wrong


def test_planning_and_composing_import_no_torch():
    """The command line answers a typo at once, and trials of a sweep stay thin clients."""
    code = ("import sys, sea_ray.config, sea_ray.plan, sea_ray.pipeline, sea_ray.launch.cli, sea_ray.launch.compose\n"
            "print([name for name in ('torch', 'transformers', 'ray', 'deepspeed', 'wandb') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
