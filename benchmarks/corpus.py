"""Cleaning, deduplication and tokenisation beside tokenisation alone by `datasets.map`, and how well planted dirt is found."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import datasets
import torch
from icu import Transliterator
from transformers import AutoTokenizer

from benchmarks.side_by_side import Result, conclude, medians
from sea_ray import plan
from sea_ray.artifacts import RECORD, Store, digest_file, fingerprint
from sea_ray.config import ClusterConfig
from sea_ray.corpus.config import TokenizerConfig
from sea_ray.corpus.documents import DocumentWriter
from sea_ray.corpus.tokenizer import train_tokenizer
from sea_ray.corpus.zawgyi import is_zawgyi
from sea_ray.demo import World
from sea_ray.evaluation.contamination import Contamination, HeldOutText
from sea_ray.execution import Stage
from sea_ray.languages import TWELVE
from sea_ray.launch.compose import compose_experiment
from sea_ray.launch.ray_platform import RayPlatform
from sea_ray.near_duplicates import repeats
from sea_ray.sft.packing import pack_sources
from sea_ray.sft.stages import build_stage_data
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
    texts = {code: long_documents(code, num_documents) for code in TWELVE}
    for code, documents in texts.items():
        (folder / f"{code}.txt").write_text("\n".join(documents), encoding="utf-8")
    return texts, sum(len(text.encode()) for documents in texts.values() for text in documents)


def make_checkpoint(folder: Path, texts: dict[str, list[str]]) -> Checkpoint:
    """Save a small base whose tokenizer reads the text."""
    with DocumentWriter(folder / "sample", tuple(texts)) as writer:
        for code, documents in texts.items():
            writer.append(code, "train", documents[:200])
        tokenizer = train_tokenizer(writer.finish(()), TokenizerConfig(), 0)
    return Checkpoint.save(folder, new_model(ModelConfig(), len(tokenizer), 0, tokenizer.eos_token_id), tokenizer)


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder that is removed again."""
    folder = Path(tempfile.mkdtemp(prefix="sea_ray-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def corpus_stage(folder: Path, checkpoint: Path, *overrides: str) -> Stage:
    """Return the stage that makes a corpus of the files in a folder with all steps."""
    paths = "{" + ",".join(f"{code}: [{{glob: {code}.txt}}]" for code in TWELVE) + "}"
    return plan.corpus(compose_experiment([
        "experiment=demo", "corpus.source=files", f"corpus.root={folder}", f"+corpus.paths={paths}",
        "corpus.near_duplicate_jaccard=0.7", "corpus.identify_language=true", f"model.checkpoint={checkpoint}", *overrides]))


def throughput(num_documents: int, rounds: int) -> tuple[dict[str, float], int, bool]:
    """Return the seconds of the arms, the bytes of the text, and whether both ways gave the same files."""
    with scratch() as folder:
        texts, num_bytes = write_text(folder, num_documents)
        checkpoint = make_checkpoint(folder / "base", texts)
        stages = {"tasks": corpus_stage(folder, checkpoint.folder),
                  "Ray Data": corpus_stage(folder, checkpoint.folder, "cluster.stream_from_bytes=1")}
        digests = set()
        tokenizer = checkpoint.load_tokenizer()
        rows = datasets.Dataset.from_dict({"text": [text for documents in texts.values() for text in documents]})

        def alone() -> None:
            rows.map(lambda batch: tokenizer(batch["text"]), batched=True, num_proc=2, load_from_cache_file=False)

        with RayPlatform.open(Store(str(folder / "runs")), NullTracker(), ClusterConfig(num_cpus=2)) as platform:
            number = iter(range(1000))

            def whole(stage: Stage) -> None:
                platform.store = Store(str(folder / f"runs-{next(number)}"))
                digests.add(digest_folder(platform.run(stage).folder))

            arms = {"alone": alone} | {name: partial(whole, stage) for name, stage in stages.items()}
            return medians(arms, rounds, torch.device("cpu")), num_bytes, len(digests) == 1


def digest_folder(folder: Path) -> str:
    """Return a digest of all files of an artifact but its record."""
    return fingerprint({file.relative_to(folder).as_posix(): digest_file(file) for file in folder.rglob("*")
                        if file.is_file() and file.name != RECORD})


def peak_memory(num_documents: int) -> tuple[int, int]:
    """Return the peak resident memory of a process that makes a corpus, and the bytes of the text."""
    with scratch() as folder:
        texts, num_bytes = write_text(folder, num_documents)
        make_checkpoint(folder / "base", texts)
        code = (f"from pathlib import Path; from benchmarks.corpus import corpus_stage; from sea_ray.artifacts import Store; "
                f"from sea_ray.execution import SoloPlatform; folder = Path({str(folder)!r}); "
                "SoloPlatform(Store(str(folder / 'runs'))).run(corpus_stage(folder, folder / 'base')); "
                "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])")  # ru_maxrss is the parent's too
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return int(done.stdout.split()[-1]) * 1024, num_bytes


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
    for code in TWELVE:
        originals = long_documents(code, count, seed=5)
        repeated = repeats([*originals, *(edited(text, draw, 0.04) for text in originals)], 0.7)
        found["distinct"] += int((~repeated[:count]).sum())
        found["near"] += int(repeated[count:].sum())
        items = [text[:120] for text in long_documents(code, count, seed=6)]
        held_out = Contamination(HeldOutText(benchmark="quiz", language=code, item=number, text=item)
                                 for number, item in enumerate(items))
        found["contaminated"] += sum(held_out.find(f"{first} {item.upper()} {first}") is not None
                                     for first, item in zip(originals, items, strict=True))
    burmese = long_documents("my", count, seed=7)
    turned = map(Transliterator.createInstance("my-Zawgyi").transliterate, burmese)
    found["zawgyi"] = sum(map(is_zawgyi, turned)) + sum(not is_zawgyi(text) for text in burmese)
    total = count * len(TWELVE)
    return {"near": found["near"] / total, "false": 1 - found["distinct"] / total,
            "contaminated": found["contaminated"] / total, "zawgyi": found["zawgyi"] / (2 * count)}


def packing(data: Path, length: int = 2048) -> dict[str, float]:
    """Return language -> share of the positions that hold a token, of all conversations of experiment=local_text.

    Args:
        data: corpus.root of that experiment; its folder "tokenizer" holds a tokenizer of the Qwen2 family.
        length: tokens of a sequence.
    """
    config = compose_experiment(["experiment=local_text", f"corpus.root={data}"])
    stage = config.sft.data.broad
    whole = replace(stage, files=tuple(replace(file, max_conversations=0) for file in stage.files),
                    pairs=tuple(replace(pair, max_conversations=0) for pair in stage.pairs))
    conversations = build_stage_data(config.sft.data, whole, World(config.corpus.demo.world_seed, config.corpus.languages))
    packed = pack_sources(conversations, AutoTokenizer.from_pretrained(data / "tokenizer"), length)
    return {code: packed.filled_frac(code) for code in packed.sequences}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="timed turns of each arm")
    parser.add_argument("--documents", type=int, default=1000, help="documents of each language, about 2.7 kB each")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--large", type=int, default=6120, help="the same for the larger text of the memory test")
    parser.add_argument("--data", type=Path, help="text and conversations of experiment=local_text, to see how they pack")
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    datasets.disable_progress_bars()
    seconds, num_bytes, same = throughput(options.documents, options.rounds)
    for name, value in seconds.items():
        print(f"{name:8} {value:6.1f} s, {num_bytes / value / 1e6:5.2f} MB/s")
    memory = {size: peak for peak, size in map(peak_memory, (options.large // 4, options.large))}
    for size, peak in memory.items():
        print(f"{size / 1e6:.0f} MB of text: {peak / 1e6:.0f} MB resident at most")
    shares = quality()
    results = [
        Result("read, clean, dedup, identify, tokenise / tokenise by datasets.map", seconds["tasks"] / seconds["alone"], 2.5),
        Result("the same by Ray Data / by tasks", seconds["Ray Data"] / seconds["tasks"], 1.25),
        Result("files that differ between both ways", float(not same), 0.0),
        Result("resident memory, large text / a quarter of it", memory[max(memory)] / memory[min(memory)], 1.1),
        Result("near-duplicates missed", 1 - shares["near"], 0.05),
        Result("distinct documents taken for near-duplicates", shares["false"], 0.01),
        Result("planted benchmark items missed", 1 - shares["contaminated"], 0.0),
        Result("Zawgyi and Unicode confused", 1 - shares["zawgyi"], 0.01),
    ]
    filled = packing(options.data) if options.data else {}
    if filled:
        print("filled positions of 2,048 tokens: " + ", ".join(f"{code} {share:.3f}" for code, share in filled.items()))
        results.append(Result("empty positions at 2,048 tokens, worst language", 1 - min(filled.values()), 0.02))
    raw = {"filled": filled, "seconds": seconds, "bytes": num_bytes, "memory": memory, **shares}
    conclude("corpus", results, raw, torch.device("cpu"), options.check)


if __name__ == "__main__":
    main()
