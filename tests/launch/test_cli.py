"""The command line itself: help with examples, exit codes, one line of JSON for machines."""

import contextlib
import importlib
import json
from types import SimpleNamespace

import pytest

from sea_ray import errors
from sea_ray.launch.cli import ARGUMENTS, COMMANDS, EXAMPLES, EXIT_CODES, OPTIONS, main
from sea_ray.launch.console import print_json

PROMISED = ("run", "plan", "submit", "status", "stop", "data", "detect", "train", "sweep", "evaluate", "serve", "report",
            "compare", "packs", "doctor")
PRINTS_RESULTS = ("run", "plan", "evaluate", "compare", "packs", "status", "doctor", "detect", "train", "sweep")


def test_every_command_of_the_issue_is_there():
    assert set(PROMISED) <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_a_function_and_its_help_shows_an_example_and_the_exit_codes(command, capsys):
    module, _, function = COMMANDS[command][0].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert main_exit([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"  sea-ray {command} " in text.partition("examples:")[2]
    assert "exit codes: 0 done; " in text


def main_exit(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def test_no_example_or_option_is_of_a_command_that_is_not_there():
    named = {line.split()[1] for line in EXAMPLES.splitlines() if line.startswith("  sea-ray ")}
    assert named | set(ARGUMENTS) | set(OPTIONS) <= set(COMMANDS)


def failing(error):
    def function(overrides, console, **_):
        raise error

    return function


def kinds():
    """Yield every error that the command line tells apart."""
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.SeaRayError)]
    assert len(found) >= 5
    for kind in found:
        yield kind("path", "message") if kind is errors.ConfigError else kind("message")


@pytest.mark.parametrize("error", [*kinds(), KeyboardInterrupt()], ids=lambda error: type(error).__name__)
def test_every_way_to_end_has_a_documented_exit_code(error, monkeypatch, capsys):
    monkeypatch.setattr("sea_ray.launch.packs.packs", failing(error))
    code = main(["packs", "run=x", "--json"])
    assert code == getattr(error, "exit_code", 130)
    assert code in EXIT_CODES
    said = capsys.readouterr()
    if code != 130:
        assert json.loads(said.out) == {"error": str(error), "kind": type(error).__name__, "exit_code": code}
        assert f"error: {error}" in said.err


def test_the_exit_codes_of_different_matters_differ():
    codes = [error.exit_code for error in kinds()]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("command", PRINTS_RESULTS)
def test_what_prints_results_prints_them_for_machines_too(command):
    assert "--json" in OPTIONS[command]


def test_libraries_that_write_to_standard_output_do_not_spoil_the_json(monkeypatch, capsys):
    def chatty(overrides, console, *, as_json):
        print("a library's warning")
        console.print("for people")
        print_json({"done": True})
        return 0

    monkeypatch.setattr("sea_ray.launch.packs.packs", chatty)
    assert main(["packs", "run=x", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"done": True}
    assert "a library's warning\nfor people" in said.err


def test_doctor_and_plan_tell_machines_what_they_found(capsys, tmp_path):
    code = main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == (4 if found["bad"] else 0)
    assert {"python", "device", "disk"} <= {finding["subject"] for finding in found["findings"]}
    assert main(["plan", "experiment=demo", f"store.url={tmp_path}", "--no-measure", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert {stage["state"] for stage in planned["stages"]} == {"to do", "open"}
    assert planned["seconds"] > 0
    assert planned["result_bytes"] == pytest.approx(sum(stage["bytes"] for stage in planned["stages"]))


def test_a_typo_is_told_in_json_without_a_traceback(capsys, tmp_path):
    assert main(["run", "experiment=dmo", f"store.url={tmp_path}", "--json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert "did you mean demo" in said["error"]


def test_jobs_are_listed_for_machines_without_following_one(monkeypatch, capsys):
    jobs = [SimpleNamespace(submission_id=name, status="RUNNING", entrypoint=f"python {name}", message="", start_time=number,
                            end_time=None) for number, name in enumerate(("one", "two"))]
    monkeypatch.setattr("sea_ray.launch.submit.connected",
                        lambda address: contextlib.nullcontext(SimpleNamespace(list_jobs=lambda: jobs)))
    assert main(["status", "--json"]) == 0
    assert [job["job"] for job in json.loads(capsys.readouterr().out)["jobs"]] == ["one", "two"]
    assert main(["status", "two", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["jobs"] == [
        {"job": "two", "status": "RUNNING", "command": "python two", "message": "", "started_ms": 1, "ended_ms": None}]
