"""docs/own_data.md: its example files are read as it says, by the experiment that it shows."""

import re
import shutil
from pathlib import Path

import pytest

from sea_ray.corpus.sources import pieces, read_piece
from sea_ray.evaluation.benchmark_sources import BENCHMARKS, published
from sea_ray.evaluation.benchmarks import OWN, own_items
from sea_ray.launch.compose import compose_experiment
from sea_ray.sft.reading import read_source
from sea_ray.sft.sources import FIELDS
from sea_ray.sft.unanswerable import read_questions

REPO = Path(__file__).resolve().parents[2]
TEXT = (REPO / "docs" / "own_data.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"(?:[Aa]s|and)\s`([\w/.-]+)`[^`]*?\n\n```\w+\n(.*?)```", TEXT, re.DOTALL))
"""Name of an example file ("as `NAME`:" before its block) -> what is in it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("own")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def config(folder):
    shutil.copytree(REPO / "conf", folder / "conf", dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEA_RAY_CONF", str(folder / "conf"))
        return compose_experiment(["experiment=my_text", f"corpus.root={folder}"])


def test_text_of_every_format_is_read(config):
    documents = {code: [text.decode() for piece in pieces(config.corpus, code) for table in read_piece(config.corpus, piece)
                        for text in table["text"].to_pylist()] for code in config.corpus.languages}
    assert {code: len(texts) for code, texts in documents.items()} == {"en": 2, "th": 3, "lo": 2}
    assert documents["lo"][1].startswith("ເຊົ້ານີ້, ")
    assert config.corpus.provenance("en")[0].licence == "CC BY 4.0"


def test_every_format_of_text_is_shown():
    shown = {Path(name).suffix for name in FILES}
    assert {".txt", ".jsonl", ".csv", ".xml"} <= shown
    assert "Parquet" in TEXT


def test_conversations_of_every_format_are_read(config, folder):
    sources = [source for stage in config.sft.data.stages for source in stage.sources]
    talks = {source.format: read_source(source, folder) for source in sources}
    assert {format: len(found) for format, found in talks.items()} == {
        "prompt_response": 1, "messages": 1, "alpaca": 1, "sharegpt": 1, "gsm8k": 1, "lines": 2, "csv": 1, "answerability": 2}
    assert set(FIELDS) <= set(talks)
    assert [talk.kind for talk in talks["answerability"]] == ["fact", "unanswerable"]
    assert "<<" not in talks["gsm8k"][0].messages[-1].content


def test_questions_for_swapping_are_read(folder):
    assert read_questions(folder / "questions/names.jsonl")[0].kind == "place"


def test_benchmarks_are_read(config):
    items = own_items(config.benchmarks, config.evaluation)
    assert len(items.refusal) == len(items.safety) == 2
    for name in ("global_mmlu", "mgsm"):
        assert len(published(name, "th", config.benchmarks.place(name))["test"]) == 1
    assert set(config.benchmarks.files) <= {*BENCHMARKS, *OWN}
