"""What a stage of fine-tuning draws: conversations by a mix of languages, and plain text beside them."""

import pytest

from sea_ray.stages.configs import SftStage
from sea_ray.stages.sft import by_language, stage_mixture, text_source
from sea_ray.training.config import MixRule, TrainConfig, TrainPolicy

TRAINING = TrainConfig(steps=500, batch_sequences=8, sequence_tokens=64, learning_rate=1e-3)
CONVERSATIONS = {"en": 40, "vi": 30, "km": 10}
TEXT = {text_source(code): 500 for code in CONVERSATIONS}


def stage(mix, text_share, max_epochs=None):
    return SftStage(stage="broad", training=TRAINING, mix=mix, text_share=text_share, max_epochs=max_epochs, policy=TrainPolicy())


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
