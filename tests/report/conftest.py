"""A small report with something in every part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sea_ray.languages import LANGUAGES, SEA_LANGUAGES
from sea_ray.report import (
    Baseline,
    BitsRow,
    CorpusRow,
    Cost,
    Example,
    FigureRow,
    FunnelRow,
    Gate,
    LanguageMatrix,
    Limit,
    NeuronMap,
    NeuronRow,
    ReportData,
    StageRow,
    Sweep,
    Training,
    TrialRow,
)

PROMPTS = {
    "en": "Where does Anna live?", "zh": "安娜住在哪里？", "id": "Di mana Anna tinggal?", "vi": "Anna sống ở đâu?",
    "th": "แอนนาอยู่ที่ไหน", "tl": "Saan nakatira si Anna?", "ms": "Di manakah Anna tinggal?",
    "my": "အန်နာ ဘယ်မှာနေလဲ။",
    "km": "អាណារស់នៅឯណា?", "lo": "ອັນນາຢູ່ໃສ?", "ta": "அன்னா எங்கே வசிக்கிறார்?", "jv": "Anna manggon ing ngendi?",
}


def make_figure(model: str, language: str, value: float, n: int = 100, **changes: Any) -> FigureRow:
    """Return an accuracy with an interval of 0.1 on either side."""
    fields: dict[str, Any] = {"task": "exam", "metric": "accuracy", "low": value - 0.1, "high": value + 0.1} | changes
    return FigureRow(model=model, language=language, value=value, n=n, **fields)


@pytest.fixture
def figure_row() -> Callable[..., FigureRow]:
    return make_figure


@pytest.fixture
def prompts() -> dict[str, str]:
    return PROMPTS


@pytest.fixture
def full() -> ReportData:
    pair = ("id", "ms")
    shares = dict.fromkeys(LANGUAGES, 1 / 12)
    return ReportData(
        title="Small", experiment="demo", made_at="today", question="Which share?", ran="Four trials.",
        command="sea-ray run experiment=demo", versions={"torch": "2.13.0"}, config="seed: 7\n",
        winner="winner",
        headline=(("exam", "accuracy"),),
        found=("It helps.",), not_found=("No gain in Lao.",), not_shown=("One seed.",),
        figures=tuple(make_figure(model, code, 0.5, n=20 if code == "lo" else 100)
                      for model in ("base", "winner") for code in LANGUAGES),
        baselines=(Baseline(task="exam", metric="accuracy", label="guessing", value=0.25),),
        bits=tuple(BitsRow(arm=arm, language=code, before=1.0, after=0.9 if code in SEA_LANGUAGES else 1.004,
                           change_low=-0.12, change_high=-0.08, n=40)
                   for arm in ("neurons", "random") for code in LANGUAGES),
        gate=Gate(passed=False, reasons=("too many refusals in 'th'",), figures={"th": {"false_refusal_rate": 0.4}},
                  limits=(Limit(figure="false_refusal_rate", value=0.25),)),
        examples=tuple(Example(language=code, kind="fact", prompt=prompt, reference="Hue",
                               answers={"base": "", "winner": "Hue"}, right={"base": False, "winner": True})
                       for code, prompt in PROMPTS.items()),
        sweeps=(
            Sweep(name="thresholds", objectives={"gain": "max"}, reason="Best.",
                  limits=(Limit(figure="harm", value=0.01),),
                  trials=(TrialRow(point={"a.top_frac": 0.1}, figures={"gain": 0.2, "harm": 0.001}, is_winner=True),
                          TrialRow(point={"a.top_frac": 0.2}, figures={"gain": 0.3, "harm": 0.02}, reused=True),
                          TrialRow(point={"a.top_frac": 0.9}, outcome="failed", error="selects nearly all neurons"))),
            Sweep(name="mixes", objectives={"score": "max"},
                  trials=(TrialRow(point={"mix": 1}, figures={"score": 0.4}, shares=shares, is_winner=True),))),
        neuron_rows=tuple(NeuronRow(language=code, neurons=10, parameter_share=0.01, stability=0.5) for code in pair),
        neuron_maps=tuple(NeuronMap(language=code, site="ffn", counts=(3, 7), per_layer=100) for code in pair),
        overlap=LanguageMatrix(name="Overlap", languages=pair, values=((1.0, 0.4), (0.4, 1.0)), kind="share"),
        interference=(
            LanguageMatrix(name="Cosine", languages=pair, values=((None, -0.3), (-0.3, None)), kind="cosine"),),
        trainings=(Training(name="base", losses=((0, 5.0), (1, 4.0), (2, float("nan"))), steps=3, tokens=900,
                            seconds=1.5, shares=shares, held_out=((1, 4.5), (2, 4.2))),),
        corpus=tuple(CorpusRow(language=code, split="train", documents=5, bytes=400, tokens=100) for code in LANGUAGES),
        funnel=(FunnelRow(language="th", step="clean", documents_in=7, documents_out=5, bytes_in=500, bytes_out=400),),
        stages=(StageRow(name="base", kind="base", seconds=12.0, reused=True, engine="deepspeed 0.19.8",
                         fingerprint="0a1b"),),
        cost=Cost(wall_s=185.0, peak_memory_bytes=3 << 30, tokens_trained=1_200_000))
