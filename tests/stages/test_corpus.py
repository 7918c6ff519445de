"""The corpus stage with a small language model that weighs documents."""

import json

import pytest

from sea_ray.artifacts import Store
from sea_ray.corpus.config import QualityConfig, TokenizerConfig
from sea_ray.corpus.documents import Documents, DocumentWriter
from sea_ray.corpus.tokenizer import train_tokenizer
from sea_ray.demo import World
from sea_ray.evaluation.local import LocalGenerator
from sea_ray.execution import SoloPlatform
from sea_ray.launch.compose import compose_experiment
from sea_ray.plan import corpus
from sea_ray.stages.corpus import DocumentPerplexity
from sea_ray.training.checkpoint import Checkpoint
from sea_ray.training.config import ModelConfig
from sea_ray.training.model import new_model

SMALL = ModelConfig(d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, d_mlp=24)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model that has learned nothing: rare letters, which are several tokens, cost it the most."""
    folder = tmp_path_factory.mktemp("small")
    with DocumentWriter(folder / "documents", ("id",)) as writer:
        writer.append("id", "train", list(World(0, ("id",)).documents("id", "train", 50)))
        tokenizer = train_tokenizer(writer.finish(()), TokenizerConfig(vocab_size=384), 0)
    return Checkpoint.save(folder / "model", new_model(SMALL, len(tokenizer), 0, tokenizer.eos_token_id), tokenizer)


def test_a_document_is_weighed_as_the_evaluation_would(checkpoint):
    weigh = DocumentPerplexity(QualityConfig(checkpoint=str(checkpoint.folder), max_tokens=64))
    text = "Ibu membeli ikan di pasar."
    generator = LocalGenerator(checkpoint.load_model(), checkpoint.load_tokenizer())
    nats = -generator.rolling_loglikelihoods([text])[0]
    assert weigh(text) == pytest.approx(nats / 0.6931471805599453 / len(text.encode()), rel=1e-5)


def test_only_the_beginning_of_a_long_document_is_weighed(checkpoint):
    weigh = DocumentPerplexity(QualityConfig(checkpoint=str(checkpoint.folder), max_tokens=8))
    assert weigh("Ibu membeli ikan di pasar. " * 3) == weigh("Ibu membeli ikan di pasar. " * 3 + "Ж" * 100)


def test_the_unlikeliest_share_of_each_language_goes_and_is_counted(checkpoint, tmp_path, miniature):
    rows = list(World(0, ("id",)).documents("id", "train", 90))
    odd = [f"Ж{number}Ю漢{number * 7}字Щ" for number in range(10)]
    (tmp_path / "id.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in [*odd, *rows]))
    for code in ("en", "th"):
        (tmp_path / f"{code}.txt").write_text("\n".join(f"{code} {number} river" for number in range(60)))
    stage = corpus(compose_experiment([
        *miniature, "corpus.source=files", f"corpus.root={tmp_path}", "corpus.identify_language=false",
        "+corpus.paths={id: [{glob: id.jsonl}], en: [{glob: en.txt}], th: [{glob: th.txt}]}", "corpus.test_frac=0.2",
        "corpus.validation_frac=0.2", f"+corpus.quality={{checkpoint: {checkpoint.folder}, drop_frac: 0.1}}"]))
    assert any(name.startswith("quality/") for name in stage.inputs)
    made = SoloPlatform(Store(str(tmp_path / "store"))).run(stage)
    row = next(row for row in made.facts["funnel"] if (row["language"], row["step"]) == ("id", "quality"))
    assert row["documents_in"] - row["documents_out"] == row["documents_in"] // 10
    documents = Documents.load(made.folder / "documents")
    kept = [text for split in ("train", "validation", "test") for text in documents.texts("id", split)]
    assert not set(odd) & set(kept)
    assert next(row["documents"] for row in made.facts["sources"] if row["language"] == "id") == len(kept)
