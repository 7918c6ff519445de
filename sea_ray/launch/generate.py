"""`sea-ray generate`: new instructions from a teacher, or questions about what does not exist beside answerable ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from sea_ray.artifacts import Store
from sea_ray.config import ExperimentConfig
from sea_ray.demo import World
from sea_ray.errors import ConfigError
from sea_ray.languages import ADDED
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.console import ConsoleTracker
from sea_ray.sft import self_instruct, stories
from sea_ray.sft.stages import REFUSAL_KINDS, build_stage_data
from sea_ray.sft.teacher import Generated, TeacherConfig
from sea_ray.sft.unanswerable import Question, read_questions, swap


def generate(overrides: Sequence[str], console: Console) -> int:
    """Write files that sft.data can name, by the way that sft.generate says, and return the exit code.

    Args:
        overrides: Hydra overrides; `experiment=NAME` is required.
        console: where a person looks.

    Raises:
        SeaRayError: what was refused.
    """
    config = compose_experiment(overrides)
    way = config.sft.generate
    folder = Store(config.store.url).run_folder(config.name) / "generated"
    if way == "swap":
        if not config.sft.questions:
            raise ConfigError("sft.questions", "there are none to swap entities in; write 'sft.questions={th: FILE.jsonl}'")
        _tell(swap(_questions(config), config.seed, folder / way), folder / way, console)
    elif way == "stories":
        teacher = _teacher(config)
        if silent := [code for code in config.corpus.languages if code in ADDED]:
            console.print(f"left out    {', '.join(silent)}: stories need refusals in a language")
        questions = {code: list[Question]() for code in config.corpus.languages if code not in ADDED} | _questions(config)
        _tell_cost(stories.generate(teacher, questions, folder / way, ConsoleTracker(console)), folder / way, console)
    else:
        teacher = _teacher(config)
        world = World(config.corpus.demo.world_seed, config.corpus.languages)
        data = build_stage_data(config.sft.data, config.sft.data.broad, world)
        examples = {code: [one for one in some if len(one.messages) == 2 and one.kind not in REFUSAL_KINDS]
                    for code, some in data.items()}
        _tell_cost(self_instruct.generate(teacher, examples, folder, ConsoleTracker(console)), folder, console)
    console.print(f"name the files in sft.data with format {'prompt_response' if way == 'instructions' else 'answerability'}")
    return 0


def _teacher(config: ExperimentConfig) -> TeacherConfig:
    if config.sft.teacher is None:
        raise ConfigError("sft.teacher", "there is none; write '+sft.teacher={url: https://HOST/v1, model: NAME}'")
    return config.sft.teacher


def _questions(config: ExperimentConfig) -> dict[str, list[Question]]:
    root = Path(config.sft.data.root or ".")
    return {code: read_questions(root / path) for code, path in config.sft.questions.items()}


def _tell(outcomes: Mapping[str, Counter[str]], folder: Path, console: Console) -> None:
    for code, counts in outcomes.items():
        told = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "nothing"
        console.print(f"{folder / code}.jsonl: {told}")


def _tell_cost(made: Generated, folder: Path, console: Console) -> None:
    _tell(made.outcomes, folder, console)
    console.print(f"{made.prompt_tokens:,} prompt tokens and {made.answer_tokens:,} answer tokens cost {made.cost:.2f}")
