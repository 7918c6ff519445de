import math

import numpy as np
import pytest
import torch

from sea_ray.evaluation.bits_per_byte import bits_per_byte, split_documents, windows
from sea_ray.evaluation.scoring import Span, score_spans


def reference(model, span):
    """One span alone, whole logits, plain log-softmax."""
    with torch.no_grad():
        logprobs = model(torch.tensor([span.ids])).logits[0].double().log_softmax(-1)
    places = range(span.start, len(span.ids))
    total = sum(float(logprobs[t - 1, span.ids[t]]) for t in places)
    return total, all(int(logprobs[t - 1].argmax()) == span.ids[t] for t in places)


@pytest.fixture
def spans():
    rng = np.random.default_rng(1)
    return [
        Span(rng.integers(0, 256, length).tolist(), int(rng.integers(1, length))) for length in rng.integers(2, 60, 40)
    ]


@pytest.mark.parametrize("batch_tokens", [1, 100, 4096])
def test_batched_scores_equal_one_by_one_scores(model, spans, batch_tokens):
    for score, span in zip(score_spans(model, spans, batch_tokens), spans, strict=True):
        assert score.logprob == pytest.approx(reference(model, span)[0], abs=1e-4)


def test_padding_and_neighbours_do_not_matter(model, spans):
    alone = score_spans(model, spans[:1])[0].logprob
    crowded = score_spans(model, [*spans[::-1], spans[0]])[-1].logprob
    assert alone == pytest.approx(crowded, abs=1e-5)


def test_greedy_continuation_is_recognised_and_any_other_is_not(model):
    ids = [10, 20, 30]
    for _ in range(6):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    other = [*ids[:-1], (ids[-1] + 1) % 256]
    assert [score.is_greedy for score in score_spans(model, [Span(ids, 3), Span(other, 3)])] == [True, False]


def test_options_of_one_token_share_a_forward_pass(model, monkeypatch):
    rows = []
    forward = model.base_model.forward
    monkeypatch.setattr(
        model.base_model, "forward", lambda **given: rows.append(given["input_ids"].shape[0]) or forward(**given)
    )
    spans = [Span([1, 2, 3, letter], 3) for letter in (65, 66, 67, 68)]
    scores = score_spans(model, spans)
    assert rows == [1]
    assert scores[2].logprob == pytest.approx(reference(model, spans[2])[0], abs=1e-5)


def test_model_is_left_in_the_mode_it_was_in(model, spans):
    model.train()
    score_spans(model, spans[:2])
    assert model.training
    model.eval()


def test_span_without_context_is_refused(model):
    with pytest.raises(ValueError, match="1 <= start < length"):
        score_spans(model, [Span([1, 2], 0)])


def test_uniform_model_pays_the_logarithm_of_its_vocabulary_per_token(model, eos_id):
    import copy

    uniform = copy.deepcopy(model)
    torch.nn.init.zeros_(uniform.lm_head.weight)
    tokens = np.array([5, 6, 7, eos_id, 8, eos_id])
    expected = 4 * math.log2(model.config.vocab_size) / 9
    assert bits_per_byte(uniform, tokens, 9, eos_id) == pytest.approx(expected, rel=1e-5)


def test_bits_per_byte_equal_rolling_loglikelihoods_and_do_not_depend_on_batches(model, generator, tokenizer, eos_id):
    texts = ["Selamat pagi dunia.", "สวัสดี", "x", "The quick brown fox jumps over the lazy dog. " * 12]
    tokens = np.concatenate([[*tokenizer(text)["input_ids"], eos_id] for text in texts])
    size = sum(len(text.encode()) for text in texts)
    nats = -sum(generator.rolling_loglikelihoods(texts))
    assert len(tokens) > 2 * model.config.max_position_embeddings  # the last text needs several windows
    for batch_tokens in (1, 4096):
        bits = bits_per_byte(model, tokens, size, eos_id, batch_tokens=batch_tokens)
        assert bits == pytest.approx(nats / math.log(2) / size, rel=1e-5)


def test_documents_do_not_see_each_other(model, eos_id):
    first, second = [3, 4, 5], [6, 7]
    both = bits_per_byte(model, np.array([*first, eos_id, *second, eos_id]), 1, eos_id)
    apart = sum(bits_per_byte(model, np.array([*part, eos_id]), 1, eos_id) for part in (first, second))
    assert both == pytest.approx(apart, rel=1e-5)


def test_documents_are_split_at_end_tokens():
    assert list(split_documents(np.array([1, 2, 0, 0, 3, 0]), 0)) == [[1, 2], [3]]
    assert list(split_documents(np.array([1, 2]), 0)) == [[1, 2]]


@pytest.mark.parametrize("length", [1, 5, 6, 7, 23])
def test_windows_score_each_token_once_given_the_one_before(length):
    ids = list(range(100, 100 + length))
    parts = list(windows(ids, prefix_id=0, max_tokens=8))
    assert [token for part in parts for token in part.ids[part.start :]] == ids
    assert [part.ids[0] for part in parts] == [0, *ids[5::6]][: len(parts)]
    assert max(len(part.ids) for part in parts) <= 7


def test_nothing_to_measure_is_an_error(model, eos_id):
    with pytest.raises(ValueError, match="no text"):
        bits_per_byte(model, np.array([eos_id]), 0, eos_id)
