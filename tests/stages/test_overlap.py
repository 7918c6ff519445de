"""Which items of benchmarks a checkpoint was trained on, by the records of a small store."""

import json

import pytest

from sea_ray.artifacts import write_json
from sea_ray.corpus.config import TokenizerConfig
from sea_ray.corpus.documents import DocumentWriter
from sea_ray.corpus.tokenized import tokenize_documents
from sea_ray.corpus.tokenizer import train_tokenizer
from sea_ray.evaluation.benchmarks import BenchmarkConfig, held_out
from sea_ray.sft.conversation import conversation
from sea_ray.sft.packing import pack_sources
from sea_ray.stages.overlap import TrainingData, find_overlaps
from sea_ray.training.sequences import SequenceSet

CODES = ("en", "th")
ITEMS = ["A boat sails to the seven lamps of the northern market and returns with how many goats?",
         "The keeper of the mill counts all boats of the river; how many quiet lamps does he count?",
         "Under the paper roof there are goats in the rain; how many of the goats are asleep there?"]
THAI = "เรือแล่นไปยังโคมไฟทั้งเจ็ดของตลาดทางเหนือและกลับมาพร้อมกับแพะกี่ตัวในวันที่ฝนตกหนัก"


def artifact(store, kind, fingerprint, parents=None, config=None, inputs=None):
    folder = store / "artifacts" / kind / fingerprint
    folder.mkdir(parents=True)
    record = {"kind": kind, "fingerprint": fingerprint, "parents": parents or {}, "config": config or {}, "inputs": inputs or {}}
    write_json(folder / "record.json", record)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A base on a corpus, fine-tuned in two stages; the third item is in the second stage alone."""
    root = tmp_path_factory.mktemp("store")
    corpus = artifact(root, "corpus", "c0")
    with DocumentWriter(corpus / "documents", CODES) as writer:
        writer.append("en", "train", ["A plain text.", f"Quiz. {ITEMS[1].upper()} And: {ITEMS[0]}"])
        writer.append("th", "train", ["ก", f"ถาม {THAI}"])
        for code in CODES:
            for split in ("validation", "test"):
                writer.append(code, split, [ITEMS[2]])
        documents = writer.finish([])
    tokenizer = train_tokenizer(documents, TokenizerConfig(vocab_size=320), 0)
    tokenize_documents(documents, tokenizer, corpus / "tokens")
    talks = artifact(root, "conversations", "t0", {"corpus": "c0"})
    for stage, said in (("broad", "Nothing of it."), ("high_quality", ITEMS[2]), ("validation_broad", ITEMS[0])):
        some = [conversation("Hello.", "Good day.", "en", "x"), conversation(said, "Four.", "en", "x")]
        for source, sequences in pack_sources({"en": some}, tokenizer, 400).sequences.items():
            sequences.save(talks / stage / source)
    artifact(root, "base", "b0", {"corpus": "c0"})
    artifact(root, "sft", "s1", {"start": "b0", "conversations": "t0", "corpus": "c0"}, {"stage": "broad"})
    artifact(root, "sft", "s2", {"start": "s1", "conversations": "t0", "corpus": "c0"}, {"stage": "high_quality"})
    return root / "artifacts"


@pytest.fixture
def benchmarks(tmp_path):
    (tmp_path / "mgsm").mkdir()
    (tmp_path / "mgsm" / "mgsm_en.tsv").write_text("".join(f"{item}\t3\n" for item in ITEMS), encoding="utf-8")
    (tmp_path / "mgsm" / "mgsm_th.tsv").write_text(f"สั้น\t1\n{THAI}\t3\n", encoding="utf-8")
    return BenchmarkConfig(root=str(tmp_path), files={"mgsm": "mgsm"})


def places(found):
    return [(one.benchmark, one.language, one.item, one.file, one.row) for one in found]


def overlaps(folder, benchmarks, codes=CODES):
    return find_overlaps(TrainingData(str(folder)), held_out(benchmarks, codes))


def test_every_item_in_a_row_is_named_with_file_and_row(store, benchmarks):
    english, thai = (f"corpus/c0/documents/{code}.train.parquet" for code in CODES)
    found = overlaps(store / "base/b0", benchmarks)
    assert [(one.language, one.item, one.file, one.row) for one in found] == [
        ("en", 1, english, 2), ("en", 0, english, 2), ("th", 1, thai, 2)]
    assert {one.benchmark for one in found} == {"mgsm"}
    assert str(found[0]).startswith(f"mgsm/en item 1 stands in {english} row 2: 'thekeeperofthemill")
    assert [one.language for one in overlaps(store / "base/b0", benchmarks, ("th",))] == ["th"]


def test_conversations_count_for_the_stages_that_a_checkpoint_went_through(store, benchmarks):
    assert overlaps(store / "sft/s1", benchmarks) == overlaps(store / "base/b0", benchmarks)
    (new,) = set(overlaps(store / "sft/s2", benchmarks)) - set(overlaps(store / "sft/s1", benchmarks))
    assert (new.item, new.file) == (2, "conversations/t0/high_quality/en")
    packed = SequenceSet.load(store / new.file)
    assert new.row in (1, 2)
    assert packed.segment_ids_ST.max() == 2
    assert len({tuple(TrainingData(str(store / one)).fingerprints) for one in ("base/b0", "sft/s1", "sft/s2")}) == 3


def test_items_with_the_same_passage_are_all_named(store, tmp_path):
    """Ten questions of Belebele ask of one passage."""
    row = {"flores_passage": ITEMS[0], **{f"mc_answer{k}": "x" for k in "1234"}, "correct_answer_num": "1"}
    rows = [row | {"question": f"Why {n}?"} for n in range(3)]
    (tmp_path / "eng_Latn.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = overlaps(store / "base/b0", BenchmarkConfig(root=str(tmp_path), files={"belebele": "."}))
    assert [one.item for one in found] == [0, 1, 2]


def test_what_is_not_known_is_said(store, tmp_path):
    assert TrainingData(str(store / "sft/s2")).unknown == []
    assert TrainingData(str(tmp_path)).unknown == [f"all, since {tmp_path} has no record of how it was made"]
    assert TrainingData("http://host/v1").unknown == ["all, since http://host/v1 has no record of how it was made"]
    artifact(tmp_path, "base", "b1", {"corpus": "gone"}, inputs={"checkpoint/config.json": "0"})
    training = TrainingData(str(tmp_path / "artifacts/base/b1"))
    assert training.unknown == ["what the base checkpoint was trained on before",
                                f"corpus gone, which is not in {tmp_path / 'artifacts'}"]
    assert training.fingerprints == []
    assert list(training.texts()) == []
