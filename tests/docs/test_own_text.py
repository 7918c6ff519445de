"""A folder of text for each of a few languages goes through every stage: experiment=own_text."""

import pytest

from sea_ray.artifacts import Store
from sea_ray.corpus.config import CorpusConfig, DemoSource
from sea_ray.corpus.sources import pieces, read_piece
from sea_ray.execution import SoloPlatform
from sea_ray.launch.compose import compose_experiment
from sea_ray.pipeline import run_experiment

LANGUAGES = ("en", "th", "lo")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write what the demo world tells into DIR/LANGUAGE/*.txt."""
    root = tmp_path_factory.mktemp("own")
    told = CorpusConfig(source="demo", languages=LANGUAGES, demo=DemoSource(train_documents=240))
    for code in LANGUAGES:
        (root / code).mkdir()
        texts = [text.decode() for piece in pieces(told, code) for table in read_piece(told, piece)
                 for text in table["text"].to_pylist()]
        (root / code / "told.txt").write_text("\n".join(texts), encoding="utf-8")
    return root


def test_own_text_goes_through_every_stage(folder, miniature, tmp_path):
    kept = [text for text in miniature if text.partition("=")[0].lstrip("~+") not in (
        "experiment", "name", "corpus.languages", "neurons.languages", "sft.mix", "sft.mixes", "sweep.mixes.space")
        and not text.startswith("corpus.demo")]
    config = compose_experiment(["experiment=own_text", f"corpus.root={folder}", "corpus.languages=[en,th,lo]",
                                 "neurons.languages=[th,lo]", "corpus.near_duplicate_jaccard=0", *kept])
    store = Store(str(tmp_path / "store"))
    experiment = run_experiment(config, SoloPlatform(store))
    assert set(experiment.corpus.facts["sizes"]) == set(LANGUAGES)
    assert {trial.point["sft.mix"] for trial in experiment.mixes.trials} == {"proportional", "temperature", "unimax"}
    assert experiment.winner.folder.is_dir()
