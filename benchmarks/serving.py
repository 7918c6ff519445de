"""The served model against what it could be asked by instead, on this machine's processors.

Three questions: how many tokens a second 16 chats get, beside `model.generate` one by one and `transformers serve` with
continuous batching; how many 4-choice questions a second lm-evaluation-harness scores through the door, beside its own `hf` in
process; and what the door costs on top of the engine. The model has 27 million random weights; Ray Serve runs it, as
`sea-ray serve` does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from benchmarks.side_by_side import Result, conclude
from sea_ray.serving.app import load_engine
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.exchange import Request

CHATS, PROMPT_TOKENS, ANSWER_TOKENS = 16, 64, 64
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = ("{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
SYLLABLES = [first + second for first in "bdgklmnprst" for second in ("a", "e", "i", "o", "u", "an", "en", "ing", "ong", "uh")]
START_S = 180.0


def word(draw: random.Random) -> str:
    """Return a word of two or three syllables."""
    return "".join(draw.choices(SYLLABLES, k=draw.choice((2, 3))))


def make_checkpoint(folder: Path) -> None:
    """Write a random model and a tokenizer with a chat template; no token that ends an answer is ever the likeliest."""
    draw = random.Random(0)
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    plain.train_from_iterator((" ".join(word(draw) for _ in range(12)) for _ in range(4000)), trainers.BpeTrainer(
        vocab_size=8192, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token=SPECIAL[0], pad_token=SPECIAL[0],
                                        additional_special_tokens=list(SPECIAL[1:]))
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(
        vocab_size=8192, hidden_size=512, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=2048, initializer_range=0.05, tie_word_embeddings=False))
    with torch.no_grad():
        model.lm_head.weight[:len(SPECIAL)] = 0  # of 8,189 other logits some are above
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def questions(tokenizer: Any) -> list[str]:
    """Return a question for each chat, of `PROMPT_TOKENS` tokens with the template's own."""
    draw, found = random.Random(1), []
    while len(found) < CHATS:
        text = ""
        while (length := len(chat_ids(tokenizer, text))) < PROMPT_TOKENS:
            text = f"{text} {word(draw)}".strip()
        if length == PROMPT_TOKENS:
            found.append(text)
    return found


def chat_ids(tokenizer: Any, text: str) -> list[int]:
    """Return a question's tokens in the template."""
    message = [{"role": "user", "content": text}]
    return list(tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False))


def free_port() -> int:
    """Return a port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int, env: dict[str, str]) -> Iterator[str]:
    """Run a server until the context closes; give its URL once it answers."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | env)
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + START_S
        try:
            while True:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{url}/health", timeout=5).close()
                    break
                if process.poll() is not None or time.monotonic() > end:
                    output.seek(0)
                    sys.exit(f"{command} did not start:\n{output.read().decode(errors='replace')[-3000:]}")
                time.sleep(0.5)
            yield f"{url}/v1"
        finally:
            process.terminate()
            process.wait(60)


def ours(folder: Path, key: str) -> contextlib.AbstractContextManager[str]:
    """Serve a folder as a user of a machine of its own does: with as many threads as what it is compared with."""
    port = free_port()
    command = [sys.executable, "-m", "sea_ray.launch.cli", "serve", f"checkpoint={folder}", f"serving.port={port}",
               f"serving.threads={torch.get_num_threads()}"]
    return running(command, port, {"SEA_RAY_API_KEY": key, "PYTHONPATH": os.pathsep.join(sys.path)})


def theirs(folder: Path) -> contextlib.AbstractContextManager[str]:
    """Serve a folder by transformers; its cache would else take all memory of the machine."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--continuous-batching",
               "--device", "cpu", "--dtype", "float32", "--port", str(port), "--cb-num-blocks", "1024"]
    return running(command, port, {"HF_HUB_OFFLINE": "1"})


def chats(url: str, model: str, file: Path, key: str, *more: str) -> float:
    """Return the seconds in which all chats are answered."""
    command = [sys.executable, "-m", "benchmarks.chat_clients", url, model, str(file), "--tokens", str(ANSWER_TOKENS), *more]
    done = subprocess.run(command, env=os.environ | {"BENCH_KEY": key, "PYTHONPATH": os.pathsep.join(sys.path)},
                          capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return float(json.loads(done.stdout)["seconds"])


def throughput(folder: Path, rounds: int) -> tuple[list[Result], dict[str, Any]]:
    """Time chats through both servers and one by one in process; all take turns."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    asked, key, file = questions(tokenizer), secrets.token_hex(16), folder / "questions.json"
    file.write_text(json.dumps(asked), encoding="utf-8")

    def generate() -> float:
        began = time.perf_counter()
        with torch.inference_mode():
            for text in asked:
                ids = torch.tensor([chat_ids(tokenizer, text)])
                answer = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=ANSWER_TOKENS, do_sample=False,
                                        pad_token_id=0)
                assert answer.shape[1] == ids.shape[1] + ANSWER_TOKENS
        return time.perf_counter() - began

    with ours(folder, key) as our_url, theirs(folder) as their_url:
        arms: dict[str, Callable[[], float]] = {
            "served": lambda: chats(our_url, "sea-ray", file, key),
            "served, streamed": lambda: chats(our_url, "sea-ray", file, key, "--stream"),
            "transformers serve": lambda: chats(their_url, str(folder), file, ""),
            "generate, one by one": generate}
        times: dict[str, list[float]] = {name: [] for name in arms}
        for number in range(rounds + 1):
            for name, arm in arms.items():
                seconds = arm()
                if number:  # the first round warms up
                    times[name].append(seconds)
    rates = {name: CHATS * ANSWER_TOKENS / statistics.median(own) for name, own in times.items()}
    for name, rate in rates.items():
        print(f"{name:24} {rate:8.0f} tokens/s")
    return [
        Result("generate one by one / served, tokens per second", rates["generate, one by one"] / rates["served"], 1 / 5),
        Result("transformers serve / served", rates["transformers serve"] / rates["served"], 1 / 1.5),
        Result("generate one by one / served and streamed", rates["generate, one by one"] / rates["served, streamed"], 1 / 3),
    ], {"tokens_per_s": rates, "seconds": times}


def write_task(folder: Path, name: str, option_words: int, number: int) -> None:
    """Write a task of lm-evaluation-harness: questions of about 100 tokens with four options."""
    draw = random.Random(option_words)
    rows = []
    for _ in range(number):
        options = [f" {' '.join(word(draw) for _ in range(option_words)) or letter}" for letter in "ABCD"]
        rows.append({"question": " ".join(word(draw) for _ in range(35)) + "?", "options": options, "answer": draw.randrange(4)})
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / f"{name}.yaml").write_text(json.dumps({
        "task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
        "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{question}}", "doc_to_choice": "{{options}}",
        "doc_to_target": "answer", "target_delimiter": "", "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]}),
        encoding="utf-8")


def scoring(folder: Path, rounds: int, number: int) -> tuple[list[Result], dict[str, Any]]:
    """Time lm-evaluation-harness on both ways to the model."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    from lm_eval.tasks import TaskManager

    tasks = folder / "tasks"
    tasks.mkdir()
    write_task(tasks, "several_tokens", 3, number)
    write_task(tasks, "one_token", 0, number)
    key = os.environ["OPENAI_API_KEY"] = secrets.token_hex(16)
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    local = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=8)
    times: dict[str, dict[str, list[float]]] = {}
    with ours(folder, key) as url:
        door = LocalCompletionsAPI(base_url=f"{url}/completions", model="sea-ray", tokenizer=str(folder), num_concurrent=8,
                                   batch_size=8,
                                   max_length=2048)
        for task in ("several_tokens", "one_token"):
            times[task], found = {"served": [], "hf": []}, {}
            for turn in range(rounds + 1):
                for name, lm in {"served": door, "hf": local}.items():
                    began = time.perf_counter()
                    result = lm_eval.simple_evaluate(model=lm, tasks=[task], task_manager=manager, bootstrap_iters=0,
                                                     log_samples=False, random_seed=turn)
                    if turn:
                        times[task][name].append(time.perf_counter() - began)
                    found[name] = {metric: value for metric, value in result["results"][task].items() if metric.startswith("acc")}
            assert found["served"] == found["hf"], found
    rates = {task: {name: number / statistics.median(own) for name, own in arms.items()} for task, arms in times.items()}
    for task, arms in rates.items():
        print(f"{task:24} served {arms['served']:6.1f} items/s, hf {arms['hf']:6.1f} items/s")
    return [Result("hf / served, items per second, options of several tokens",
                   rates["several_tokens"]["hf"] / rates["several_tokens"]["served"], 1.0),
            Result("hf / served, options of one token", rates["one_token"]["hf"] / rates["one_token"]["served"], 1 / 0.7)
            ], {"items_per_s": rates, "seconds": times}


def overhead(folder: Path, requests: int) -> tuple[list[Result], dict[str, Any]]:
    """Time single requests for one token through the door and at the engine."""
    import http.client

    draw, key = random.Random(2), secrets.token_hex(16)
    engine = load_engine(folder, ServingConfig())
    times: dict[str, list[float]] = {"door": [], "engine": []}
    with ours(folder, key) as url:
        connection = http.client.HTTPConnection(url.split("/")[2])
        for number in range(requests + 10):
            for name, own in times.items():
                ids = [draw.randrange(3, 8192) for _ in range(PROMPT_TOKENS)]
                began = time.perf_counter()
                if name == "engine":
                    engine.submit([Request(prompt_ids=tuple(ids), max_new_tokens=1)])[0].result()
                else:
                    body = json.dumps({"model": "sea-ray", "prompt": ids, "max_tokens": 1, "temperature": 0})
                    connection.request("POST", "/v1/completions", body, {
                        "Authorization": f"Bearer {key}", "Content-Type": "application/json"})
                    response = connection.getresponse()
                    response.read()
                    assert response.status == 200
                if number >= 10:
                    own.append(1000 * (time.perf_counter() - began))
    engine.close()
    middle = {name: statistics.median(own) for name, own in times.items()}
    print(f"one token                through the door {middle['door']:.1f} ms, at the engine {middle['engine']:.1f} ms")
    return [Result("ms that the door costs a request of one token, median", middle["door"] - middle["engine"], 15.0)], {
        "median_ms": middle}


def main() -> None:
    """Run all three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="timed turns of each arm")
    parser.add_argument("--items", type=int, default=60, help="questions of each kind to score")
    parser.add_argument("--requests", type=int, default=100, help="for one token")
    parser.add_argument("--threads", type=int, default=2, help="torch threads of what runs in process")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args()
    results, figures = list[Result](), dict[str, Any]()
    with tempfile.TemporaryDirectory(prefix="sea_ray-bench-") as place:
        folder = Path(place) / "model"
        make_checkpoint(folder)
        torch.set_num_threads(options.threads)
        for name, part in {"throughput": lambda: throughput(folder, options.rounds),
                           "scoring": lambda: scoring(folder, options.rounds, options.items),
                           "overhead": lambda: overhead(folder, options.requests)}.items():
            rows, figures[name] = part()
            results += rows
    conclude("serving", results, figures, torch.device("cpu"), options.check)


if __name__ == "__main__":
    main()
