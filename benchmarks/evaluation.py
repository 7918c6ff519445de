"""Questions with four options of several tokens, on `sea-ray evaluate`'s way to an endpoint and by plain lm-evaluation-harness.

A served checkpoint of 27 million random weights shares the questions out over two workers, Ray Serve replicas of one thread
each, as they are sent, eight requests at a time; beside it the harness' own `hf` asks the same checkpoint in process, with as
many threads, batches of eight. Each turn has questions of its own, so that nothing is known of an earlier one. Both must choose
the same options.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import statistics
import sys
import tempfile
import time
from operator import itemgetter
from pathlib import Path

import torch

from benchmarks.serving import free_port, make_checkpoint, running, write_task
from benchmarks.side_by_side import Result, arguments, conclude
from sea_ray.evaluation.harness_models import quiet, through_endpoint
from sea_ray.training.checkpoint import Checkpoint

WORKERS, MODEL, TASK, OPTION_WORDS = 2, "sea-ray", "several_tokens", 3


def served(folder: Path, key: str) -> contextlib.AbstractContextManager[str]:
    """Serve a folder on as many workers as there are threads."""
    port = free_port()
    command = [sys.executable, "-m", "sea_ray.launch.cli", "serve", f"checkpoint={folder}", f"serving.port={port}",
               f"serving.num_replicas={WORKERS}", f"serving.model_name={MODEL}", "serving.threads=1"]
    return running(command, port, {"SEA_RAY_API_KEY": key, "PYTHONPATH": os.pathsep.join(sys.path)})


def compare(folder: Path, rounds: int, number: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return way -> seconds of each turn, after one to warm up, and way -> whether each item of all turns was right.

    Args:
        folder: of the checkpoint; the questions are written beside it.
        rounds: timed turns of each way.
        number: questions of a turn.
    """
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    tasks = folder.with_name("tasks")
    tasks.mkdir()
    write_task(tasks, TASK, OPTION_WORDS, number * (rounds + 1))
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    checkpoint, key = Checkpoint.load(folder), secrets.token_hex(16)
    times: dict[str, list[float]] = {"endpoint": [], "hf": []}
    right: dict[str, list[float]] = {"endpoint": [], "hf": []}
    with served(folder, key) as url:
        door = through_endpoint(url, key, MODEL, folder, checkpoint.load_tokenizer(), checkpoint.max_tokens)
        ways = {"endpoint": door.lm, "hf": HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=8)}
        for turn in range(rounds + 1):
            asked = {TASK: list(range(turn * number, (turn + 1) * number))}
            for name, lm in ways.items():
                began = time.perf_counter()
                with quiet():
                    found = lm_eval.simple_evaluate(model=lm, tasks=[TASK], samples=asked, task_manager=manager,
                                                    bootstrap_iters=0)
                if turn:
                    times[name].append(time.perf_counter() - began)
                right[name] += [sample["acc"] for sample in sorted(found["samples"][TASK], key=itemgetter("doc_id"))]
    return times, right


def main() -> None:
    """Time both ways in turn, and see that they say the same."""
    parser = arguments(__doc__ or "", "qwen2_27m")
    parser.add_argument("--items", type=int, default=60, help="questions of a turn")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="sea_ray-bench-") as place:
        folder = Path(place) / "model"
        make_checkpoint(folder)
        times, right = compare(folder, options.rounds, options.items)
    rates = {name: options.items / statistics.median(own) for name, own in times.items()}
    for name, rate in rates.items():
        print(f"{name:10} {rate:6.1f} items/s, {sum(right[name]):.0f} of {len(right[name])} right")
    different = sum(one != other for one, other in zip(right["endpoint"], right["hf"], strict=True))
    results = [Result("hf in process / endpoint over two workers, items per second", rates["hf"] / rates["endpoint"], 1 / 1.2),
               Result("items that are scored differently", different, 0)]
    figures = {"items_per_s": rates, "seconds": times, "right": {name: sum(own) for name, own in right.items()}}
    conclude("evaluation", results, figures, torch.device("cpu"), options.check)


if __name__ == "__main__":
    main()
