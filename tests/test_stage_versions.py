"""A stage's version is raised when its code computes something else: a digest of the code behind each stage asks.

The digest is of the syntax trees of all modules that a stage's functions import, directly or not, and of the data files
of their packages. Comments, docstrings and layout are not in it. After a change:

1. if results change, raise VERSIONS[kind] in sea_ray/plan.py, so that stored results are not taken for new ones;
2. run `python -m tests.test_stage_versions --accept` and commit tests/stage_code.json.
"""

import ast
import hashlib
import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "sea_ray"
STORED = Path(__file__).with_name("stage_code.json")

CARRIERS = {"sea_ray", "sea_ray.errors", "sea_ray.tracking", "sea_ray.artifacts", "sea_ray.execution"}
"""Modules that carry a result and don't decide it."""


def versions() -> dict[str, int]:
    from sea_ray.plan import VERSIONS

    return dict(VERSIONS)


@cache
def functions() -> dict[str, set[str]]:
    """Return kind -> "module:function" names that its Stage(...) calls in sea_ray/plan.py give."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse((PACKAGE / "plan.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Stage":
            given = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
            names = {given[word] for word in ("function", "combine") if given.get(word)}
            found.setdefault(given["kind"], set()).update(names)
    return found


def file_of(module: str) -> Path | None:
    """Return the file of a module of this project, or None if it is none."""
    place = REPO.joinpath(*module.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


@cache
def tree_of(module: str) -> ast.Module:
    file = file_of(module)
    assert file is not None
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def imports_of(module: str) -> frozenset[str]:
    """Return the project's modules that a module imports, with the packages around them."""
    found = set()
    for node in ast.walk(tree_of(module)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            if parts[0] == "sea_ray":
                around = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
                found.update(part for part in around if file_of(part))
    return frozenset(found)


def behind(module: str) -> set[str]:
    """Return a module and all that it imports, directly or not."""
    reached, waiting = set[str](), [module]
    while waiting:
        name = waiting.pop()
        if name not in reached and name not in CARRIERS:
            reached.add(name)
            waiting.extend(imports_of(name))
    return reached


def is_text(node: object) -> bool:
    """Return whether a statement is a string alone: a docstring of a module, function, class or field."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def normal(node: object) -> object:
    """Return a syntax tree as nested lists, the same in every Python version, without what computes nothing."""
    if isinstance(node, list):
        return [normal(item) for item in node if not is_text(item)]
    if isinstance(node, ast.AST):
        fields = [[name, normal(value)] for name, value in ast.iter_fields(node)
                  if name not in ("ctx", "kind", "type_comment", "type_params")]
        return [type(node).__name__, [pair for pair in fields if pair[1] not in (None, [])]]
    return node if node is None or isinstance(node, str | int) else repr(node)


@cache
def module_digest(module: str) -> str:
    return hashlib.sha256(json.dumps(normal(tree_of(module))).encode()).hexdigest()


def data_files(module: str) -> Iterator[Path]:
    """Yield the files that are no code in the folder of a package."""
    file = file_of(module)
    if file is not None and file.name == "__init__.py" and file.parent != PACKAGE:
        yield from (path for path in sorted(file.parent.rglob("*")) if path.is_file()
                    and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts)


@cache
def digest(kind: str) -> str:
    """Return 16 hexadecimal digits of the code and data behind a kind of stage."""
    modules = sorted(set().union(*(behind(name.partition(":")[0]) for name in functions()[kind])))
    parts = [f"{module} {module_digest(module)}" for module in modules]
    parts += [f"{path.relative_to(REPO)} {hashlib.sha256(path.read_bytes()).hexdigest()}"
              for module in modules for path in data_files(module)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def current() -> dict[str, dict[str, Any]]:
    return {kind: {"version": number, "digest": digest(kind)} for kind, number in versions().items()}


def stored() -> dict[str, dict[str, Any]]:
    return json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else {}


def test_every_kind_of_stage_has_a_version_and_an_accepted_digest():
    assert set(functions()) == set(versions())
    assert set(stored()) == set(versions()), "run `python -m tests.test_stage_versions --accept`"


def test_every_function_that_a_stage_names_exists():
    for names in functions().values():
        for name in names:
            module, _, function = name.partition(":")
            assert file_of(module) is not None, name
            assert function in {node.name for node in tree_of(module).body if isinstance(node, ast.FunctionDef)}, name


@pytest.mark.parametrize("kind", versions())
def test_changed_code_has_a_new_version_or_was_accepted(kind):
    found, accepted = {"version": versions()[kind], "digest": digest(kind)}, stored().get(kind)
    if found != accepted:
        pytest.fail(f"the code behind stage {kind!r} is {found}, accepted in tests/{STORED.name} is {accepted}.\n"
                    f"1. If the stage now computes something else, raise VERSIONS[{kind!r}] in sea_ray/plan.py "
                    f"(it is {found['version']}), else stored results of the old code are reused.\n"
                    "2. Then, or if results stay the same, run `python -m tests.test_stage_versions --accept` and "
                    f"commit tests/{STORED.name}.", pytrace=False)


def test_comments_docstrings_and_layout_are_not_in_the_digest():
    code = 'def f(a):\n    """Say."""\n    # why\n    return a + 1\n'
    same = "def f(a):\n\n    return (a\n            + 1)\n"
    other = "def f(a):\n    return a + 2\n"
    assert normal(ast.parse(code)) == normal(ast.parse(same)) != normal(ast.parse(other))


def test_the_digest_sees_code_that_is_imported_indirectly_and_data_files():
    modules = behind("sea_ray.stages.sft")
    assert {"sea_ray.stages.sft", "sea_ray.training.loop", "sea_ray.training.token_loss"} <= modules
    assert "sea_ray.demo.world" in modules
    assert "sea_ray.tracking" not in modules
    assert "sea_ray.report.page" not in modules
    assert "en.yaml" in {path.name for module in modules for path in data_files(module)}


def accept() -> int:
    """Store the present digests; a version never falls, since a result of that number may be stored."""
    now, before = current(), stored()
    fallen = [kind for kind, number in versions().items() if kind in before and number < before[kind]["version"]]
    if fallen:
        print(f"refused: the version of {', '.join(fallen)} is lower than the accepted one; results of that number may "
              "be stored, so only raise it")
        return 1
    STORED.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    for kind in now:
        if now[kind] != before.get(kind):
            print(f"accepted {kind}: version {now[kind]['version']}, digest {now[kind]['digest']}")
    return 0


if __name__ == "__main__":
    if sys.argv[1:] != ["--accept"]:
        sys.exit("usage: python -m tests.test_stage_versions --accept")
    sys.exit(accept())
