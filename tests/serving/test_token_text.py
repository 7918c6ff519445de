"""Text from tokens is exact, also when characters straddle tokens."""

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from sea_ray.errors import ConfigError
from sea_ray.serving.token_text import TextStream, TokenBytes


@pytest.fixture
def token_bytes(tokenizer):
    return TokenBytes(tokenizer)


def test_decoding_agrees_with_the_tokenizer(token_bytes, tokenizer, texts):
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert token_bytes.decode(ids) == text == tokenizer.decode(ids)
        for cut in range(len(ids)):
            assert token_bytes.decode(ids[:cut]) == tokenizer.decode(ids[:cut])


def test_a_stream_shows_whole_characters_only_and_all_of_them(token_bytes, tokenizer, texts):
    for text in texts:
        stream, pieces = TextStream(token_bytes), []
        for token in tokenizer(text)["input_ids"]:
            stream.add(token)
            pieces.append(stream.new_text(final=False))
        stream.finish()
        pieces.append(stream.new_text(final=True))
        assert "".join(pieces) == stream.text == text
        assert not any("\ufffd" in piece for piece in pieces)


def test_what_may_become_a_stop_string_is_held_back(token_bytes, tokenizer):
    stream, shown = TextStream(token_bytes, ["in Ja!", "Jakarta"]), ""
    for token in tokenizer("Budi lives in Jakarta.")["input_ids"]:
        stream.add(token)
        shown += stream.new_text(final=False)
        assert "J" not in shown
    assert stream.stopped
    assert shown + stream.new_text(final=True) == stream.text == "Budi lives in "


def test_special_tokens_are_not_shown_in_answers_but_in_prompts(token_bytes, tokenizer):
    ids = tokenizer("a<|im_end|>b")["input_ids"]
    stream = TextStream(token_bytes)
    for token in ids:
        stream.add(token)
    assert stream.text == "ab"
    assert token_bytes.decode(ids) == "a<|im_end|>b"


def test_offsets_say_where_each_token_begins(token_bytes, tokenizer, texts):
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        offsets = token_bytes.offsets(ids)
        for place, token in enumerate(ids):
            name = token_bytes.name(token)
            if not name.startswith("bytes:"):
                assert text[offsets[place]:].startswith(name)


def test_parts_of_characters_have_names_of_their_own(token_bytes, tokenizer):
    names = [token_bytes.name(token) for token in range(len(tokenizer))]
    assert len(set(names)) == len(names)
    assert "bytes:\\xe0" in names


def test_another_kind_of_tokenizer_is_refused():
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(ConfigError, match="byte-level"):
        TokenBytes(words)
