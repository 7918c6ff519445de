"""Before a checkpoint answers, its application is compared with the model itself."""

import copy

import numpy as np
import pytest
import torch

from sea_ray.errors import MachineError
from sea_ray.languages import LANGUAGES
from sea_ray.neurons.pack import LanguagePack, SliceDelta
from sea_ray.neurons.sets import NeuronSet
from sea_ray.neurons.sites import describe
from sea_ray.neurons.untouched import tensor_digests
from sea_ray.serving.config import ServingConfig
from sea_ray.serving.engine import TextEngine
from sea_ray.serving.exchange import Request
from sea_ray.serving.models import Models, Served
from sea_ray.serving.probe import NEXT_TOKENS, SENTENCES, check_answers, probe_texts

LIMITS = ServingConfig(model_name="tiny")


@pytest.fixture
def engine(model, tokenizer):
    """An engine of its own, whose model a test may spoil; it reads in parts of 64 tokens."""
    torch.set_num_threads(1)
    engine = TextEngine(copy.deepcopy(model), tokenizer, max_batch=6, prefill_tokens=64)
    yield engine
    engine.close()


def probe(engine, **packs):
    check_answers(Models([Served(name="tiny", engine=engine, **packs)]), LIMITS)


def test_the_probe_speaks_every_language_and_is_read_in_parts(engine):
    assert SENTENCES.keys() == LANGUAGES.keys()
    texts = {text.title: text.ids for text in probe_texts(engine)}
    assert len(texts["all joined"]) == engine.max_context - NEXT_TOKENS > engine.prefill_tokens
    assert texts["id, ms and th"][:64] == texts["id, ms and zh"][:64]


def test_what_answers_as_the_model_does_passes(engine):
    probe(engine)
    assert engine.num_reused_tokens > 500


def test_limits_that_are_tighter_than_the_probe_do_not_fail_it(engine):
    limits = ServingConfig(model_name="tiny", max_new_tokens=1, max_body_bytes=100, request_limit_s=0.001, max_waiting=1)
    check_answers(Models([Served(name="tiny", engine=engine)]), limits)


def spoil_scores(engine, monkeypatch):
    """Score each token by its place after it."""
    import sea_ray.serving.engine as module

    right = module.score_positions
    monkeypatch.setattr(module, "score_positions", lambda head, hidden, target, top: right(head, hidden.roll(1, 0), target, top))


def spoil_prefixes(engine, monkeypatch):
    """Forget a layer of what is known of a beginning."""
    known = engine._prefixes.known

    def worse(keys, num_top):
        blocks = known(keys, num_top)
        for block in blocks:
            block.key_values[1].zero_()
        return blocks

    monkeypatch.setattr(engine._prefixes, "known", worse)


def spoil_steps(engine, monkeypatch):
    """Let every answer's step see what another answer has said."""
    advance = engine._answers.advance
    monkeypatch.setattr(engine._answers, "advance", lambda ids, **how: advance(ids, **how).roll(1, 0))


@pytest.mark.parametrize(("spoil", "what"), [
    (spoil_scores, r"log-likelihood of the probe text 'en'"), (spoil_prefixes, r"log-likelihood of the probe text"),
    (spoil_steps, r"likeliest next tokens of the probe text")])
def test_an_engine_that_is_wrong_is_refused_with_both_figures(engine, monkeypatch, spoil, what):
    spoil(engine, monkeypatch)
    told = rf"'tiny' answers wrongly: {what}.* by POST /v1/completions and .* by the model alone"
    with pytest.raises(MachineError, match=told):
        probe(engine)


def test_weights_that_are_no_numbers_are_refused(engine):
    with engine.reference() as model, torch.no_grad():
        model.lm_head.weight[:] = torch.nan
    with pytest.raises(MachineError, match="'tiny' gives no number for a probe text"):
        probe(engine)


@pytest.fixture
def pack(engine, tmp_path):
    """The folder of a pack of the engine's model."""
    neurons, deltas = NeuronSet(language="th", indices={("ffn", 0): np.array([1, 5, 40]), ("v", 1): np.array([3])}), {}
    with engine.reference() as model:
        parameters = dict(model.named_parameters())
        for name, place in neurons.slices(describe(model)).items():
            shape = parameters[name].index_select(place.dim, torch.tensor(place.index)).shape
            deltas[name] = SliceDelta(place, np.random.default_rng(0).normal(0, 0.3, shape).astype(np.float32))
        LanguagePack(language="th", deltas=deltas, base_digests=tensor_digests(model)).save(tmp_path)
    return tmp_path


def test_a_pack_passes_and_leaves_the_weights_as_they_were(engine, pack):
    before = tensor_digests(engine.model)
    probe(engine, packs={"th": pack})
    assert tensor_digests(engine.model) == before


def test_a_reference_reads_without_the_pack_of_the_last_request(engine, pack):
    ids = torch.tensor([[5, 6, 7]])
    with engine.reference() as model, torch.no_grad():
        before = model(ids).logits
    probe(engine, packs={"th": pack})
    engine.submit([Request(prompt_ids=(5, 6, 7), max_new_tokens=1, pack="th")])[0].result(timeout=30)
    with engine.reference() as model, torch.no_grad():
        assert torch.equal(model(ids).logits, before)


def test_a_graft_passes(engine, pack):
    with torch.no_grad():
        engine.model.model.norm.weight.mul_(1.1)
    probe(engine, packs={"th": pack}, grafts=True)


def test_a_pack_that_is_read_wrongly_is_refused(engine, pack, monkeypatch):
    monkeypatch.setattr(engine._packs, "lay", lambda names: None)
    with pytest.raises(MachineError, match=r"'tiny:th' answers wrongly: log-likelihood of the probe text 'en'"):
        probe(engine, packs={"th": pack})
