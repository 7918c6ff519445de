"""Precision and recall on replies of another hand than the detector's wordings: per language 40 that refuse, 40 that answer."""

import json
from pathlib import Path

import pytest
import yaml

from sea_ray.languages import LANGUAGES
from sea_ray.safety import RefusalDetector
from sea_ray.safety.refusals import HANDS, wordings

UNSEEN = yaml.safe_load(Path(__file__).with_name("refusal_test_wordings.yaml").read_text(encoding="utf-8"))
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "sft"


@pytest.mark.parametrize("code", LANGUAGES)
def test_precision_and_recall_are_at_least_nine_tenths(code: str) -> None:
    detector = RefusalDetector()
    hits, false_hits = (sum(detector.are_refusals(UNSEEN[code][name])) for name in ("refuses", "answers"))
    precision, recall = hits / (hits + false_hits), hits / len(UNSEEN[code]["refuses"])
    assert min(precision, recall) >= 0.9, f"precision {precision:.3f}, recall {recall:.3f}"


@pytest.mark.parametrize("code", LANGUAGES)
def test_they_are_unseen(code: str) -> None:
    unseen = UNSEEN[code]["refuses"] + UNSEEN[code]["answers"]
    assert len(unseen) == 80
    assert not set(unseen) & {text for texts in wordings(code).values() for text in texts}


@pytest.mark.parametrize("hand", ["second", "third"])
def test_nine_tenths_of_a_hands_refusals_are_found_by_what_has_learnt_from_the_others(hand: str) -> None:
    """That is how the margin was chosen. Of the fourth hand, who was asked to refuse without a word of refusing, it is less."""
    detector = RefusalDetector(tuple(other for other in HANDS if other != hand))
    replies = [text for code in LANGUAGES for text in wordings(code, (hand,))["refuses"]]
    assert sum(detector.are_refusals(replies)) >= 0.9 * len(replies)


@pytest.mark.skipif(not SHARED.exists(), reason="shared/data is not here")
@pytest.mark.parametrize(("name", "field"), [
    ("alpaca_en_demo.json", "output"), ("alpaca_zh_demo.json", "output"), ("lima_vi.jsonl", "response")])
def test_of_a_thousand_real_answers_few_are_taken_for_refusals(name: str, field: str) -> None:
    """Of those that fired with fewer wordings (6.2 %, 5.7 %, 5.7 %) a third of the English refuse indeed, three quarters of the
    Chinese, a tenth of the Vietnamese."""
    text = (SHARED / name).read_text(encoding="utf-8")
    rows = json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]
    fired = RefusalDetector().are_refusals([str(row[field]) for row in rows])
    assert len(fired) > 900
    assert sum(fired) <= 0.065 * len(fired), f"{sum(fired) / len(fired):.4f}"
