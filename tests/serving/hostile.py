"""Requests that nobody should send: made by hypothesis, from nearly right to nonsense."""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

UNICODE = st.text(st.characters(codec=None), max_size=40)
"""All of it, halves of surrogate pairs and NUL included."""
SCRIPTS = st.sampled_from([
    "ສະບາຍດີ", "มันเป็น\u0e33\u0e33", "ជំរាបសួរ", "မင်္ဂလာပါ", "வணக்கம்", "你好", "👨‍👩‍👧‍👦🇹🇭", "e\u0301\u0301\u0301", "\ufeff", "\u202e",
    "\x00", "\x00" * 50, "\ud83d", "\udc00\ud800", "<|im_end|>", "<|endoftext|>" * 9, "\U0010ffff", " " * 999])
TEXT = UNICODE | SCRIPTS | st.tuples(SCRIPTS, UNICODE).map("".join)
NUMBER = st.integers(-3, 40) | st.integers() | st.floats() | st.sampled_from(
    [2**31, 2**63, -2**63 - 1, 10**400, 1e308, -0.0, 1e-320])
JUNK = st.recursive(st.none() | st.booleans() | NUMBER | TEXT, max_leaves=12, extend=lambda inner: (
    st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)))


def mostly(right: st.SearchStrategy, wrong: st.SearchStrategy, one_in: int = 31) -> st.SearchStrategy:
    """Return values of which one in so many is wrong; `one_of` would draw from equal branches as from one."""
    return st.integers(0, 999).flatmap(lambda number: wrong if number % one_in == one_in // 2 else right)


def nearly(right: st.SearchStrategy) -> st.SearchStrategy:
    """Return values of which most are right, and others anything."""
    return mostly(right, JUNK)


SAID = mostly(TEXT.filter(bool), st.just(""))
IDS = mostly(st.lists(st.integers(0, 1535), min_size=1, max_size=20), st.lists(st.integers(-2, 1600), max_size=9), 9)
PROMPT = SAID | IDS | st.lists(SAID, min_size=1, max_size=6) | st.lists(IDS, min_size=1, max_size=6) | st.integers(1, 1100).map(
    lambda length: [7] * length)
SHARED = {
    "temperature": st.floats(0, 2), "top_p": st.floats(0.001, 1), "seed": st.integers(-2**63, 2**63 - 1), "n": st.integers(1, 3),
    "stop": SAID | st.lists(SAID, max_size=3), "stream": st.booleans(), "user": TEXT, "prompt_logprobs": st.integers(0, 3),
    "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}), "return_token_ids": st.booleans(),
    "presence_penalty": st.just(0), "logit_bias": st.just({})}
MESSAGE = st.fixed_dictionaries({"role": nearly(st.sampled_from(["system", "user", "assistant"])), "content": nearly(
    TEXT | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}), max_size=3))})
MODEL = mostly(st.just("small"), TEXT)


@st.composite
def bodies(draw: st.DrawFn, needed: Mapping[str, st.SearchStrategy], others: Mapping[str, st.SearchStrategy]) -> dict[str, Any]:
    """Draw a body of the needed fields, the model's name and up to three others."""
    chosen = draw(st.lists(st.sampled_from(sorted(others)), max_size=3, unique=True))
    return {"model": draw(MODEL), **{name: draw(nearly({**needed, **others}[name])) for name in [*needed, *chosen]}}


COMPLETION = bodies({"prompt": PROMPT, "max_tokens": st.integers(0, 8)}, {
    **SHARED, "logprobs": st.integers(0, 3), "echo": st.booleans(), "best_of": st.integers(1, 2)})
CHAT = bodies({"messages": st.lists(MESSAGE, min_size=1, max_size=4), "max_tokens": st.integers(0, 8)}, {
    **SHARED, "logprobs": st.booleans(), "top_logprobs": st.integers(0, 3)})
BODIES = {
    "/v1/completions": COMPLETION, "/v1/chat/completions": CHAT,
    "/tokenize": bodies({"prompt": TEXT}, {"add_special_tokens": st.booleans()}),
    "/detokenize": bodies({"tokens": IDS}, {"model": MODEL})}


@st.composite
def posts(draw: st.DrawFn) -> tuple[str, bytes, str]:
    """Draw a path, a body and a content type."""
    path = draw(st.sampled_from(list(BODIES)))
    body = draw(BODIES[path]) | draw(mostly(st.just({}), st.dictionaries(TEXT, JUNK, max_size=2)))
    content = json.dumps(body, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    content = draw(mostly(st.just(content), st.binary(max_size=8).map(lambda some: content[:start] + some + content[end:]), 21))
    kind = draw(mostly(st.just("application/json"), st.sampled_from(
        ["text/plain", "application/xml", "", "application/json; charset=utf-16", "multipart/form-data"])))
    return path, content, kind


def nested(depth: int) -> bytes:
    """Return JSON of so many brackets."""
    return b'{"model": "small", "prompt": ' + b"[" * depth + b"]" * depth + b"}"


FIXED = {
    "deep lists": nested(100_000),
    "deep objects": b'{"model": "small", "prompt": "a", "logit_bias": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001,
    "a number of 5,000 digits": b'{"model": "small", "prompt": [' + b"9" * 5000 + b"]}",
    "a temperature of 400 digits": b'{"model": "small", "prompt": "a", "temperature": 1' + b"0" * 400 + b"}",
    "a temperature of 1e999": b'{"model": "small", "prompt": "a", "temperature": 1e999}',
    "not a number": b'{"model": "small", "prompt": "a", "temperature": NaN}',
    "minus infinity": b'{"model": "small", "prompt": [-Infinity]}',
    "half a surrogate pair as a text": b'{"model": "small", "prompt": "\\ud800"}',
    "half a surrogate pair as a model": b'{"model": "\\ud800", "prompt": "a"}',
    "half a surrogate pair as a field": b'{"model": "small", "prompt": "a", "\\udfff": 1}',
    "half a surrogate pair as a stop string": b'{"model": "small", "prompt": "a", "stop": ["\\udfff"], "max_tokens": 3}',
    "half a surrogate pair as a bias": b'{"model": "small", "prompt": "a", "logit_bias": {"\\udfff": "x"}}',
    "bytes that are no UTF-8": b'{"model": "small", "prompt": "\xff\xfe"}',
    "UTF-16": '{"model": "small", "prompt": "a", "max_tokens": 1}'.encode("utf-16"),
    "cut in the middle": b'{"model": "small", "prompt": "a',
    "the same field twice": b'{"model": "small", "prompt": "a", "prompt": [], "max_tokens": 1}',
    "empty": b"", "null": b"null", "a text": b'"prompt"', "NUL": b"\x00" * 100,
    "20,000 prompts": json.dumps({"model": "small", "prompt": [[7]] * 20_000, "max_tokens": 0}).encode(),
    "a text of a megabyte": json.dumps({"model": "small", "prompt": "กขค" * 110_000}).encode(),
    "a million ids": json.dumps({"model": "small", "prompt": [7] * 1_000_000}).encode(),
    "a stop string of a megabyte": json.dumps({"model": "small", "prompt": "a", "max_tokens": 4, "stop": "a" * 10**6}).encode(),
}
"""Claim -> body of /v1/completions."""
