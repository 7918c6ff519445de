"""Every command of the README, of docs/ and of --help is one that there is: known, with known options, and composed up to the
point where it would begin; what needs a cloud says so."""

import importlib.util
import re
import shlex
import typing
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path

import pytest
from shell_blocks import CLOUD, PAGES, PARSED, REPO, Command, commands

from sea_ray.artifacts import plain
from sea_ray.config import ExperimentConfig
from sea_ray.decoding import decode
from sea_ray.errors import ConfigError
from sea_ray.evaluation.dialogue_judge import DialogueJudgeConfig
from sea_ray.launch import cli
from sea_ray.launch.compose import compose_experiment, groups
from sea_ray.launch.evaluate_command import EvaluateConfig, _settings
from sea_ray.launch.export import ExportConfig
from sea_ray.launch.reading import named_run
from sea_ray.launch.serve_command import service_settings, split_overrides
from sea_ray.safety.refusal_judge import JudgeConfig

HELP = [Command("--help", number, tuple(shlex.split(line))) for number, line in enumerate(cli.EXAMPLES.splitlines(), 1)
        if line.startswith("  sea-ray ")]
FOUND = [*(command for page in PAGES for command in commands(page)), *HELP]
OURS = [command for command in FOUND if command.words[0] == "sea-ray"]
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (REPO / "Makefile").read_text(), re.MULTILINE))
CLOUDS = {("ray", "up"), ("ray", "down"), ("ray", "exec"), ("ray", "dashboard"), ("kubectl",), ("gcloud",), ("aws",),
          ("python", "-m", "deploy.aws")}
"""Beginnings of commands that need a cloud."""
ELSEWHERE = {"safety.ignore_gate", "model.generate"}
"""What looks like settings of an experiment and is a word of `sea-ray serve`, and a function of transformers."""
OWN_EXPERIMENTS = {"experiment=my_text", "experiment=ceb"}
"""Shown in docs/own_data.md and docs/own_language.md, whose tests compose them."""
composed = cache(compose_experiment)


def parsed(words, monkeypatch):
    """Return what a command is told besides its options, as the command line reads it; nothing is carried out."""
    monkeypatch.setitem(cli.COMMANDS, words[1], ("shell_blocks:carried_out", ""))
    PARSED.clear()
    assert cli.main(list(words[1:])) == 0
    return PARSED.pop()


def test_commands_are_found_on_every_page_that_has_some():
    pages = {Path(command.page).stem for command in OURS}
    assert {"README", "quick_start", "own_data", "sweeps", "studies", "serving", "cluster", "one_gpu"} <= pages
    assert len(OURS) > 60


@pytest.mark.parametrize("command", [command for command in OURS if not command.is_inline], ids=str)
def test_a_command_is_understood_and_composes(command, monkeypatch, tmp_path):
    name = command.words[1]
    assert name in cli.COMMANDS
    overrides = [re.sub("DIGEST_.", "a" * 64, text.replace("DIR", str(tmp_path))) for text in parsed(command.words, monkeypatch)]
    check(name, ["experiment=own_text" if text in OWN_EXPERIMENTS else text for text in overrides])


def check(name, overrides):
    """Compose what a command is told, as it does itself before it begins."""
    if name == "submit":
        assert (REPO / "jobs" / f"{overrides[0]}.py").exists()
        overrides = overrides[1:]
    if name == "evaluate":
        assert decode(EvaluateConfig, _settings(overrides)).tasks
    elif name == "export":
        *_, settings = named_run(overrides, *ExportConfig.__dataclass_fields__, "safety.ignore_gate")
        assert decode(ExportConfig, settings).to
    elif name == "judge":
        *_, settings = split_overrides(overrides)
        assert decode(JudgeConfig, settings["judge"])
        assert decode(DialogueJudgeConfig, settings["judge"])
    elif name in ("serve", "rollout"):
        *_, settings = split_overrides(overrides)
        changes = {path: value for path, value in settings.items() if path not in ("checkpoint", "packs")}
        assert service_settings(plain(composed(("experiment=demo",))), changes)
    elif name not in cli.ARGUMENTS or name == "submit":
        assert name == "doctor" or composed(tuple(overrides)).name


@pytest.mark.parametrize("command", [command for command in OURS if command.is_inline], ids=str)
def test_a_command_in_a_sentence_is_one_that_there_is(command):
    name, *words = command.words[1:]
    assert name in cli.COMMANDS or name in ("--help", "--version")
    options = {"--help", "--json"} if name in cli.COMMANDS else set()
    assert {word for word in words if word.startswith("--")} <= options | {*cli.OPTIONS.get(name, ())}
    for word in words:
        key, _, value = word.lstrip("+~").partition("=")
        if key in groups(REPO / "conf") and value.islower():
            assert value in groups(REPO / "conf")[key] or f"{key}={value}" in OWN_EXPERIMENTS


@pytest.mark.parametrize("command", [command for command in FOUND if command.words[0] == "make"], ids=str)
def test_a_target_of_make_is_one_that_there_is(command):
    assert {word for word in command.words[1:] if "=" not in word} <= TARGETS


@pytest.mark.parametrize("command", [command for command in FOUND if command.words[:2] == ("python", "-m")], ids=str)
def test_a_program_is_one_that_there_is_with_these_options(command):
    module, *words = command.words[2:]
    spec = importlib.util.find_spec(module)
    assert spec is not None
    if module.split(".")[0] in ("benchmarks", "deploy"):
        folder = Path(spec.origin).parent
        sources = "".join(file.read_text(encoding="utf-8") for file in folder.glob("*.py"))
        for option in (word for word in words if word.startswith("--")):
            assert f'"{option}"' in sources


def test_what_needs_a_cloud_says_so_and_nothing_else_does():
    blocks = [command for command in FOUND if not command.is_inline]
    for command in blocks:
        if any(command.words[:len(beginning)] == beginning for beginning in CLOUDS):
            assert command.needs_cloud, str(command)
    for page in PAGES:
        if not any(command.needs_cloud for command in blocks if command.page == page.name):
            assert not CLOUD.search(page.read_text(encoding="utf-8"))


def setting(path):
    """Return whether a dotted path leads to a setting."""
    kinds = [ExperimentConfig]
    for part in path.split("."):
        inner = []
        for kind in kinds:
            if is_dataclass(kind) and part in kind.__dataclass_fields__:
                inner += unwrapped(typing.get_type_hints(kind)[part])
            elif typing.get_origin(kind) and issubclass(typing.get_origin(kind), Mapping):
                inner += unwrapped(typing.get_args(kind)[1])
        kinds = inner
    return bool(kinds)


def unwrapped(kind):
    origin = typing.get_origin(kind)
    if origin is tuple or type(kind).__name__ == "UnionType" or origin is typing.Union:
        return [one for argument in typing.get_args(kind) for one in unwrapped(argument)]
    return [kind]


NAMED = sorted({(page.name, path) for page in PAGES for path in re.findall(
    rf"`[~+]?((?:{'|'.join(ExperimentConfig.__dataclass_fields__)})(?:\.[a-z_0-9]+)+)(?=[=`])", page.read_text(encoding="utf-8"))
    if not re.search(r"\.(json|jsonl|md|html|py|yaml|db)$", path)} - {(page.name, path) for page in PAGES for path in ELSEWHERE})


@pytest.mark.parametrize(("page", "path"), NAMED, ids=" ".join)
def test_a_setting_that_a_page_names_is_one_that_there_is(page, path):
    assert setting(path)


def test_a_setting_that_is_not_there_is_noticed():
    assert not setting("corpus.demo.train_docs")
    assert setting("corpus.paths.th.glob")
    assert len(NAMED) > 60
    with pytest.raises(ConfigError):
        check("run", ["experiment=demo", "corpus.rot=x"])
