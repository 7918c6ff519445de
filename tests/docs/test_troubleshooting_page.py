"""docs/troubleshooting.md: every message that it explains is one that the code says."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from sea_ray import errors
from sea_ray.launch import cli

REPO = Path(__file__).resolve().parents[2]
TEXT = (REPO / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^### `(.+)`$", TEXT, re.MULTILINE)
ANY = "…"


def written(node):
    """Return a string of the code, with ANY for each part that differs; None if it is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(value.value if isinstance(value, ast.Constant) else ANY for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return f"{written(node.left) or ANY}{written(node.right) or ANY}"
    return None


@cache
def said():
    """Return every string of the package's code."""
    found = set()
    for file in (REPO / "sea_ray").rglob("*.py"):
        found.update(filter(None, map(written, ast.walk(ast.parse(file.read_text(encoding="utf-8"))))))
    return found


def is_said(message):
    """Return whether the fixed parts of a message stand in one string of the code, in order."""
    pattern = re.compile(".*".join(re.escape(part) for part in message.split(ANY)), re.DOTALL)
    return any(pattern.search(text.replace("`", ANY)) for text in said())


@pytest.mark.parametrize("message", MESSAGES)
def test_the_code_says_this_message(message):
    assert sum(len(part) for part in message.split(ANY)) > 10, "too little of it is fixed to be found again"
    assert is_said(message)


def test_a_message_that_the_code_does_not_say_is_noticed():
    assert not is_said(f"no file matches {ANY}; correct the glob or corpus.place")


def test_every_exit_code_has_its_messages():
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SeaRayError)}
    assert codes == {int(code) for code in re.findall(r"^## .*\(exit code (\d)\)$", TEXT, re.MULTILINE)}
    assert len(MESSAGES) >= 45


def test_the_exit_codes_are_those_of_the_command_line():
    assert {int(code) for code in re.findall(r"\b(\d+) [a-z]", TEXT.partition("\n\n## ")[0])} == set(cli.EXIT_CODES)
