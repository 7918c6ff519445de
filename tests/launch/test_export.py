"""`sea-ray export`: what is given away works without this project, and says what it is."""

import base64
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from sea_ray.artifacts import read_json
from sea_ray.model_card import public_settings
from sea_ray.neurons.pack import LanguagePack
from sea_ray.training.checkpoint import Checkpoint

ALONE = """
import json, sys, torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, out = sys.argv[1:]
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
ids = tokenizer("Budi lives in Bandung. สวัสดี", return_tensors="pt")
chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], add_generation_prompt=True, tokenize=False)
with torch.no_grad():
    save_file({"ids": ids["input_ids"], "logits": model(**ids).logits}, out)
assert not [name for name in sys.modules if name.startswith("sea_ray")]
print(json.dumps({"chat": chat, "ends": model.generation_config.eos_token_id}))
"""


def without_sea_ray(code, *arguments, cwd):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def record(told, terminal):
    assert told["run"][0] == 0
    return read_json(terminal.store / "miniature" / "run.json")


@pytest.fixture(scope="module")
def exported(record, terminal, tmp_path_factory):
    folder = tmp_path_factory.mktemp("given") / "model"
    code, out, errors = terminal("export", "run=miniature", terminal.at, f"to={folder}", "safety.ignore_gate=true",
                                 "licence=apache-2.0")
    assert code == 0, errors
    assert f"written     {folder}: README.md" in out
    return folder


@pytest.fixture(scope="module")
def packs(record, terminal, tmp_path_factory):
    folder = tmp_path_factory.mktemp("given") / "packs"
    code, out, errors = terminal("export", "run=miniature", terminal.at, f"to={folder}", "packs=[th]")
    assert code == 0, errors
    assert "licence     nobody said" in out
    return folder


def place(record, terminal, role):
    of = record["experiment"][role]
    return terminal.store / "artifacts" / of["kind"] / of["fingerprint"]


@pytest.mark.slow
def test_plain_transformers_loads_it_and_gives_the_same_logits(exported, record, terminal, tmp_path):
    said = json.loads(without_sea_ray(ALONE, exported, tmp_path / "out.safetensors", cwd=tmp_path))
    found = load_file(tmp_path / "out.safetensors")
    checkpoint = Checkpoint.load(place(record, terminal, "winner"))
    tokenizer, model = checkpoint.load_tokenizer(), checkpoint.load_model()
    assert found["ids"].tolist() == tokenizer("Budi lives in Bandung. สวัสดี", return_tensors="pt")["input_ids"].tolist()
    with torch.no_grad():
        torch.testing.assert_close(found["logits"], model(found["ids"]).logits, rtol=0, atol=1e-6)
    assert said["chat"].endswith("<|im_start|>assistant\n")
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in said["ends"]
    assert tokenizer.convert_tokens_to_ids("<|endoftext|>") in said["ends"]


def test_nothing_of_the_store_goes_with_it(exported):
    assert {file.name for file in exported.iterdir()} == {
        "README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json"}


def test_the_header_says_what_the_hub_asks(exported, record):
    card = ModelCard.load(exported / "README.md")
    data = card.data.to_dict()
    assert data["language"] == ["en", "id", "th"]
    assert data["license"] == "apache-2.0"
    assert data["pipeline_tag"] == "text-generation"
    results = {(one.dataset_type, one.metric_type): one for one in card.data.eval_results}
    assert ("exam", "accuracy") in results
    one = results["refusal", "balanced_accuracy"]
    assert one.metric_args["low"] <= one.metric_value <= one.metric_args["high"]
    assert one.metric_args["n"] > 0
    assert yaml.safe_load(card.content.split("---\n")[1])["model-index"][0]["name"] == "miniature"


def test_the_body_says_method_figures_safety_data_limits_and_how_to_repeat_it(exported, terminal):
    text = (exported / "README.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert sections == ["Results", "Safety", "Limits", "Training data", "How to repeat it"]
    assert "arXiv 2407.19672" in text
    assert re.search(r"^\| exam, accuracy \| \d\.\d+ \[\d\.\d+, \d\.\d+\] \| \d\.\d+ \[\d\.\d+, \d\.\d+\] \| \d+ \|$", text,
                     re.MULTILINE)
    assert "Safety gate: FAILED." in text
    assert "- One seed" in text
    assert "it knows nothing of the real one" in text
    assert "| corpus | th | demo world |" in text
    assert "    sea-ray run experiment=demo name=miniature" in text
    assert str(terminal.store) not in text


def test_settings_of_a_machine_are_not_published():
    assert public_settings(["experiment=local_text", "corpus.root=/home/me/text", "store.url=s3://mine", "cluster=aws", "seed=3",
                            "++cluster.num_cpus=2", "ending.webhook=https://host/secret"]) == [
        "experiment=local_text", "corpus.root=...", "seed=3"]


def test_a_winner_that_failed_its_gate_is_not_given_away_unasked(record, terminal, tmp_path):
    code, _, errors = terminal("export", "run=miniature", terminal.at, f"to={tmp_path / 'model'}")
    assert code == 1
    assert "Give it away all the same with safety.ignore_gate=true" in errors
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("model", ["merged", "base"])
def test_the_models_that_were_not_tuned_say_so(record, terminal, tmp_path, model):
    code, _, errors = terminal("export", "run=miniature", terminal.at, f"to={tmp_path / model}", f"model={model}")
    assert code == 0, errors
    text = (tmp_path / model / "README.md").read_text(encoding="utf-8")
    assert "Neither taught to refuse nor judged by the safety gate" in text
    mine = place(record, terminal, model) / "model.safetensors"
    assert (tmp_path / model / "model.safetensors").read_bytes() == mine.read_bytes()


@pytest.mark.parametrize(("settings", "message"), [
    (["packs=[fr]", "to=x"], "run 'miniature' has no pack of 'fr'"), (["tow=x"], "tow: unknown; did you mean to?"),
    (["to=x", "push=nobody"], "push: 'nobody' names no owner"), (["to=x", "push=a/b/c"], "no USER/NAME"),
    ([], "to: missing"), (["to=x", "model=best"], "model")])
def test_wrong_settings_are_refused_before_anything_is_written(record, terminal, tmp_path, monkeypatch, settings, message):
    monkeypatch.chdir(tmp_path)
    code, _, errors = terminal("export", "run=miniature", terminal.at, *settings)
    assert code == 2
    assert message in errors
    assert not (tmp_path / "x").exists()


def test_a_folder_that_holds_something_is_left_alone(record, terminal, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    code, _, errors = terminal("export", "run=miniature", terminal.at, f"to={tmp_path}", "packs=[th]")
    assert code == 2
    assert "is there already and not empty" in errors
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_the_cards_own_lines_lay_a_pack_on_the_base_without_sea_ray(packs, record, terminal, tmp_path):
    card = (packs / "README.md").read_text(encoding="utf-8")
    base = Checkpoint.load(place(record, terminal, "base"))
    lines = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1].replace('"BASE"', repr(str(base.folder)))
    save = ("\nimport sys\nfrom safetensors.torch import save_file\n"
            "save_file({name: tensor.detach().clone() for name, tensor in tensors.items()}, sys.argv[1])\n")
    without_sea_ray(lines + save, tmp_path / "laid.safetensors", cwd=packs)
    laid, model = load_file(tmp_path / "laid.safetensors"), base.load_model()
    LanguagePack.load(packs / "th").apply(model)
    for name, tensor in model.named_parameters():
        assert torch.equal(laid[name], tensor), name


def test_the_packs_card_says_what_each_is_worth_and_whose_base_it_needs(packs):
    card = ModelCard.load(packs / "README.md")
    assert card.data.language == ["th"]
    assert "language-pack" in card.data.tags
    assert re.search(r"^\| Thai \(th\) \| \d+ \| [\d,]+ \| [\d,]+ \| \d\.\d+ \| \d\.\d+ \| [+-]\d+\.\d% \|$", card.content,
                     re.MULTILINE)
    assert read_json(packs / "th" / "pack.json")["base_digest"] in card.content
    assert "Under which licence this may be used, nobody has said." in card.content
    assert {file.relative_to(packs).as_posix() for file in packs.rglob("*") if file.is_file()} == {
        "README.md", "th/pack.json", "th/pack.safetensors"}


class Hub(BaseHTTPRequestHandler):
    """Stands in for the Hub: repositories are made and one commit is taken, nothing is kept in Git LFS."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.asked.append((self.path, self.headers.get("Authorization"), body))
        if self.headers.get("Authorization") != "Bearer hf_right":
            self.answer(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            self.answer(200, {"url": f"http://{self.headers['Host']}/me/thai", "name": "me/thai"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            kept = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            self.answer(200, {"files": kept})
        elif "/commit/" in self.path:
            address = f"http://{self.headers['Host']}/me/thai/commit/1"
            self.answer(200, {"commitUrl": address, "commitOid": "1" * 40, "success": True})
        else:
            self.answer(200, {})

    def do_GET(self):
        self.answer(404, {"error": "not here"})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def push(terminal, folder, hub_url, token):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | {
        "HF_ENDPOINT": hub_url, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder.parent / "hf")}
    return subprocess.run([sys.executable, "-m", "sea_ray.launch.cli", "export", "run=miniature", terminal.at, f"to={folder}",
                           "packs=[th]", "push=me/thai"], env=environment, cwd=Path(__file__).resolve().parents[2],
                          capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_push_makes_a_private_repository_and_commits_every_file_once(record, terminal, hub, tmp_path):
    done = push(terminal, tmp_path / "packs", f"http://127.0.0.1:{hub.server_port}", "hf_right")
    assert done.returncode == 0, done.stderr
    assert "pushed " in done.stdout
    (made,) = [json.loads(body) for path, _, body in hub.asked if path == "/api/repos/create"]
    assert made["visibility"] == "private"
    (commit,) = [body for path, _, body in hub.asked if "/commit/" in path]
    files = {row["value"]["path"]: base64.b64decode(row["value"]["content"])
             for row in map(json.loads, commit.decode().splitlines()) if row["key"] == "file"}
    assert files == {file.relative_to(tmp_path / "packs").as_posix(): file.read_bytes()
                     for file in (tmp_path / "packs").rglob("*") if file.is_file()}


@pytest.mark.slow
def test_a_push_that_is_refused_leaves_the_folder_and_says_whose_matter_it_is(record, terminal, hub, tmp_path):
    done = push(terminal, tmp_path / "packs", f"http://127.0.0.1:{hub.server_port}", "hf_wrong")
    assert done.returncode == 2
    assert "the Hub refuses 'me/thai'" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "packs" / "README.md").exists()
    url = f"http://127.0.0.1:{hub.server_port}"
    hub.shutdown()
    hub.server_close()
    done = push(terminal, tmp_path / "again", url, "hf_right")
    assert done.returncode == 4
    assert "the Hub cannot be reached" in done.stderr
    assert "hf upload me/thai" in done.stderr


def test_a_tensor_that_is_not_whole_never_gets_its_place(record, terminal, tmp_path, monkeypatch):
    from sea_ray import model_folder

    def broken(*_):
        save_file({"half": torch.zeros(1)}, next(tmp_path.glob(".given-*")) / "model.safetensors")
        raise OSError("disk full")

    monkeypatch.setattr(model_folder, "write_model", broken)
    with pytest.raises(OSError, match="disk full"):
        terminal("export", "run=miniature", terminal.at, f"to={tmp_path / 'given'}", "safety.ignore_gate=true")
    assert not list(tmp_path.iterdir())
