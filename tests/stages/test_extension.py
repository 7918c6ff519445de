"""A checkpoint that knows English and Chinese gets pieces and embeddings for Burmese and Khmer: corpus and base stage."""

import pytest
import torch

from sea_ray import plan
from sea_ray.artifacts import RECORD, Store, read_json
from sea_ray.corpus.documents import Documents
from sea_ray.corpus.tokenized import TokenizedCorpus
from sea_ray.execution import SoloPlatform
from sea_ray.launch.compose import compose_experiment
from sea_ray.stages.extension import spellings
from sea_ray.training.checkpoint import Checkpoint
from sea_ray.training.vocabulary import extend_embeddings

SMALL = [
    "experiment=demo", "~sft.mixes", "+sft.mixes={even: {en: 1}}", "sft.mix=even", "sweep.mixes.space={sft.mix: [even]}",
    "corpus.demo.train_documents=300", "corpus.demo.validation_documents=20", "corpus.demo.test_documents=4",
    "model.shape.d_model=64", "model.shape.num_layers=2", "model.shape.num_heads=2", "model.shape.num_kv_heads=1",
    "model.shape.d_mlp=128", "model.tokenizer.vocab_size=900",
]
TRAINING = "{steps: 60, batch_sequences: 8, sequence_tokens: 128, learning_rate: 5.0e-3}"
EXTENSION = f"{{pieces: {{languages: [my, km], max_pieces: 150}}, rehearsal: {{en: 0.2, zh: 0.2}}, training: {TRAINING}}}"


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield SoloPlatform(Store(str(tmp_path_factory.mktemp("runs"))))
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def source(platform):
    """The checkpoint that is extended."""
    config = compose_experiment([*SMALL, "corpus.languages=[en,zh]", "neurons.languages=[zh]", "training.annealing=null",
                                 "training.schedule.steps=150"])
    return platform.run(plan.base(config, platform.run(plan.corpus(config)))).folder


@pytest.fixture(scope="module")
def made(platform, source):
    """The corpus and the base of an experiment with an extension."""
    config = compose_experiment([*SMALL, "corpus.languages=[en,zh,my,km]", "neurons.languages=[my,km]",
                                 f"model.checkpoint={source}", f"+model.extension={EXTENSION}"])
    corpus = platform.run(plan.corpus(config))
    return corpus, platform.run(plan.base(config, corpus))


def test_tokens_per_byte_fall_for_the_named_languages_and_for_no_other(made):
    facts = made[0].facts["new_pieces"]
    before, after = facts["tokens_per_byte_before"], facts["tokens_per_byte_after"]
    assert all(after[code] < before[code] / 3 for code in ("my", "km"))
    assert all(after[code] == pytest.approx(before[code], rel=1e-12) for code in ("en", "zh"))
    assert facts["count"] == sum(facts["of"].values()) == 150
    assert min(facts["of"].values()) > 30


def test_bits_per_byte_fall_for_the_named_languages_and_english_keeps_its_own(made):
    base = made[1].facts
    before, after = base["extension"]["validation_bits_per_byte"]["before"], base["validation_bits_per_byte"]
    assert all(after[code] < before[code] / 2 for code in ("my", "km"))
    assert after["en"] < before["en"] * 1.01


def test_bits_before_are_those_of_the_checkpoint_as_it_came(made, source):
    known = read_json(source / RECORD)["facts"]["validation_bits_per_byte"]
    before = made[1].facts["extension"]["validation_bits_per_byte"]["before"]
    assert {code: before[code] for code in known} == pytest.approx(known, rel=1e-5)


def test_new_rows_alone_moved(made, source):
    extended, own = Checkpoint.load(made[1].folder), Checkpoint.load(source)
    before, after = own.tensor_digests(), extended.tensor_digests()
    assert before.keys() == after.keys()
    assert {name for name in after if after[name] != before[name]} == {"model.embed_tokens.weight"}
    old, new = (model.load_model().get_input_embeddings().weight for model in (own, extended))
    assert torch.equal(new[: len(old)], old)
    facts = made[1].facts
    assert facts["untouched"]["changed_outside"] == []
    assert facts["untouched"]["values_inside"] == facts["training"]["trained_values"] == 150 * old.shape[1]


def test_the_folder_is_an_ordinary_checkpoint_and_its_tokenizer_the_one_of_the_corpus(made, source):
    corpus, base = made
    extended, own = Checkpoint.load(base.folder), Checkpoint.load(source)
    tokenizer = extended.load_tokenizer()
    assert len(tokenizer) == extended.load_model().config.vocab_size == len(own.load_tokenizer()) + 150
    tokens = TokenizedCorpus.load(corpus.folder / "tokens")
    for code in tokens.languages:
        text = next(Documents.load(corpus.folder / "documents").texts(code, "validation"))
        ids = tokenizer(text)["input_ids"]
        assert tokens.tokens(code, "validation")[: len(ids)].tolist() == ids
        assert tokenizer.decode(ids) == text


def test_text_of_old_pieces_keeps_its_logits_until_training(made, source):
    own, extended = Checkpoint.load(source), Checkpoint.load(made[1].folder)
    old, new = own.load_tokenizer(), extended.load_tokenizer()
    model, grown = own.load_model().eval(), own.load_model().eval()
    spelled = spellings(old, new)
    extend_embeddings(grown, spelled)
    assert [old.decode(ids) for ids in spelled.values()] == [new.decode([number]) for number in spelled]
    ids = old("Siti buys rice in Hanoi. 她在市场买鱼。", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(grown(ids).logits[..., : len(old)], model(ids).logits, rtol=1e-5, atol=1e-5)
