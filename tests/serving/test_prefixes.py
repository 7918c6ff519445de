"""What is known of a prompt's beginning changes nothing but the work."""

import copy

import pytest
import torch

from sea_ray.serving.engine import TextEngine
from sea_ray.serving.exchange import Request, TokenLogprob
from sea_ray.serving.prefixes import BLOCK_TOKENS, Block, Prefixes, block_keys


def block(scores=0, num_top=0):
    return Block(key_values=torch.zeros(1), last_hidden_D=torch.zeros(1), num_top=num_top,
                 scores=tuple(TokenLogprob(1, -1.0, ()) for _ in range(scores)))


def question_and_options(length=50, options=4):
    draw = torch.Generator().manual_seed(length)
    start = torch.randint(3, 290, (length,), generator=draw).tolist()
    return [start + torch.randint(3, 290, (number + 2,), generator=draw).tolist() for number in range(options)]


@pytest.fixture(scope="module")
def engines(model, tokenizer):
    torch.set_num_threads(1)
    some = {"keeps": TextEngine(copy.deepcopy(model), tokenizer, prefill_tokens=256, prefix_bytes=10**8),
            "keeps nothing": TextEngine(copy.deepcopy(model), tokenizer, prefill_tokens=256, prefix_bytes=0),
            "reads in parts": TextEngine(copy.deepcopy(model), tokenizer, prefill_tokens=BLOCK_TOKENS, prefix_bytes=0)}
    yield some
    for engine in some.values():
        engine.close()


def test_a_key_says_all_that_came_before_and_the_pack():
    ids = list(range(100, 100 + 3 * BLOCK_TOKENS + 1))
    keys = block_keys(ids, None)
    assert len(keys) == 3
    assert block_keys(ids[:-1], None) == keys[:2]  # the last token is always computed: it gives the first of the answer
    assert block_keys([7, *ids[1:]], None)[2] != keys[2]
    assert not set(block_keys(ids, "vi")) & set(keys)


def test_blocks_that_others_go_on_from_outlive_their_ends():
    kept = Prefixes(4 * block().num_bytes)
    kept.add([b"a", b"b", b"c"], [block(), block(), block()])
    kept.add([b"a", b"x"], [block()])
    assert len(kept.known([b"a", b"x"], None)) == 2
    kept.use([b"a", b"x"])
    kept.add([b"a", b"y"], [block()])
    assert kept.num_tokens == 4 * BLOCK_TOKENS
    assert len(kept.known([b"a", b"y"], None)) == 2
    assert len(kept.known([b"a", b"b", b"c"], None)) == 2  # the end went, the beginning stayed


def test_scores_are_known_only_where_there_are_enough_of_them():
    kept = Prefixes(10**6)
    kept.add([b"a"], [block()])
    assert len(kept.known([b"a"], None)) == 1
    assert kept.known([b"a"], 0) == []
    kept.add([b"a"], [block(scores=16, num_top=2)])
    assert len(kept.known([b"a"], 2)) == 1
    assert kept.known([b"a"], 3) == []
    kept.add([b"a"], [block()])
    assert len(kept.known([b"a"], 2)) == 1  # not given up for one without scores


@pytest.mark.parametrize("way", ["keeps", "keeps nothing", "reads in parts"])
def test_options_of_a_question_score_as_each_alone(engines, model, way):
    engine = engines[way]
    for _ in range(2):  # the second time even the question is known
        texts = question_and_options()
        futures = engine.submit([Request(prompt_ids=tuple(ids), max_new_tokens=1, score_prompt=True, top_logprobs=1)
                                 for ids in texts])
        for ids, future in zip(texts, futures, strict=True):
            answer = future.result(timeout=30)
            with torch.no_grad():
                logprob = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            assert [score.token_id for score in answer.prompt_logprobs[1:]] == ids[1:]
            expected = [logprob[place - 1, ids[place]].item() for place in range(1, len(ids))]
            assert [score.logprob for score in answer.prompt_logprobs[1:]] == pytest.approx(expected, abs=1e-4)
            assert [score.top[0][1] for score in answer.prompt_logprobs[1:]] == pytest.approx(
                logprob[:-1].max(-1).values.tolist(), abs=1e-4)
            assert answer.token_ids == (int(logprob[-1].argmax()),)


def test_a_question_is_read_once_for_all_its_options(model, tokenizer):
    engine, read = TextEngine(copy.deepcopy(model), tokenizer, prefix_bytes=10**8), 0

    def count(_module, _arguments, named):
        nonlocal read
        read += named["input_ids"].numel()

    hook = engine.model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        texts = question_and_options(length=6 * BLOCK_TOKENS)
        for future in engine.submit([Request(prompt_ids=tuple(ids), max_new_tokens=1, score_prompt=True) for ids in texts]):
            future.result(timeout=30)
    finally:
        hook.remove()
        engine.close()
    assert read <= len(texts[0]) + 4 * max(len(ids) - 6 * BLOCK_TOKENS for ids in texts)
    assert engine.num_reused_tokens == 3 * 6 * BLOCK_TOKENS


@pytest.mark.parametrize("way", ["keeps", "keeps nothing", "reads in parts"])
def test_answers_are_the_same_whatever_was_known(engines, way):
    texts = [ids for length in (5, 16, 33, 64, 90) for ids in question_and_options(length)]
    wanted = [Request(prompt_ids=tuple(ids), max_new_tokens=12) for ids in texts]
    plain = [future.result(timeout=30).token_ids for future in engines["keeps nothing"].submit(wanted)]
    for _ in range(2):
        assert [future.result(timeout=30).token_ids for future in engines[way].submit(wanted)] == plain


def test_a_long_prompt_does_not_hold_up_answers_in_progress(engines):
    """Between two parts of a long prompt every answer in progress gets a token."""
    engine, order = engines["reads in parts"], []
    (first,) = engine.submit([Request(prompt_ids=(5, 6, 7), max_new_tokens=60, temperature=1.0, seed=1)],
                             on_text=lambda piece: order.append("piece"))
    long = tuple(range(3, 3 + 6 * BLOCK_TOKENS))
    (second,) = engine.submit([Request(prompt_ids=long, max_new_tokens=0)])
    second.add_done_callback(lambda _: order.append("long prompt"))
    first.result(timeout=30), second.result(timeout=30)
    assert order[:order.index("long prompt")].count("piece") >= 3
