# PYTHON_ARGCOMPLETE_OK
"""The `sea-ray` command."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

import sea_ray
from sea_ray.errors import SeaRayError
from sea_ray.launch.console import for_machines, print_json

EXAMPLES = """examples:
  sea-ray doctor --online
  sea-ray plan experiment=demo
  sea-ray run experiment=demo
  sea-ray run experiment=demo --json
  sea-ray detect experiment=demo neurons.selection.top_frac=0.1
  sea-ray train experiment=demo 'sweep.neurons.space={neurons.selection.top_frac: [0.05]}'
  sea-ray sweep experiment=demo sweep/neurons=lsn_threshold
  sea-ray report run=demo
  sea-ray packs run=demo
  sea-ray export run=demo to=FOLDER licence=apache-2.0
  sea-ray export run=demo to=FOLDER packs=[th,vi] push=USER/NAME
  sea-ray data experiment=local_text corpus.root=DIR
  sea-ray run experiment=local_text corpus.root=DIR
  sea-ray run experiment=demo 'sweep.neurons.space={neurons.selection.top_frac: [0.02, 0.05]}'
  sea-ray review experiment=demo
  sea-ray evaluate model=Qwen/Qwen2-0.5B tasks=[m3exam,mgsm] languages=[th,vi] root=DIR prompting=plain
  sea-ray compare demo other
  sea-ray sync demo
  sea-ray dashboard experiment=demo --dry-run
  sea-ray submit --address http://127.0.0.1:8265 run experiment=demo
  sea-ray submit --address http://127.0.0.1:8265 run experiment=demo until=detection
  sea-ray judge run=demo 'judge={url: https://HOST/v1, model: NAME}'
  sea-ray generate experiment=demo sft.generate=swap 'sft.questions={th: th.jsonl}'
  sea-ray status --address http://127.0.0.1:8265 --json
  sea-ray stop --address http://127.0.0.1:8265 JOB
  sea-ray clean store.url=runs
  sea-ray serve run=demo
  sea-ray serve run=demo serving.port=9000 serving.with_base=true
  sea-ray serve checkpoint=FOLDER_OR_HUB_ID
  sea-ray serve run=demo --build service.yaml
  sea-ray rollout run=ANOTHER cluster.address=ADDRESS
  sea-ray rollback cluster.address=ADDRESS

tab completion, in ~/.bashrc or ~/.zshrc: eval "$(register-python-argcomplete sea-ray)"
"""
EXIT_CODES = {0: "done", 1: "refused, such as a winner that failed its gate, or a job that failed",
              2: "the configuration is wrong", 3: "the data are wrong", 4: "the machine lacks something",
              5: "the budget has ended", 130: "interrupted"}
"""Exit code -> what it says; 1 is also what an error of the program itself ends with."""


COMMANDS = {
    "run": ("sea_ray.launch.run:run", "carry out an experiment: detection, training, sweeps, evaluation, report"),
    "detect": ("sea_ray.launch.run:detect", "carry out an experiment up to detection and show each language's neurons"),
    "train": ("sea_ray.launch.run:train", "carry out an experiment until the neurons are trained and merged, and show the packs"),
    "sweep": ("sea_ray.launch.run:sweep", "carry out the sweeps of an experiment, with what they rest on, and show their trials"),
    "report": ("sea_ray.launch.report:report", "write the page of a run again, or of what is there of one that has not finished"),
    "packs": ("sea_ray.launch.packs:packs", "list a run's language packs: neurons, bytes, gain, and how to apply them"),
    "export": ("sea_ray.launch.export:export",
               "write a run's winner, or its packs, as a Hugging Face folder with a card, and push it when asked"),
    "data": ("sea_ray.launch.data:data", "make and show what an experiment is trained on: cleaning, shares, tokens, samples"),
    "plan": ("sea_ray.launch.plan:plan",
             "say what an experiment will do, take and cost, and whether it fits, before anything starts"),
    "doctor": ("sea_ray.launch.doctor:doctor", "look whether this machine, and the Hub, have what the experiments need"),
    "generate": ("sea_ray.launch.generate:generate",
                 "make conversations: a teacher's instructions, or questions about what does not exist, by swap or stories"),
    "review": ("sea_ray.launch.review:review",
               "write sheets of what is taught for native speakers, or read those in sft.data.reviews"),
    "evaluate": ("sea_ray.launch.evaluate_command:evaluate",
                 "ask any checkpoint or endpoint public benchmarks, such as evaluate model=DIR tasks=[m3exam,mgsm] root=DIR"),
    "judge": ("sea_ray.launch.judge:judge", "ask a judge about the winner: does it refuse, how good are its dialogues"),
    "compare": ("sea_ray.launch.compare:compare_runs", "say what two runs differ in, and whether their winners really differ"),
    "sync": ("sea_ray.launch.sync:sync", "send what a run recorded to W&B, once there is a network and a key"),
    "dashboard": ("sea_ray.launch.dashboard:dashboard", "make a W&B workspace and a report for an experiment's runs"),
    "submit": ("sea_ray.launch.submit:submit", "carry out a command on a cluster as a job, such as submit run experiment=demo"),
    "status": ("sea_ray.launch.submit:status", "list a cluster's jobs, or show the output of one and follow it"),
    "stop": ("sea_ray.launch.submit:stop", "stop a job of a cluster; what it had finished is reused"),
    "clean": ("sea_ray.launch.clean:clean", "show what a store holds and remove what no run's record needs"),
    "serve": ("sea_ray.launch.serve_command:serve",
              "serve the winner of a finished run, or any checkpoint, behind an OpenAI-compatible API"),
    "rollout": ("sea_ray.launch.serve_command:rollout", "let another checkpoint take over in a running service"),
    "rollback": ("sea_ray.launch.serve_command:rollback", "let what a rollout replaced answer again"),
}
"""Command -> the function that carries it out, imported only then, and what --help says of it."""

ARGUMENTS = {"serve": ("KEY=VALUE", "run=NAME or checkpoint=FOLDER_OR_HUB_ID, and settings"),
             "rollout": ("KEY=VALUE", "run=NAME or checkpoint=FOLDER_OR_HUB_ID, and cluster.address"),
             "rollback": ("KEY=VALUE", "cluster.address, where the service runs"),
             "submit": ("COMMAND KEY=VALUE", "command and Hydra overrides"), "status": ("JOB", "one of them"),
             "stop": ("JOB", "which"),
             "evaluate": ("KEY=VALUE", "settings of sea_ray/launch/evaluate_command.py"),
             "sync": ("RUN", "one run, and store.url=URL, tracking.entity=NAME"),
             "compare": ("RUN RUN", "two finished runs, and store.url=URL"),
             **dict.fromkeys(("report", "packs"), ("run=NAME", "a run, and store.url=URL")),
             "export": ("KEY=VALUE", "run=NAME to=FOLDER, and settings of sea_ray/launch/export.py"),
             "clean": ("store.url=URL", "folder or fsspec URL (default: runs)")}
"""Command -> what it takes instead of overrides, and what --help says of that."""
_YES: dict[str, dict[str, Any]] = {"--yes": {"action": "store_true", "help": "agree beforehand, to what it costs or removes"}}
_ADDRESS: dict[str, dict[str, Any]] = {"--address": {
    "default": "http://127.0.0.1:8265", "help": "the cluster's dashboard (default: %(default)s)"}}
_JSON: dict[str, dict[str, Any]] = {"--json": {"dest": "as_json", "action": "store_true", "help":
                                               "print the result, or the error, as one line of JSON; all else goes to stderr"}}
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    **dict.fromkeys(("run", "detect", "train", "sweep"), _YES | _JSON),
    **dict.fromkeys(("evaluate", "compare", "packs"), _JSON),
    "plan": {**_JSON, "--no-measure": {"dest": "measure", "action": "store_false",
                              "help": "take the pace from the table of accelerators instead of timing a few steps"}},
    "doctor": {**_JSON, "--online": {"action": "store_true", "help": "ask the Hugging Face Hub about every id in conf/, too"}},
    "submit": {**_ADDRESS, **_YES,
               "--no-follow": {"dest": "follow", "action": "store_false", "help": "don't wait for the job's end"},
               "--again": {"action": "store_true", "help": "submit it once more although it has succeeded"},
               "--python": {"default": "python", "help": "the cluster's interpreter (default: %(default)s)"}},
    "dashboard": {"--dry-run": {"dest": "dry_run", "action": "store_true", "help": "print the spec; nothing is sent"}},
    "status": {**_ADDRESS, **_JSON}, "stop": _ADDRESS,
    "serve": {"--build": {"metavar": "FILE", "default": "",
                          "help": "write the service into a file for `serve deploy` and KubeRay; nothing is started"}},
    "clean": {**_YES, "--days": {"type": float, "default": 14.0, "help":
                                 "age from which what no run's record needs, and states of what is not finished, may go "
                                 "(default: %(default)g)"}}}
"""Command -> what it takes besides overrides."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: without the program's name; None takes the process's.
    """
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)  # answers the shell and ends the process
    parsed = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `ray job stop` ends a job like Ctrl-C ends a terminal's
    with for_machines() if getattr(parsed, "as_json", False) else contextlib.nullcontext():
        return _carry_out(parsed)


def _carry_out(parsed: argparse.Namespace) -> int:
    flags = {name: value for name, value in vars(parsed).items() if name not in ("command", "overrides")}
    console = Console(highlight=False, soft_wrap=True)
    try:
        module, _, function = COMMANDS[parsed.command][0].partition(":")
        return getattr(importlib.import_module(module), function)(parsed.overrides, console, **flags)
    except SeaRayError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(Text(f"error: {error}", style="red"))
        if flags.get("as_json"):
            print_json({"error": str(error), "kind": type(error).__name__, "exit_code": error.exit_code})
        return error.exit_code
    except KeyboardInterrupt:
        console.print("interrupted; workers and servers are stopped, finished stages stay reusable")
        return 130


def _complete(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return what completes a word, for argcomplete."""
    from sea_ray.launch.completion import complete

    return complete(parsed_args.command, prefix, parsed_args.overrides or [])


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands, each with its own examples."""
    codes = "exit codes: " + "; ".join(f"{code} {text}" for code, text in EXIT_CODES.items())
    form: Any = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(prog="sea-ray", description=sea_ray.__doc__, epilog=f"{EXAMPLES}\n{codes}", **form)
    parser.add_argument("--version", action="version", version=f"sea-ray {sea_ray.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, text) in COMMANDS.items():
        own = [line for line in EXAMPLES.splitlines() if line.startswith(f"  sea-ray {name} ")]
        command = commands.add_parser(name, help=text, description=text, epilog="\n".join(["examples:", *own, "", codes]), **form)
        metavar, what = ARGUMENTS.get(name, ("KEY=VALUE", "Hydra overrides"))
        overrides: Any = command.add_argument("overrides", nargs="*", metavar=metavar, help=what)
        overrides.completer = _complete
        for flag, settings in OPTIONS.get(name, {}).items():
            command.add_argument(flag, **settings)
    return parser


if __name__ == "__main__":
    sys.exit(main())
