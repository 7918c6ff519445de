"""`sea-ray generate`: new instructions from a teacher, after those of the experiment's first stage."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from sea_ray.artifacts import Store
from sea_ray.demo import World
from sea_ray.errors import ConfigError
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.console import ConsoleTracker
from sea_ray.sft.self_instruct import generate as ask_teacher
from sea_ray.sft.stages import REFUSAL_KINDS, build_stage_data


def generate(overrides: Sequence[str], console: Console) -> int:
    """Ask the teacher of sft.teacher, write files that sft.data can name, and return the exit code.

    Args:
        overrides: Hydra overrides; `experiment=NAME` is required.
        console: where a person looks.

    Raises:
        SeaRayError: what was refused.
    """
    config = compose_experiment(overrides)
    teacher = config.sft.teacher
    if teacher is None:
        raise ConfigError("sft.teacher", "there is none; write '+sft.teacher={url: https://HOST/v1, model: NAME}'")
    world = World(config.corpus.demo.world_seed, config.corpus.languages)
    data = build_stage_data(config.sft.data, config.sft.data.broad, world)
    examples = {code: [one for one in some if len(one.messages) == 2 and one.kind not in REFUSAL_KINDS]
                for code, some in data.items()}
    folder = Store(config.store.url).run_folder(config.name) / "generated"
    made = ask_teacher(teacher, examples, folder, ConsoleTracker(console))
    for code, outcomes in made.outcomes.items():
        told = ", ".join(f"{name} {outcomes[name]:,}" for name in ("accepted", "repeated", "unparsed"))
        console.print(f"{folder / code}.jsonl: {told}")
    console.print(f"{made.prompt_tokens:,} prompt tokens and {made.answer_tokens:,} answer tokens cost {made.cost:.2f}; "
                  "name the files in sft.data with format prompt_response")
    return 0
