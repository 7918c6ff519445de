"""docs/configuration.md: every setting with its type, default and meaning, out of the dataclasses themselves."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union

from sea_ray.config import ExperimentConfig
from sea_ray.evaluation.dialogue_judge import DialogueJudgeConfig
from sea_ray.launch.compose import groups
from sea_ray.launch.evaluate_command import EvaluateConfig
from sea_ray.launch.export import ExportConfig
from sea_ray.safety.refusal_judge import JudgeConfig

REPO = Path(__file__).resolve().parents[1]
PAGE = REPO / "docs" / "configuration.md"
COMMANDS: dict[str, type] = {"`sea-ray evaluate`": EvaluateConfig, "`sea-ray export`": ExportConfig,
                             "`sea-ray judge`, of refusals": JudgeConfig,
                             "`sea-ray judge`, of dialogues": DialogueJudgeConfig}
"""Heading -> settings of a command that takes no experiment."""
_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null", Any: "anything"}
_INTRO = """# Settings

<!-- Made by `python -m handbook` from the dataclasses; edit their docstrings, not this page. -->

Every setting is said on the command line by its dotted path, `sea-ray run experiment=demo corpus.demo.train_documents=500`, or
in a file of `conf/`. The composition begins with one file of each group, then comes the file of `conf/experiment/`, then the
command line. `group=NAME` takes another file of a group. A default below is what holds where neither a file nor the command
line says anything; *needed* has none. A wrong name or value is refused before anything starts, with its path and the nearest
names.
"""


@dataclasses.dataclass(frozen=True)
class Section:
    """A group of settings and where it is set."""

    kind: type
    paths: list[str]

    @property
    def title(self) -> str:
        """The place where it is set, or, of several, its name."""
        return self.paths[0] if len(self.paths) == 1 else self.kind.__name__


def page() -> str:
    """Return the text of the page."""
    sections = {kind: Section(kind, paths) for kind, paths in _places().items()}
    own = [section for section in sections.values() if len(section.paths) == 1]
    choices = groups(REPO / "conf")
    parts = [_INTRO, "## The experiment\n", *_table(ExperimentConfig, sections, dataclasses.fields(ExperimentConfig))]
    for group in (field.name for field in dataclasses.fields(ExperimentConfig)):
        of_group = [section for section in own if section.title.split(".")[0] == group]
        if of_group:
            parts += [f"\n## The group `{group}`", *_files(group, choices)]
        for section in of_group:
            parts += _section(section, sections)
    parts.append("\n## Settings in several places")
    for section in sections.values():
        if len(section.paths) > 1:
            parts += _section(section, sections)
    parts.append("\n## Commands with settings of their own")
    for title, kind in COMMANDS.items():
        parts += [f"\n### {title}\n", f"{_prose(inspect.getdoc(kind) or '')}\n",
                  *_table(kind, sections, dataclasses.fields(kind))]
    return "\n".join(parts) + "\n"


def write() -> bool:
    """Write the page; return whether it changed."""
    before, text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else "", page()
    PAGE.write_text(text, encoding="utf-8")
    return text != before


def _places() -> dict[type, list[str]]:
    """Return group of settings -> dotted paths at which it stands, in the order of the experiment."""
    found: dict[type, list[str]] = {}

    def visit(kind: Any, path: str) -> None:
        for inner, below in _inner(kind, path):
            found.setdefault(inner, [])
            if below not in found[inner]:
                found[inner].append(below)
                for name, hint in typing.get_type_hints(inner).items():
                    if name in inner.__dataclass_fields__:
                        visit(hint, f"{below}.{name}")

    for field in dataclasses.fields(ExperimentConfig):
        visit(typing.get_type_hints(ExperimentConfig)[field.name], field.name)
    return found


def _inner(kind: Any, path: str) -> Iterator[tuple[type, str]]:
    """Yield the groups of settings that a type holds, with their paths; `*` stands for any name, `[]` for each of a list."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        yield kind, path
        return
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        path += "[]"
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        path, arguments = f"{path}.*", arguments[1:]
    elif origin is Literal:
        return
    for argument in arguments:
        yield from _inner(argument, path)


def _files(group: str, choices: Mapping[str, list[str]]) -> list[str]:
    """Return a line for the files of a group and of the groups within it."""
    return [f"\nFiles of `conf/{name}/`: {', '.join(f'`{name}={choice}`' for choice in files)}."
            for name, files in choices.items() if name.split("/")[0] == group]


def _section(section: Section, sections: Mapping[type, Section]) -> list[str]:
    several = len(section.paths) > 1
    at = f" Stands at {', '.join(f'`{path}`' for path in section.paths)}." if several else ""
    return [f"\n### `{section.title}`\n", f"{_prose(inspect.getdoc(section.kind) or '')}{at}\n",
            *_table(section.kind, sections, dataclasses.fields(section.kind))]


def _table(kind: type, sections: Mapping[type, Section], fields: tuple[dataclasses.Field, ...]) -> list[str]:
    hints, docs = typing.get_type_hints(kind), _docstrings(kind)
    rows = []
    for field in fields:
        if field.init:
            said = docs.get(field.name) or _first_sentence(hints[field.name])
            rows.append(f"| `{field.name}` | {_in_words(hints[field.name], sections)} | {_default(field)} | {_prose(said)} |")
    return ["| setting | value | default | meaning |", "|---|---|---|---|", *rows]


@cache
def _docstrings(kind: type) -> dict[str, str]:
    """Return field -> the text under it, those of its parents included."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if dataclasses.is_dataclass(one):
            body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
            assert isinstance(body, ast.ClassDef)
            for field, text in zip(body.body, body.body[1:], strict=False):
                if (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr)
                        and isinstance(text.value, ast.Constant)):
                    found[field.target.id] = str(text.value.value)
    return found


def _first_sentence(kind: Any) -> str:
    """Return what the first group of settings within a type says of itself."""
    inner = next(_inner(kind, ""), None)
    return (inspect.getdoc(inner[0]) or "").partition("\n\n")[0] if inner else ""


def _in_words(kind: Any, sections: Mapping[type, Section]) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return f"[{kind.__name__}](#{_anchor(sections[kind].title)})"
    if origin in (Union, types.UnionType):
        return _joined([_in_words(one, sections) for one in arguments])
    if origin is Literal:
        return _joined([f"`{one}`" for one in arguments])
    if origin is tuple:
        count = "" if arguments[-1] is ... else f"{len(arguments)} of "
        return f"list of {count}{_in_words(arguments[0], sections)}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"names with {_in_words(arguments[1], sections)}"
    return _WORDS.get(kind, str(kind))


def _joined(words: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _default(field: dataclasses.Field) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "*needed*"
    if dataclasses.is_dataclass(value):
        return "its own"
    written = json.dumps(value, ensure_ascii=False).replace('"', "")
    return f"`{written}`" if value != "" else "empty"


def _prose(text: str) -> str:
    """Return a docstring as text of a table's cell."""
    flat = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    return re.sub(r"(?<!\\)\*", r"\\*", flat)


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
