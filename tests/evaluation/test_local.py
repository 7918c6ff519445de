import pytest
import torch

from sea_ray.errors import DataError
from sea_ray.evaluation.decoding import decode_greedily
from sea_ray.evaluation.local import LocalGenerator
from sea_ray.evaluation.scoring import evaluating


def naive(model, prompt, count, end_ids=frozenset()):
    """One prompt, no cache, no batch."""
    ids = list(prompt)
    with torch.no_grad():
        while len(ids) < len(prompt) + count:
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
            if token in end_ids:
                break
            ids.append(token)
    return ids[len(prompt) :]


PROMPTS = [[1], [2, 3, 4, 5, 6, 7, 8], list(range(40, 90)), [9, 9], [250, 3, 77], [100, 101]]


def decode(model, prompts, count, end_ids=frozenset()):
    with evaluating(model):
        return decode_greedily(model, prompts, count, end_ids)


def test_batched_decoding_with_a_cache_equals_the_plain_loop(model):
    assert decode(model, PROMPTS, 12) == [naive(model, prompt, 12) for prompt in PROMPTS]


def test_answers_end_at_end_tokens_whatever_the_others_do(model):
    full = decode(model, PROMPTS, 12)
    for ends in ({full[0][2]}, {full[1][0], full[2][5]}, {answer[6] for answer in full[:5]}):
        expected = [naive(model, prompt, 12, ends) for prompt in PROMPTS]
        assert decode(model, PROMPTS, 12, frozenset(ends)) == expected
        assert len({len(answer) for answer in expected}) > 1


def test_order_and_batch_size_do_not_change_answers(model, tokenizer):
    prompts = ["a", "some longer prompt here", "xyz " * 20, "q w", "end"]
    one = LocalGenerator(model, tokenizer, batch_rows=1).complete(prompts, 10)
    two = LocalGenerator(model, tokenizer, batch_rows=2).complete(prompts, 10)
    small = LocalGenerator(model, tokenizer, cache_tokens=60).complete(prompts, 10)
    assert one == two == small == LocalGenerator(model, tokenizer).complete(prompts, 10)
    assert LocalGenerator(model, tokenizer).complete(prompts[::-1], 10) == one[::-1]


def test_answer_is_cut_before_the_first_stop_string(generator):
    (full,) = generator.complete(["hello there"], 30)
    middle = full[10]
    (cut,) = generator.complete(["hello there"], 30, (middle, "never to be seen"))
    assert cut == full[: full.index(middle)]


def test_chat_is_completion_of_the_rendered_template(generator):
    turns = [{"role": "user", "content": "Apa kabar?"}]
    rendered = "<|im_start|>user\nApa kabar?<|im_end|>\n<|im_start|>assistant\n"
    assert generator.render(turns) == rendered
    assert generator.chat([turns], 8) == generator.complete([rendered], 8)


def test_continuation_is_scored_where_the_context_ends(generator, model, tokenizer):
    (score,) = generator.loglikelihoods([("one two ", "three")])
    ids = tokenizer("one two three")["input_ids"]
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    start = len("one two")  # the space at the end of the context is scored with the continuation
    assert score.num_tokens == len(ids) - start
    assert score.logprob == pytest.approx(sum(float(logprobs[t - 1, ids[t]]) for t in range(start, len(ids))), abs=1e-4)


def test_empty_context_is_an_end_of_text_token(generator):
    (score,) = generator.loglikelihoods([("", "word")])
    assert score.logprob == pytest.approx(generator.rolling_loglikelihoods(["word"])[0], abs=1e-5)
    assert generator.rolling_loglikelihoods([""]) == [0]


def test_log_likelihoods_of_parts_add_up_to_the_whole(generator):
    (whole,) = generator.loglikelihoods([("The ", "cat sat")])
    first, second = generator.loglikelihoods([("The ", "cat"), ("The cat", " sat")])
    assert whole.logprob == pytest.approx(first.logprob + second.logprob, abs=1e-4)


def test_special_tokens_in_a_prompt_are_special(generator, tokenizer):
    assert len(generator._tokens.encode("<|im_start|>a<|im_end|>")) == 3


def test_what_does_not_fit_the_context_is_refused_with_its_size(generator):
    with pytest.raises(DataError, match="300 tokens with 10 for the answer exceeds the model's context of 256"):
        generator.complete(["x" * 300], 10)
    with pytest.raises(DataError, match="exceeds"):
        generator.loglikelihoods([("x" * 300, " A")])
    with pytest.raises(DataError, match="no tokens of its own"):
        generator.loglikelihoods([("context", "")])
