"""Cleaning, deduplication and tokenisation beside tokenisation alone by `datasets.map`, and how well planted dirt is found."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import torch
from icu import Transliterator

from benchmarks.side_by_side import Result, conclude, medians
from sea_ray import plan
from sea_ray.artifacts import Store
from sea_ray.config import ClusterConfig
from sea_ray.corpus.config import TokenizerConfig
from sea_ray.corpus.documents import Documents
from sea_ray.corpus.tokenizer import train_tokenizer
from sea_ray.corpus.zawgyi import is_zawgyi
from sea_ray.demo import World
from sea_ray.evaluation.contamination import Contamination
from sea_ray.languages import LANGUAGES
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.ray_platform import RayPlatform
from sea_ray.near_duplicates import NearDuplicates
from sea_ray.tracking import NullTracker
from sea_ray.training.checkpoint import Checkpoint
from sea_ray.training.config import ModelConfig
from sea_ray.training.model import new_model


def long_documents(code: str, count: int, seed: int = 0) -> list[str]:
    """Return documents of ten sentences of the demo world, in an order of their own each."""
    sentences = list(dict.fromkeys(line for text in World(seed, (code,)).documents(code, "train", 2000)
                                   for line in text.splitlines() if line))
    draw = random.Random(f"{code}{seed}")
    return [" ".join(draw.sample(sentences, 10)) for _ in range(count)]


def write_text(folder: Path, num_documents: int) -> tuple[dict[str, list[str]], int]:
    """Write a file per language; return the documents and their bytes."""
    texts = {code: long_documents(code, num_documents) for code in LANGUAGES}
    for code, documents in texts.items():
        (folder / f"{code}.txt").write_text("\n".join(documents), encoding="utf-8")
    return texts, sum(len(text.encode()) for documents in texts.values() for text in documents)


def make_checkpoint(folder: Path, texts: dict[str, list[str]]) -> Checkpoint:
    """Save a small base whose tokenizer reads the text."""
    some = {code: {"train": documents[:200], "validation": [], "test": []} for code, documents in texts.items()}
    tokenizer = train_tokenizer(Documents(texts=some, funnel=()), TokenizerConfig(), 0)
    return Checkpoint.save(folder, new_model(ModelConfig(), len(tokenizer), 0, tokenizer.eos_token_id), tokenizer)


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder that is removed again."""
    folder = Path(tempfile.mkdtemp(prefix="sea_ray-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def throughput(num_documents: int, rounds: int) -> tuple[dict[str, float], int]:
    """Return the seconds of both arms, and the bytes of the text."""
    with scratch() as folder:
        texts, num_bytes = write_text(folder, num_documents)
        checkpoint = make_checkpoint(folder / "base", texts)
        paths = "{" + ",".join(f"{code}: [{{glob: {code}.txt}}]" for code in LANGUAGES) + "}"
        config = compose_experiment([
            "experiment=demo", "corpus.source=files", f"corpus.root={folder}", f"+corpus.paths={paths}",
            "corpus.near_duplicate_jaccard=0.7", "corpus.identify_language=true", f"model.checkpoint={checkpoint.folder}"])
        tokenizer = checkpoint.load_tokenizer()
        rows = datasets.Dataset.from_dict({"text": [text for documents in texts.values() for text in documents]})

        def alone() -> None:
            rows.map(lambda batch: tokenizer(batch["text"]), batched=True, num_proc=2, load_from_cache_file=False)

        with RayPlatform.open(Store(str(folder / "runs")), NullTracker(), ClusterConfig(num_cpus=2)) as platform:
            number = iter(range(1000))

            def whole() -> None:
                platform.store = Store(str(folder / f"runs-{next(number)}"))
                platform.run(plan.corpus(config))

            return medians({"alone": alone, "whole": whole}, rounds, torch.device("cpu")), num_bytes


def edited(text: str, draw: random.Random, frac: float) -> str:
    """Return a text with a share of its characters replaced, in runs of up to six."""
    letters = list(text)
    for _ in range(max(1, round(len(letters) * frac / 3.5))):
        place, source = draw.randrange(len(letters)), draw.randrange(len(letters))
        length = draw.randint(1, 6)
        letters[place : place + length] = letters[source : source + length]
    return "".join(letters)


def quality() -> dict[str, float]:
    """Return how much of what was planted is found, over the twelve languages."""
    draw = random.Random(0)
    found = dict.fromkeys(("near", "distinct", "contaminated", "zawgyi"), 0)
    count = 100
    for code in LANGUAGES:
        index, originals = NearDuplicates(0.7), long_documents(code, count, seed=5)
        found["distinct"] += sum(index(text) is not None for text in originals)
        found["near"] += sum(index(edited(text, draw, 0.04)) is None for text in originals)
        items = [text[:120] for text in long_documents(code, count, seed=6)]
        held_out = Contamination(items)
        found["contaminated"] += sum(held_out.find(f"{first} {item.upper()} {first}") is not None
                                     for first, item in zip(originals, items, strict=True))
    burmese = long_documents("my", count, seed=7)
    turned = map(Transliterator.createInstance("my-Zawgyi").transliterate, burmese)
    found["zawgyi"] = sum(map(is_zawgyi, turned)) + sum(not is_zawgyi(text) for text in burmese)
    total = count * len(LANGUAGES)
    return {"near": found["near"] / total, "false": 1 - found["distinct"] / total,
            "contaminated": found["contaminated"] / total, "zawgyi": found["zawgyi"] / (2 * count)}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="timed turns of each arm")
    parser.add_argument("--documents", type=int, default=1000, help="documents of each language, about 1.5 kB each")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    datasets.disable_progress_bars()
    seconds, num_bytes = throughput(options.documents, options.rounds)
    for name, value in seconds.items():
        print(f"{name:6} {value:6.1f} s, {num_bytes / value / 1e6:5.2f} MB/s")
    start = time.perf_counter()
    shares = quality()
    print(f"planted cases took {time.perf_counter() - start:.1f} s")
    results = [
        Result("read, clean, dedup, identify, tokenise / tokenise by datasets.map", seconds["whole"] / seconds["alone"], 2.5),
        Result("near-duplicates missed", 1 - shares["near"], 0.05),
        Result("distinct documents taken for near-duplicates", shares["false"], 0.01),
        Result("planted benchmark items missed", 1 - shares["contaminated"], 0.0),
        Result("Zawgyi and Unicode confused", 1 - shares["zawgyi"], 0.01),
    ]
    conclude("corpus", results, {"seconds": seconds, "bytes": num_bytes, **shares}, torch.device("cpu"), options.check)


if __name__ == "__main__":
    main()
