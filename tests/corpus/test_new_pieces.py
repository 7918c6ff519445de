import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer, Qwen2Config

from sea_ray.corpus.config import CorpusConfig, DemoSource, NewPieces, TokenizerConfig
from sea_ray.corpus.new_pieces import add_pieces, learn_pieces, script_of
from sea_ray.corpus.tokenizer import equal_shares, learn_merges, most_frequent, train_tokenizer
from sea_ray.errors import ConfigError, DataError

SIZES = DemoSource(train_documents=150, validation_documents=8, test_documents=30)
CONFIG = NewPieces(languages=("my", "km"), max_pieces=200, training_bytes_per_language=40_000)
SCRIPTS = "don't  stop, 2024!\n\n日本語で話す Tiếng Việt ภาษาไทย မြန်မာစာ ភាសាខ្មែរ ພາສາລາວ தமிழ் 🦀 \u200b"


def gathered(gather, *languages):
    return gather(CorpusConfig(languages=languages, demo=SIZES, identify_language=False))


@pytest.fixture(scope="module")
def documents(gather):
    return gathered(gather, "en", "zh", "my", "km")


@pytest.fixture(scope="module")
def own(gather):
    """A tokenizer that has read English and Chinese only."""
    return train_tokenizer(gathered(gather, "en", "zh"), TokenizerConfig(vocab_size=700, training_bytes_per_language=30_000), 0)


@pytest.fixture(scope="module")
def pieces(documents, own):
    return learn_pieces(documents, own, CONFIG, seed=0)


@pytest.fixture(scope="module")
def extended(own, pieces, tmp_path_factory):
    """The same as AutoTokenizer loads it beside a Qwen2 model."""
    folder = tmp_path_factory.mktemp("extended")
    own.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    add_pieces(tokenizer, pieces)
    tokenizer.save_pretrained(folder)
    Qwen2Config(vocab_size=len(tokenizer)).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def num_tokens(tokenizer, texts):
    return sum(map(len, tokenizer(list(texts))["input_ids"]))


def test_held_out_text_of_the_named_languages_takes_a_fraction_of_the_tokens(documents, own, extended):
    for code in ("my", "km"):
        before, after = (num_tokens(tokenizer, documents.texts(code, "test")) for tokenizer in (own, extended))
        assert after < before / 4, (code, before, after)


def test_other_text_is_cut_as_before(documents, own, extended):
    for code in ("en", "zh"):
        texts = list(documents.texts(code, "test"))
        assert extended(texts)["input_ids"] == own(texts)["input_ids"]


def test_auto_tokenizer_reloads_it_and_text_of_all_scripts_survives(documents, own, pieces, extended):
    assert len(extended) == len(own) + len(pieces) == 900
    assert own.get_vocab().items() <= extended.get_vocab().items()
    for text in [SCRIPTS, *(text for code in documents.languages for text in documents.texts(code, "test"))]:
        assert extended.decode(extended(text)["input_ids"]) == text
    assert extended.all_special_tokens == own.all_special_tokens
    assert extended.chat_template == own.chat_template


def test_the_pieces_are_the_same_each_time_and_each_has_a_letter_of_its_script(documents, own, pieces):
    assert learn_pieces(documents, own, CONFIG, seed=0) == pieces
    assert {script_of(piece, CONFIG.languages) for piece in pieces} == {"my", "km"}


def test_dropping_what_saves_least_leaves_fewer_tokens_than_the_first_that_are_learned(documents, own, pieces):
    texts = list(equal_shares(documents, CONFIG.languages, CONFIG.training_bytes_per_language, 0))
    alphabet = most_frequent(texts, 10_000)
    learned = learn_merges(texts, alphabet, 10_000, CONFIG.min_uses, CONFIG.max_piece_characters)
    first = [*alphabet, *dict.fromkeys(left + right for left, right in learned["merges"])]
    first = [piece for piece in first if script_of(piece, CONFIG.languages) and num_tokens(own, [piece]) > 1][: len(pieces)]
    counts = []
    for chosen in (pieces, first):
        backend = Tokenizer.from_str(own.backend_tokenizer.to_str())
        backend.add_tokens(chosen)
        held_out = [text for code in CONFIG.languages for text in documents.texts(code, "test")]
        counts.append(sum(len(encoding.ids) for encoding in backend.encode_batch_fast(held_out)))
    assert counts[0] < counts[1]


def test_no_piece_is_rarer_than_was_asked(documents, own):
    scarce = learn_pieces(documents, own, NewPieces(languages=("my",), training_bytes_per_language=4_000, min_uses=10), seed=0)
    assert 10 < len(scarce) < 200


def test_where_no_piece_saves_a_token_often_enough_the_run_says_so(documents, own):
    with pytest.raises(DataError, match="no piece of km that is used 100000 times saves a token"):
        learn_pieces(documents, own, NewPieces(languages=("km",), training_bytes_per_language=9_000, min_uses=100_000), seed=0)


@pytest.mark.parametrize(("changed", "says"), [
    ({"languages": ("my", "vi")}, "'vi' is written in LATIN letters"), ({"languages": ("zh",)}, "'zh' is written in CJK"),
    ({"languages": ()}, "empty"), ({"languages": ("my",), "max_pieces": 0}, "0 is below 1")])
def test_what_would_break_other_words_or_learn_nothing_is_refused(changed, says):
    with pytest.raises(ConfigError, match=says):
        NewPieces(**changed)
