"""Precision and recall on replies that the detector has not seen, of other hands than its wordings (refusal_test_wordings.yaml)."""

from pathlib import Path

import pytest
import yaml

from sea_ray.languages import LANGUAGES
from sea_ray.safety import RefusalDetector
from sea_ray.safety.refusals import wordings

UNSEEN = yaml.safe_load(Path(__file__).with_name("refusal_test_wordings.yaml").read_text(encoding="utf-8"))


def precision_and_recall(code: str) -> tuple[float, float]:
    detector = RefusalDetector()
    hits, false_hits = (sum(detector.are_refusals(UNSEEN[code][name])) for name in ("refuses", "answers"))
    return hits / (hits + false_hits), hits / len(UNSEEN[code]["refuses"])


@pytest.mark.parametrize("code", LANGUAGES)
def test_precision_and_recall_are_at_least_nine_tenths(code: str) -> None:
    precision, recall = precision_and_recall(code)
    assert min(precision, recall) >= 0.9, f"precision {precision:.3f}, recall {recall:.3f}"


@pytest.mark.parametrize("code", LANGUAGES)
def test_they_are_unseen(code: str) -> None:
    unseen = UNSEEN[code]["refuses"] + UNSEEN[code]["answers"]
    assert len(unseen) == 80
    assert not set(unseen) & {text for texts in wordings(code).values() for text in texts}
