import random
import time

import numpy as np
import pytest
from transformers import AutoTokenizer, Qwen2Config

from sea_ray.corpus.config import CorpusConfig, DemoSource, TokenizerConfig
from sea_ray.corpus.documents import SPLITS
from sea_ray.corpus.tokenized import TokenizedCorpus, tokenize_documents
from sea_ray.corpus.tokenizer import _QWEN2_SPLIT, _share, equal_shares, train_tokenizer
from sea_ray.errors import ConfigError
from sea_ray.serving.token_text import TokenBytes

CONFIG = TokenizerConfig(vocab_size=600, training_bytes_per_language=20_000)


@pytest.fixture(scope="module")
def documents(gather):
    sizes = DemoSource(train_documents=60, validation_documents=8, test_documents=8)
    return gather(CorpusConfig(languages=("en", "km", "ta"), demo=sizes, identify_language=False))


@pytest.fixture(scope="module")
def tokenizer(documents):
    return train_tokenizer(documents, CONFIG, seed=0)


def test_tokenizer_folder_opens_with_auto_tokenizer_and_encodes_alike(tokenizer, documents, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = next(documents.texts("ta", "test"))
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.decode(loaded(text)["input_ids"]) == text
    assert (loaded.eos_token, loaded.pad_token, len(loaded)) == ("<|endoftext|>", "<|endoftext|>", 600)
    assert loaded.chat_template == tokenizer.chat_template


def test_tokenizer_beside_a_qwen2_model_is_still_the_same(tokenizer, documents, tmp_path):
    # AutoTokenizer then takes Qwen2's class and rebuilds the pipeline from vocabulary and merges alone.
    tokenizer.save_pretrained(tmp_path)
    Qwen2Config(vocab_size=600).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for code in documents.languages:
        text = " ".join(documents.texts(code, "test")) + "<|im_end|>\n 12 don't"
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert (len(loaded), loaded.eos_token_id) == (600, tokenizer.eos_token_id)
    assert loaded.all_special_tokens == tokenizer.all_special_tokens


def test_any_text_survives_encoding_and_decoding(tokenizer):
    text = "日本 🦀 \u200b ქართული\n\n  12345 don't"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_training_twice_gives_the_same_tokenizer(tokenizer, documents):
    again = train_tokenizer(documents, CONFIG, seed=0)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_equally_frequent_characters_do_not_leave_the_choice_to_the_process(make_documents):
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 200)))
    documents = make_documents({"zh": {"train": [letters, letters[::-1]]}})
    whole = TokenBytes(train_tokenizer(documents, TokenizerConfig(vocab_size=400), seed=0))
    kept = {whole[number].decode(errors="ignore") for number in range(400)} & set(letters)
    assert kept == set(letters[: len(kept)])
    assert 10 < len(kept) < 100


def test_digits_stand_alone_and_merges_stay_inside_words(tokenizer):
    pieces = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("the cats, 2024!")
    assert [piece for piece, _ in pieces] == ["the", "Ġcats", ",", "Ġ", "2", "0", "2", "4", "!"]


def test_words_with_vowel_signs_stay_whole_although_qwen2_breaks_them(tokenizer, documents, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    Qwen2Config(vocab_size=600).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for code in ("km", "ta"):
        texts = list(documents.texts(code, "test"))
        tokens = {loaded.decode([number]) for ids in loaded(texts)["input_ids"] for number in ids}
        assert any(len(_QWEN2_SPLIT.pre_tokenize_str(token)) > 1 for token in tokens)
        # Encoding a corpus, which takes special tokens as text, cuts words alike.
        corpus = tokenize_documents(documents, loaded, tmp_path / code).tokens(code, "test")
        assert corpus[corpus != loaded.eos_token_id].tolist() == [n for ids in loaded(texts)["input_ids"] for n in ids]


def test_a_token_is_whole_characters_or_a_part_of_one(tokenizer):
    bytes_of = TokenBytes(tokenizer)
    for number in range(len(tokenizer)):
        own = bytes_of[number]
        whole = own.decode(errors="ignore").encode()
        assert whole == own or (not whole and len(own) < 4), own


def test_special_tokens_and_chat_template_are_those_of_qwen2(tokenizer):
    messages = [{"role": "user", "content": "Apa kabar?"}, {"role": "assistant", "content": "Baik."}]
    turns = "<|im_start|>user\nApa kabar?<|im_end|>\n<|im_start|>assistant\nBaik.<|im_end|>\n"
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    assert tokenizer.apply_chat_template(messages, tokenize=False) == system + turns
    own = [{"role": "system", "content": "Singkat."}, *messages[:1]]
    assert tokenizer.apply_chat_template(own, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nSingkat.<|im_end|>\n<|im_start|>user\nApa kabar?<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer("<|im_start|><|im_end|>")["input_ids"]
    assert ids == tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])


def test_short_template_adds_no_system_message(documents):
    config = TokenizerConfig(vocab_size=300, chat_template="chatml")
    short = train_tokenizer(documents, config, seed=0)
    rendered = short.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert rendered == "<|im_start|>user\nx<|im_end|>\n"


def test_languages_give_equal_bytes_to_the_tokenizer_repeating_if_they_have_less():
    import random

    given = list(_share(["aaaa", "bbbb"], 30, random.Random(0)))
    assert 30 <= sum(map(len, given)) < 34
    assert abs(given.count("aaaa") - given.count("bbbb")) <= 1


def test_a_huge_document_gives_no_more_than_its_languages_share(make_documents):
    documents = make_documents({"th": {"train": ["ก็ไม่รู้" * 100_000, "สั้น"]}, "en": {"train": ["short"]}})
    given = list(equal_shares(documents, documents.languages, 1000, 0))
    assert max(len(text.encode()) for text in given) <= 1000
    assert sum(len(text.encode()) for text in given) < 3000


def test_vocabulary_below_the_bytes_is_refused():
    with pytest.raises(ConfigError, match="258 is below 259"):
        TokenizerConfig(vocab_size=258)


def test_tokens_decode_to_the_documents_and_bytes_are_exact(documents, tokenizer, tmp_path):
    corpus = tokenize_documents(documents, tokenizer, tmp_path / "corpus")
    for code in documents.languages:
        for split in SPLITS:
            texts, tokens = list(documents.texts(code, split)), corpus.tokens(code, split)
            ends = np.flatnonzero(tokens == corpus.eos_id)
            assert tokens.dtype == np.uint16
            assert len(ends) == corpus.num_documents(code, split) == len(texts)
            assert tokens[-1] == corpus.eos_id
            assert tokenizer.decode(tokens).split("<|endoftext|>")[:-1] == texts
            assert corpus.num_bytes(code, split) == sum(len(text.encode()) for text in texts)
            assert corpus.num_tokens(code, split) == len(tokens)


def test_special_tokens_spelled_out_in_text_do_not_end_it(tokenizer, make_documents, tmp_path):
    text = "a <|endoftext|> b <|im_end|>"
    corpus = tokenize_documents(make_documents({"en": {"train": [text]}}), tokenizer, tmp_path / "corpus")
    tokens = corpus.tokens("en", "train")
    assert (tokens == corpus.eos_id).sum() == 1
    assert tokenizer.decode(tokens[:-1]) == text
    assert tokenizer("<|endoftext|>")["input_ids"] == [corpus.eos_id]
    assert len(corpus.tokens("en", "test")) == 0


def test_corpus_is_memory_mapped_and_brings_its_tokenizer(documents, tokenizer, tmp_path):
    corpus = tokenize_documents(documents, tokenizer, tmp_path / "corpus")
    loaded = TokenizedCorpus.load(tmp_path / "corpus")
    assert loaded.languages == documents.languages
    assert isinstance(loaded.tokens("km", "train"), np.memmap)
    np.testing.assert_array_equal(loaded.tokens("km", "train"), corpus.tokens("km", "train"))
    assert loaded.num_bytes("km", "test") == corpus.num_bytes("km", "test")
    assert loaded.load_tokenizer()("x y")["input_ids"] == tokenizer("x y")["input_ids"]


def test_limit_of_tokens_cuts_the_training_part_before_a_document(documents, tokenizer, tmp_path):
    whole = tokenize_documents(documents, tokenizer, tmp_path / "whole")
    cut = tokenize_documents(documents, tokenizer, tmp_path / "cut", max_tokens=700)
    for code in documents.languages:
        tokens = cut.tokens(code, "train")
        assert 0 < len(tokens) <= 700 < whole.num_tokens(code, "train")
        np.testing.assert_array_equal(tokens, whole.tokens(code, "train")[: len(tokens)])
        ends = np.flatnonzero(whole.tokens(code, "train") == whole.eos_id) + 1
        assert len(tokens) == ends[ends <= 700][-1]
        assert cut.num_documents(code, "train") == (ends <= 700).sum()
        assert cut.num_bytes(code, "train") == sum(
            len(text.encode()) for text in list(documents.texts(code, "train"))[: cut.num_documents(code, "train")])
        assert cut.num_tokens(code, "test") == whole.num_tokens(code, "test")


def test_letters_without_a_space_take_time_in_proportion(make_documents):
    draw = random.Random(0)
    letters = "".join(chr(draw.randrange(0xE01, 0xE2F)) for _ in range(1000)) * 400
    documents = make_documents({"th": {"train": [letters], "validation": ["ก"], "test": ["ข"]}})
    started = time.process_time()
    train_tokenizer(documents, CONFIG, seed=0)
    assert time.process_time() - started < 8
