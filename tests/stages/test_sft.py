"""What a stage of fine-tuning draws: conversations by a mix of languages, and plain text beside them."""

import pytest

from sea_ray.sft.conversation import conversation
from sea_ray.stages.configs import SftStage
from sea_ray.stages.sft import by_language, by_source, stage_mixture, text_source
from sea_ray.training.config import MixRule, TrainConfig, TrainPolicy

TRAINING = TrainConfig(steps=500, batch_sequences=8, sequence_tokens=64, learning_rate=1e-3)
CONVERSATIONS = {"en": 40, "vi": 30, "km": 10}
TEXT = {text_source(code): 500 for code in CONVERSATIONS}


def stage(mix, text_share, max_epochs=None, kind_shares=None):
    return SftStage(stage="broad", training=TRAINING, mix=mix, kind_shares=kind_shares or {}, text_share=text_share,
                    max_epochs=max_epochs, policy=TrainPolicy())


def test_plain_text_takes_its_share_in_the_shares_of_the_mix():
    mixture = stage_mixture(stage({"en": 2.0, "vi": 1.0, "km": 1.0}, 0.2), CONVERSATIONS | TEXT)
    shares = mixture.realised(TRAINING.steps, TRAINING.batch_sequences)
    assert shares == pytest.approx(
        {"en": 0.4, "vi": 0.2, "km": 0.2, "en/text": 0.1, "vi/text": 0.05, "km/text": 0.05}, abs=1e-3)
    assert by_language(shares) == pytest.approx({"en": 0.5, "vi": 0.25, "km": 0.25}, abs=1e-3)


def test_a_rule_looks_at_the_conversations_not_at_how_much_text_there_is():
    rule = MixRule(kind="natural")
    with_text, without = (stage_mixture(stage(rule, share), CONVERSATIONS | (TEXT if share else {})) for share in (0.5, 0.0))
    assert by_language(with_text.effective_weights) == pytest.approx(without.effective_weights)


def test_no_share_of_text_draws_none():
    assert set(stage_mixture(stage({"en": 1.0, "km": 1.0}, 0.0), CONVERSATIONS).sizes) == {"en", "km"}


def test_kinds_take_their_shares_of_each_language_and_a_language_without_one_gives_it_to_the_others():
    sizes = {"en": 40, "en/unsafe_culture": 3, "en/translate": 9, "vi": 30, "vi/translate": 2, "km/translate": 5}
    mixture = stage_mixture(stage({"en": 2.0, "vi": 1.0, "km": 1.0}, 0.0, kind_shares={"unsafe_culture": 0.1, "translate": 0.3}),
                            sizes)
    shares = mixture.realised(TRAINING.steps, TRAINING.batch_sequences)
    assert shares == pytest.approx({"en": 0.3, "en/unsafe_culture": 0.05, "en/translate": 0.15, "vi": 0.25 * 0.6 / 0.9,
                                    "vi/translate": 0.25 * 0.3 / 0.9, "km/translate": 0.25}, abs=1e-3)
    assert by_language(shares) == pytest.approx({"en": 0.5, "vi": 0.25, "km": 0.25}, abs=1e-3)


def test_a_rule_looks_at_all_kinds_of_a_language():
    sizes = {"en": 40, "en/translate": 20, "vi": 20}
    mixture = stage_mixture(stage(MixRule(kind="natural"), 0.0, kind_shares={"translate": 0.5}), sizes)
    assert mixture.effective_weights == pytest.approx({"en": 0.375, "en/translate": 0.375, "vi": 0.25})


def test_conversations_are_parted_by_the_kinds_that_have_shares():
    some = [conversation(f"q{number}", "a", "vi", kind) for number, kind in enumerate(("fact", "translate", "sum", "translate"))]
    assert by_source({"vi": some}, {}) == {"vi": some}
    parted = by_source({"vi": some}, {"translate": 0.2, "story": 0.1})
    assert parted == {"vi": [some[0], some[2]], "vi/translate": [some[1], some[3]]}
