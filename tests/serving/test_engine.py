"""The engine's figures are the model's own, whatever shares the batch."""

import copy
import threading
import time

import pytest
import torch

from sea_ray.errors import ConfigError, MachineError
from sea_ray.serving.engine import TextEngine
from sea_ray.serving.exchange import Request


def ask(engine, ids, max_new_tokens=0, **more):
    return Request(prompt_ids=tuple(ids), max_new_tokens=max_new_tokens, **more)


def answers(engine, requests):
    return [future.result(timeout=30) for future in engine.submit(requests)]


@pytest.fixture
def prompts(tokenizer, texts):
    return [tokenizer(text * repeat)["input_ids"][:60] for repeat in (1, 3) for text in texts]


def greedy(model, ids, count, ends):
    """Return the continuation the obvious way: the whole text again for each token, without a cache."""
    ids, new = list(ids), []
    while len(new) < count:
        with torch.no_grad():
            new.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        ids.append(new[-1])
        if new[-1] in ends:
            break
    return tuple(new)


def test_prompt_logprobs_equal_the_models_own(engine, model, prompts):
    found = answers(engine, [ask(engine, ids, score_prompt=True, top_logprobs=2) for ids in prompts])
    for ids, answer in zip(prompts, found, strict=True):
        with torch.no_grad():
            logprob = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        assert answer.prompt_logprobs[0] is None
        for place in range(1, len(ids)):
            score = answer.prompt_logprobs[place]
            assert score.token_id == ids[place]
            assert score.logprob == pytest.approx(logprob[place - 1, ids[place]].item(), abs=1e-4)
            best = logprob[place - 1].topk(2)
            assert [logprob[place - 1, token].item() for token, _ in score.top] == pytest.approx(best.values.tolist(),
                                                                                                abs=1e-4)
            assert (score.logprob == score.top[0][1]) == (score.token_id == score.top[0][0])


def test_greedy_answers_equal_those_without_cache_or_company(engine, model, prompts):
    lengths = [1, 2, 7, 20, 13, 40, 3, 5, 30, 9, 11, 20]
    found = answers(engine, [ask(engine, ids, count) for ids, count in zip(prompts, lengths, strict=True)])
    for ids, count, answer in zip(prompts, lengths, found, strict=True):
        expected = greedy(model, ids, count, engine._end_ids)
        assert answer.token_ids == expected
        assert answer.finish_reason == ("stop" if expected[-1] in engine._end_ids else "length")


def test_requests_that_come_while_others_are_answered_join_them(engine, model, prompts):
    futures = []
    for ids in prompts[:8]:
        futures += engine.submit([ask(engine, ids, 25)])
        time.sleep(0.004)
    for ids, future in zip(prompts[:8], futures, strict=True):
        assert future.result(timeout=30).token_ids == greedy(model, ids, 25, engine._end_ids)


def test_an_answer_ends_before_its_stop_string(engine, tokenizer, prompts):
    ids = next(ids for ids in prompts if len(answers(engine, [ask(engine, ids, 40)])[0].text) > 12)
    whole = answers(engine, [ask(engine, ids, 40)])[0].text
    stop = whole[6:9]
    cut = answers(engine, [ask(engine, ids, 40, stop=(stop, "never seen"))])[0]
    assert cut.text == whole[:whole.index(stop)]
    assert cut.finish_reason == "stop"


def test_an_answer_fills_the_context_to_its_last_token(engine, model, prompts):
    ids = prompts[0]
    room = engine.max_context - len(ids)
    answer = answers(engine, [ask(engine, ids, room)])[0]
    assert answer.token_ids == greedy(model, ids, room, engine._end_ids)


def test_draws_repeat_with_their_seed_and_follow_their_distribution(engine, model, prompts):
    same = answers(engine, [ask(engine, prompts[0], 8, temperature=1.0, seed=5) for _ in range(3)])
    assert len({answer.token_ids for answer in same}) == 1
    drawn = answers(engine, [ask(engine, prompts[0], 1, temperature=1.0, seed=seed) for seed in range(400)])
    with torch.no_grad():
        probability = model(torch.tensor([prompts[0]])).logits[0, -1].softmax(-1)
    likeliest = int(probability.argmax())
    share = sum(answer.token_ids[0] == likeliest for answer in drawn) / 400
    assert share == pytest.approx(probability[likeliest].item(), abs=0.08)
    nucleus = answers(engine, [ask(engine, prompts[0], 1, temperature=1.0, seed=s, top_p=1e-6) for s in range(20)])
    assert {answer.token_ids[0] for answer in nucleus} == {likeliest}


def test_a_cancelled_answer_frees_its_place(engine, prompts):
    (future,) = engine.submit([ask(engine, prompts[0], 60)])
    future.cancel()
    answers(engine, [ask(engine, prompts[1], 3)])
    deadline = time.monotonic() + 5
    while engine.num_pending and time.monotonic() < deadline:
        time.sleep(0.005)
    assert engine.num_pending == 0


def test_impossible_prompts_are_refused_with_the_numbers(engine):
    with pytest.raises(ConfigError, match="empty"):
        engine.submit([ask(engine, [])])
    with pytest.raises(ConfigError, match="100 tokens of prompt and 29 of answer exceed"):
        engine.submit([ask(engine, [5] * 100, 29)])
    with pytest.raises(ConfigError, match=r"0\.\."):
        engine.submit([ask(engine, [engine.vocab_size])])


def test_an_error_in_a_pass_reaches_its_requests_and_the_engine_lives_on(model, tokenizer, prompts):
    engine = TextEngine(copy.deepcopy(model), tokenizer)
    body, forward = engine.model.base_model, engine.model.base_model.forward
    try:
        body.forward = lambda **_: (_ for _ in ()).throw(RuntimeError("out of memory"))
        (future,) = engine.submit([ask(engine, prompts[0], 2)])
        with pytest.raises(RuntimeError, match="out of memory"):
            future.result(timeout=10)
    finally:
        body.forward = forward
    assert len(answers(engine, [ask(engine, prompts[0], 2)])[0].token_ids) > 0
    engine.close()
    assert not engine._thread.is_alive()
    with pytest.raises(MachineError, match="closed"):
        engine.submit([ask(engine, prompts[0], 2)])


def test_many_threads_get_their_own_answers(engine, model, prompts):
    found = {}

    def run(number):
        found[number] = answers(engine, [ask(engine, prompts[number], 10)])[0].token_ids

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: greedy(model, ids, 10, engine._end_ids) for number, ids in enumerate(prompts)}
