"""From the artifacts of a study to what its page shows, and to the sentences that its figures bear."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.stats import t as student

from sea_ray.artifacts import Artifact
from sea_ray.config import ExperimentConfig
from sea_ray.decoding import decode
from sea_ray.evaluation.figures import Z95, EvalReport
from sea_ray.languages import LANGUAGES, LOW_RESOURCE
from sea_ray.report.data import Cost, StageRow
from sea_ray.report.formats import change, listing
from sea_ray.report.study_data import ArmRow, Estimate, Interference, NeuronStudyData, RateRow
from sea_ray.studies.neurons import ArmRun, NeuronResults
from sea_ray.study_config import NeuronStudy

DRAWS = 1000
"""Bootstrap samples of the documents."""
Change = tuple[float, NDArray[np.float64]]
"""Relative change of a run, and the same for each draw of the documents."""


class Bits:
    """Bits of every test document under the base and under every run's model, and the same draws of documents for all."""

    def __init__(self, before: EvalReport) -> None:
        """Args: before: of the base."""
        self._before = {code: _bits(before, code) for code in before.of("text", "bits_per_byte")}
        self._counts: dict[str, NDArray[np.float64]] = {}
        for place, (code, bits) in enumerate(self._before.items()):
            draw = np.random.default_rng(place)
            self._counts[code] = draw.multinomial(len(bits), np.full(len(bits), 1 / len(bits)), size=DRAWS).astype(np.float64)

    @property
    def documents(self) -> dict[str, int]:
        """Language -> test documents."""
        return {code: len(bits) for code, bits in self._before.items()}

    def changes(self, report: EvalReport, codes: Sequence[str]) -> Change:
        """Return the mean relative change over languages of one run, and the same for each draw of the documents."""
        value, drawn = 0.0, np.zeros(DRAWS)
        for code in codes:
            new, old, counts = _bits(report, code), self._before[code], self._counts[code]
            value += new.sum() / old.sum() - 1
            drawn += (counts @ new) / (counts @ old) - 1
        return value / len(codes), drawn / len(codes)

    def estimate(self, reports: Sequence[EvalReport], codes: Sequence[str], against: Sequence[EvalReport] = ()) -> Estimate:
        """Return the mean change over seeds, or how much it differs from another arm's.

        The half width of the interval is the root of the sum of two squares: Student's t times the standard error over the
        seeds (with two arms, of their difference), and 1.96 times the standard deviation over draws of the documents, which
        are the same for all seeds and arms.

        Args:
            reports: of one arm, one for each seed.
            codes: languages to average over.
            against: of the other arm.
        """
        return _estimate([self.changes(each, codes) for each in reports], [self.changes(each, codes) for each in against])

    def estimate_alone(self, alone: Mapping[str, EvalReport], codes: Sequence[str] = (), *,
                       against: Mapping[str, EvalReport] | None = None, together: Sequence[EvalReport] = ()) -> Estimate:
        """Return the same of models that were taught one language each, with one seed, or how much it differs.

        In the interval are draws of the documents, and the seeds of `together`; the seeds of the models themselves are not.

        Args:
            alone: by the language that was taught, at least one.
            codes: languages to average over; none: of each model the one that it was taught.
            against: models of another arm that were taught the same languages.
            together: models that were taught all of them at once, one for each seed.
        """
        other = [self._alone(against, codes)] if against else [self.changes(each, codes or list(alone)) for each in together]
        return _estimate([self._alone(alone, codes)], other)

    def _alone(self, alone: Mapping[str, EvalReport], codes: Sequence[str]) -> Change:
        own = [self.changes(each, codes or [code]) for code, each in alone.items()]
        return float(np.mean([value for value, _ in own])), np.mean([draws for _, draws in own], axis=0)


def _estimate(own: Sequence[Change], other: Sequence[Change]) -> Estimate:
    """Return the mean over the runs of an arm, less that of another arm's if there is one."""
    arms = [arm for arm in (own, other) if arm]
    value, *less = (float(np.mean([mean for mean, _ in arm])) for arm in arms)
    drawn, *less_drawn = (np.mean([draws for _, draws in arm], axis=0) for arm in arms)
    value, drawn = value - sum(less), drawn - sum(less_drawn)
    repeated = [arm for arm in arms if len(arm) > 1]
    variance = sum(float(np.var([mean for mean, _ in arm], ddof=1)) / len(arm) for arm in repeated)
    freedom = sum(len(arm) - 1 for arm in repeated)
    seeds = float(student.ppf(0.975, freedom)) * math.sqrt(variance) if repeated else 0.0
    half = math.hypot(seeds, Z95 * float(np.std(drawn)))
    return Estimate(value=value, low=value - half, high=value + half)


def _bits(report: EvalReport, code: str) -> NDArray[np.float64]:
    rows = [detail for detail in report.details if detail.task == "text" and detail.language == code]
    return np.array([row.score * len(row.prompt.encode()) for row in rows if row.score is not None])


def neuron_study_data(study: NeuronResults, record: Mapping[str, Any]) -> NeuronStudyData:
    """Return what the page shows.

    Args:
        study: results.
        record: of the run (run.json).
    """
    config = decode(ExperimentConfig, record["config"])
    assert config.study is not None
    chosen = config.study.neurons
    assert chosen is not None
    bits, reports = Bits(EvalReport.load(study.before.folder)), _by_arm(study.runs)
    rates = {trial.arm: trial.rate for trial in study.rates if trial.chosen}
    arms = tuple(_arm_row(name, chosen, rates[name], bits, reports, study.runs) for name in chosen.arms)
    stages = tuple(StageRow(name=row["name"], kind=row["kind"], seconds=row["seconds"], reused=row["reused"],
                            fingerprint=row["fingerprint"]) for row in record["stages"])
    interference = tuple(_interference(name, chosen, bits, reports[name], study.alone)
                         for name, arm in chosen.arms.items() if arm.alone)
    tokens = next(run.training.facts["tokens"] for run in study.runs if run.arm == chosen.reference)
    return NeuronStudyData(
        name=record["name"], made_at=record["made_at"], answer=tuple(answer(arms, chosen, interference)),
        reference=chosen.reference, max_cost=chosen.max_cost, languages=chosen.languages, rate_languages=chosen.rate_languages,
        seeds=len(chosen.seeds), documents=bits.documents, tokens=tokens, arms=arms, left_out=chosen.arms_without,
        rates=tuple(RateRow(arm=trial.arm, rate=trial.rate, gain=trial.gain, cost=trial.cost, chosen=trial.chosen,
                            error=trial.error or "") for trial in study.rates),
        interference=interference,
        command=f"sea-ray run {' '.join(record['overrides'])}", config=yaml.safe_dump(record["config"], sort_keys=False),
        versions=record["versions"], stages=stages,
        cost=Cost(wall_s=record["seconds"], machine=record["machine"], peak_memory_bytes=record["peak_memory_bytes"],
                  tokens_trained=sum(run.training.facts["tokens"] for run in (*study.runs, *study.alone))))


def _by_arm(runs: Sequence[ArmRun]) -> dict[str, list[EvalReport]]:
    found: dict[str, list[EvalReport]] = {}
    for run in runs:
        found.setdefault(run.arm, []).append(EvalReport.load(run.evaluation.folder))
    return found


def _arm_row(name: str, study: NeuronStudy, rate: float, bits: Bits, reports: Mapping[str, list[EvalReport]],
             runs: Sequence[ArmRun]) -> ArmRow:
    own, measured = reports[name], [code for code in LANGUAGES if code in bits.documents]
    untaught = [code for code in measured if code in LOW_RESOURCE and code not in study.languages]
    costs = [_training_cost(run.training) for run in runs if run.arm == name]
    return ArmRow(
        name=name, title=study.arms[name].title, rate=rate, taught=bits.estimate(own, study.languages),
        english=bits.estimate(own, ["en"]), chinese=bits.estimate(own, ["zh"]) if "zh" in measured else None,
        untaught=bits.estimate(own, untaught) if untaught else None,
        difference=None if name == study.reference else bits.estimate(own, study.languages, reports[study.reference]),
        by_language={code: bits.estimate(own, [code]) for code in measured}, steps=costs[0]["steps"],
        trained_values=costs[0]["values"], state_bytes=costs[0]["state_bytes"], sent_bytes=costs[0]["sent_bytes"],
        step_s=float(np.median([cost["step_s"] for cost in costs])))


def _training_cost(training: Artifact) -> dict[str, Any]:
    """Return what a training took, of neurons all languages' trainings together."""
    facts = training.facts
    reports = [run["training"] for run in facts["runs"].values()] if "runs" in facts else [facts["training"]]
    steps = sum(report["steps"] for report in reports)
    return {"steps": steps, "values": sum(report["trained_values"] for report in reports),
            "state_bytes": max(report["gradient_and_state_bytes"] for report in reports),
            "sent_bytes": max(report["allreduce_bytes_per_step"] for report in reports),
            "step_s": sum(report["seconds"] for report in reports) / steps}


def _interference(name: str, study: NeuronStudy, bits: Bits, together: Sequence[EvalReport], alone: Sequence[ArmRun]
                  ) -> Interference:
    reports, reference = ({run.languages[0]: EvalReport.load(run.evaluation.folder) for run in alone if run.arm == arm}
                          for arm in (name, study.reference))
    changes = {taught: {code: bits.changes(report, [code])[0] for code in bits.documents} for taught, report in reports.items()}
    means = {code: float(np.mean([bits.changes(report, [code])[0] for report in together])) for code in bits.documents}
    return Interference(arm=name, title=study.arms[name].title, changes=changes, together=means,
                        own=bits.estimate_alone(reports), own_together=bits.estimate(together, study.languages),
                        difference=bits.estimate_alone(reports, together=together),
                        against_reference=bits.estimate_alone(reports, against=reference)
                        if reference and name != study.reference else None,
                        english=bits.estimate_alone(reports, ["en"]), english_together=bits.estimate(together, ["en"]))


def answer(arms: Sequence[ArmRow], study: NeuronStudy, alone: Sequence[Interference] = ()) -> list[str]:
    """Return what the figures say, in sentences; a difference is called one only if its interval leaves out 0.

    Args:
        arms: their figures.
        study: reference and limit.
        alone: arms that were also taught one language at a time.
    """
    row = {arm.name: arm for arm in arms}
    reference = row[study.reference]
    sentences = [f"The reference, {reference.title}, changes bits per byte of the {len(study.languages)} languages by "
                 f"{change(reference.taught.value)} ({_interval(reference.taught)}) and of English by "
                 f"{change(reference.english.value)} ({_interval(reference.english)}); less is better."]
    words = {"better": [arm for arm in arms if arm.difference and arm.difference.high < 0],
             "worse": [arm for arm in arms if arm.difference and arm.difference.low > 0],
             "no clear difference": [arm for arm in arms if arm.difference and not arm.difference.is_clear]}
    said = {"better": "teach these languages more than the reference, by what stands in brackets", "worse": "teach them less",
            "no clear difference": "cannot be told from it"}
    for word, some in words.items():
        if some:
            each = [f"{arm.title} ({change(arm.difference.value)})" for arm in some if arm.difference]
            sentences.append(f"{listing(each)[0].upper()}{listing(each)[1:]} {said[word]}.")
    dear = [arm for arm in arms if max(arm.english.low, arm.chinese.low if arm.chinese else -1.0) > study.max_cost]
    if dear:
        sentences.append(f"English or Chinese surely pays more than {change(study.max_cost).lstrip('+')} in "
                         f"{listing([arm.title for arm in dear])}.")
    sentences += [f"Taught one language at a time (one seed), the reference changes each language's own text by "
                  f"{change(one.own.value)} ({_interval(one.own)}) and English by {change(one.english.value)} "
                  f"({_interval(one.english)}); from all at once the former differs by {change(one.difference.value)} of the "
                  f"base's bits ({_interval(one.difference)})."
                  for one in alone if one.arm == study.reference]
    edge = [arm.title for arm in arms if len(study.rates_of(arm.name)) > 1 and arm.rate == max(study.rates_of(arm.name))]
    if edge:
        sentences.append(f"The highest rate that was tried is the best within the limit for {listing(edge)}: a higher one may be "
                         "better still.")
    return sentences


def _interval(estimate: Estimate) -> str:
    return f"95 % interval {change(estimate.low)} to {change(estimate.high)}"
