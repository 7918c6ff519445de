"""`sea-ray judge`: a second opinion on what the winner of a finished run refused."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from sea_ray.artifacts import Store
from sea_ray.decoding import decode
from sea_ray.errors import ConfigError
from sea_ray.evaluation.figures import EvalReport
from sea_ray.launch.console import ConsoleTracker
from sea_ray.launch.offers import stored
from sea_ray.launch.run import load_run
from sea_ray.launch.serve_command import split_overrides
from sea_ray.safety.refusal_judge import JudgeConfig, Judged, agreement_with
from sea_ray.safety.refusal_judge import judge as ask_judge
from sea_ray.safety.refusals import RefusalDetector


def judge(overrides: Sequence[str], console: Console) -> int:
    """Ask a judge about the winner's answers to questions that may be refused, print the agreement, and return the exit code.

    Args:
        overrides: run=NAME, judge={url: URL, model: NAME}, and store.url.
        console: where a person looks.

    Raises:
        SeaRayError: what was refused.
    """
    name, url, _, settings = split_overrides(overrides)
    if set(settings) != {"judge"}:
        raise ConfigError("judge", "set it, and nothing else but run and store.url: 'judge={url: https://HOST/v1, model: NAME}'")
    config = decode(JudgeConfig, settings["judge"], "judge")
    store = Store(url)
    report = EvalReport.load(stored(store, load_run(store, name)["experiment"]["evaluations"]["winner"]).folder)
    details = [one for one in report.details if one.task.startswith(("refusal", "safety"))]
    log = store.run_folder(name) / "judge.jsonl"
    judged = ask_judge(config, [(one.prompt, one.response) for one in details], log, ConsoleTracker(console))
    refused = RefusalDetector().are_refusals([one.response for one in details])
    for code in dict.fromkeys(one.language for one in details):
        places = [place for place, one in enumerate(details) if one.language == code]
        mine = Judged(verdicts=tuple(judged.verdicts[place] for place in places))
        found = agreement_with(mine, [refused[place] for place in places])
        agreed = f"agree on {found.share:.0%} of {found.items:,}, kappa {found.kappa:.2f}" if found else "cannot be compared"
        console.print(f"{code}: judge and detector {agreed}; unclear {mine.unclear:,}, unparsed {mine.unparsed:,}")
    return 0
