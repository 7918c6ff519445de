"""`sea-ray judge`: what a judge says of the winner of a finished run: does it refuse, and how good are its dialogues?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from sea_ray.artifacts import Store
from sea_ray.decoding import decode
from sea_ray.errors import ConfigError, DataError
from sea_ray.evaluation.dialogue_judge import DialogueJudgeConfig, judge_agreement, judge_dialogues, judged_report
from sea_ray.evaluation.figures import Detail, EvalReport
from sea_ray.evaluation.published import published_rows
from sea_ray.evaluation.tables import as_text, tables
from sea_ray.launch.console import ConsoleTracker
from sea_ray.launch.offers import stored
from sea_ray.launch.run import load_run
from sea_ray.launch.serve_command import split_overrides
from sea_ray.safety.refusal_judge import JudgeConfig, Judged, agreement_with
from sea_ray.safety.refusal_judge import judge as ask_judge
from sea_ray.safety.refusals import RefusalDetector

JUDGED = "judged"
"""Folder of a run that holds the judge's figures."""


def judge(overrides: Sequence[str], console: Console) -> int:
    """Ask a judge about the winner's answers, print its figures and the agreement, and return the exit code.

    Args:
        overrides: run=NAME, judge={url: URL, model: NAME}, and store.url.
        console: where a person looks.

    Raises:
        SeaRayError: what was refused.
    """
    name, url, _, settings = split_overrides(overrides)
    if set(settings) != {"judge"}:
        raise ConfigError("judge", "set it, and nothing else but run and store.url: 'judge={url: https://HOST/v1, model: NAME}'")
    configs = decode(JudgeConfig, settings["judge"], "judge"), decode(DialogueJudgeConfig, settings["judge"], "judge")
    store = Store(url)
    report = EvalReport.load(stored(store, load_run(store, name)["experiment"]["evaluations"]["winner"]).folder)
    folder = store.run_folder(name)
    answers = [one for one in report.details if one.task.startswith(("refusal", "searefuse", "safety"))]
    turns = tuple(one for one in report.details if one.metric == "points_rules")
    if not answers and not turns:
        raise DataError(f"the winner of {name!r} was asked nothing that a judge is for: no refusal, safety or dialogue")
    if answers:
        _refusals(configs[0], answers, folder, console)
    if turns:
        _dialogues(configs[1], replace(report, details=turns), folder, console)
    return 0


def _refusals(config: JudgeConfig, details: Sequence[Detail], folder: Path, console: Console) -> None:
    """Print how far judge and detector agree on what refuses."""
    pairs = [(one.prompt, one.response) for one in details]
    judged = ask_judge(config, pairs, folder / "judge.jsonl", ConsoleTracker(console))
    refused = RefusalDetector().are_refusals([one.response for one in details])
    for code in dict.fromkeys(one.language for one in details):
        places = [place for place, one in enumerate(details) if one.language == code]
        mine = Judged(verdicts=tuple(judged.verdicts[place] for place in places))
        found = agreement_with(mine, [refused[place] for place in places])
        agreed = f"agree on {found.share:.0%} of {found.items:,}, kappa {found.kappa:.2f}" if found else "cannot be compared"
        console.print(f"{code}: judge and detector {agreed}; unclear {mine.unclear:,}, unparsed {mine.unparsed:,}")


def _dialogues(config: DialogueJudgeConfig, report: EvalReport, folder: Path, console: Console) -> None:
    """Print and keep the judge's figures of the dialogues, and how far it agrees with the rules."""
    points = judge_dialogues(config, report.details, folder / "judge.jsonl", ConsoleTracker(console))
    judged = judged_report(report, points, config)
    judged.save(folder / JUDGED)
    for table in tables([judged], published_rows()):
        console.print(f"{as_text(table)}\n", markup=False)
    for code in dict.fromkeys(one.language for one in report.details):
        places = [place for place, one in enumerate(report.details) if one.language == code]
        found = judge_agreement([report.details[place].score for place in places], [points[place] for place in places])
        if found is None:
            console.print(f"{code}: judge and rules cannot be compared")
        else:
            rank = "not defined" if found.rank_correlation is None else f"{found.rank_correlation:.2f}"
            console.print(f"{code}: judge and rules agree on poor, fair or good for {found.bands.share:.0%} of "
                          f"{found.bands.items:,} turns, kappa {found.bands.kappa:.2f}, rank correlation {rank}")
    console.print(f"judged      {folder / JUDGED}")
