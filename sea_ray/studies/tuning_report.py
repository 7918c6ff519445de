"""From the artifacts of a study of fine-tunings to what its page shows, and to the sentences that its figures bear."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import yaml
from scipy.stats import t as student

from sea_ray.config import ExperimentConfig
from sea_ray.decoding import decode
from sea_ray.evaluation.figures import Z95, EvalReport, Figure
from sea_ray.languages import HIGH_RESOURCE, known_languages
from sea_ray.report.data import Cost, StageRow
from sea_ray.report.formats import listing
from sea_ray.report.study_data import Estimate, MeasureRow, TuningArmRow, TuningStudyData
from sea_ray.studies.tuning import TuningResults
from sea_ray.study_config import Measure, TuningStudy

DRAWS = 10_000
"""From the arms' intervals, for the chance of being the best."""
Reports = Sequence[EvalReport]
"""Of one arm, one for each seed."""


def estimate(reports: Reports, measure: Measure, codes: Sequence[str], against: Reports = ()) -> Estimate:
    """Return the mean of a measure over its figures, languages and seeds, or how much it differs from another arm's.

    The half width of the interval is the root of the sum of two squares: Student's t times the standard error over the seeds
    (with two arms, of their difference), and 1.96 times the standard error over the items, of the figures' own intervals. The
    items are the same for all seeds and arms; that they are paired is not used, so the interval of a difference is rather too
    wide.

    Args:
        reports: of an arm.
        measure: what is averaged.
        codes: languages.
        against: of the other arm.
    """
    arms = [reports, against] if against else [reports]
    means = [[_mean(report, measure, codes) for report in arm] for arm in arms]
    value = np.mean(means[0]) - (np.mean(means[1]) if against else 0.0)
    variance = sum(float(np.var(arm, ddof=1)) / len(arm) for arm in means)
    freedom = sum(map(len, means)) - len(means)
    items = math.sqrt(sum(_items_error(arm[0], measure, codes) ** 2 for arm in arms))
    half = math.hypot(float(student.ppf(0.975, freedom)) * math.sqrt(variance), Z95 * items)
    return Estimate(value=float(value), low=float(value) - half, high=float(value) + half)


def _figures(report: EvalReport, measure: Measure, codes: Sequence[str]) -> list[tuple[float, Figure]]:
    """Return the figures of a measure in some languages, each with what it is to be multiplied with.

    A figure that a language does not have is left out: of translations, English has none of its own.

    Raises:
        ConfigError: none was measured; names what was.
    """
    found = []
    for name in measure.figures:
        task, _, metric = name.partition("/")
        unit = 0.01 if metric.startswith("chrf") else 1.0
        known = report.of(task, metric)
        found += [(unit, known[code]) for code in codes if code in known]
    if not found:
        task, _, metric = measure.figures[0].partition("/")
        report.figure(task, metric, codes[0])
    return found


def _measured(report: EvalReport, measure: Measure, codes: Sequence[str]) -> list[str]:
    """Return the languages that have any of a measure's figures."""
    return [code for code in codes if any(code in report.of(*name.split("/", 1)) for name in measure.figures)]


def _mean(report: EvalReport, measure: Measure, codes: Sequence[str]) -> float:
    return float(np.mean([unit * figure.value for unit, figure in _figures(report, measure, codes)]))


def _items_error(report: EvalReport, measure: Measure, codes: Sequence[str]) -> float:
    errors = [unit * (figure.high - figure.low) / (2 * Z95) for unit, figure in _figures(report, measure, codes)]
    return math.sqrt(sum(error**2 for error in errors)) / len(errors)


def tuning_study_data(results: TuningResults, record: Mapping[str, Any]) -> TuningStudyData:
    """Return what the page shows.

    Args:
        results: of the study.
        record: of the run (run.json).
    """
    config = decode(ExperimentConfig, record["config"])
    assert config.study is not None
    study = config.study.tuning
    assert study is not None
    reports: dict[str, list[EvalReport]] = {}
    for run in results.runs:
        reports.setdefault(run.arm, []).append(EvalReport.load(run.evaluation.folder))
    groups = _groups(config.corpus.languages)
    before = EvalReport.load(results.before.folder)
    rows = _arm_rows(study, reports, groups)
    recommended, chances, front = _recommend(study, rows)
    arms = tuple(replace(row, chance_of_best=chances.get(row.name), on_front=row.name in front) for row in rows)
    first = next(iter(reports.values()))[0]
    return TuningStudyData(
        name=record["name"], made_at=record["made_at"], title=study.title, question=study.question,
        answer=tuple(answer(study, arms, recommended)), reference=study.reference, recommended=recommended,
        recommend_by=study.recommend_by, max_loss=study.max_loss, arms=arms, seeds=len(study.seeds), not_shown=study.not_shown,
        measures=tuple(MeasureRow(name=name, title=each.title, figures=each.figures, higher_is_better=each.higher_is_better)
                       for name, each in study.measures.items()),
        before={name: tuple(_alone(before, measure, codes) for codes in groups)  # type: ignore[misc]
                for name, measure in study.measures.items()},
        settings={name: arm.settings for name, arm in study.arms.items()},
        items={name: min(figure.n for _, figure in _figures(first, each, groups[0])) for name, each in study.measures.items()},
        tokens={run.arm: run.training.facts["tokens"] for run in results.runs},
        command=f"sea-ray run {' '.join(record['overrides'])}", config=yaml.safe_dump(record["config"], sort_keys=False),
        versions=record["versions"],
        stages=tuple(StageRow(name=row["name"], kind=row["kind"], seconds=row["seconds"], reused=row["reused"],
                              fingerprint=row["fingerprint"]) for row in record["stages"]),
        cost=Cost(wall_s=record["seconds"], machine=record["machine"], peak_memory_bytes=record["peak_memory_bytes"],
                  tokens_trained=sum(run.training.facts["tokens"] for run in results.runs)))


def _groups(languages: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the SEA languages, and English and Chinese, as far as they are among the corpus'."""
    known = [code for code in known_languages() if code in languages]
    return [code for code in known if code not in HIGH_RESOURCE], [code for code in known if code in HIGH_RESOURCE]


def _alone(report: EvalReport, measure: Measure, codes: Sequence[str]) -> Estimate:
    value, half = _mean(report, measure, codes), Z95 * _items_error(report, measure, codes)
    return Estimate(value=value, low=value - half, high=value + half)


def _arm_rows(study: TuningStudy, reports: Mapping[str, Reports], groups: tuple[list[str], list[str]]) -> list[TuningArmRow]:
    sea, kept = groups
    rows = []
    for name, arm in study.arms.items():
        own, other = reports[name], reports[study.reference] if name != study.reference else ()
        rows.append(TuningArmRow(
            name=name, title=arm.title, chance_of_best=None, on_front=False,
            sea={key: estimate(own, measure, sea) for key, measure in study.measures.items()},
            kept={key: estimate(own, measure, kept) for key, measure in study.measures.items()},
            sea_difference={key: estimate(own, measure, sea, other) for key, measure in study.measures.items() if other},
            kept_difference={key: estimate(own, measure, kept, other) for key, measure in study.measures.items() if other},
            by_language={key: {code: estimate(own, measure, [code]) for code in _measured(own[0], measure, (*sea, *kept))}
                         for key, measure in study.measures.items()}))
    return rows


def _recommend(study: TuningStudy, rows: Sequence[TuningArmRow]) -> tuple[str | None, dict[str, float], set[str]]:
    """Return the recommended arm, each arm's chance of being it, and the arms that no other beats in both groups.

    The chance is the share of draws, each arm's figures from normal distributions of their intervals, in which the rule picks
    it.
    """
    key = study.recommend_by
    if key is None:
        return None, {}, set()
    sign = 1.0 if study.measures[key].higher_is_better else -1.0
    names = [row.name for row in rows]
    reference = names.index(study.reference)

    def pick(sea_A: np.ndarray, kept_A: np.ndarray) -> int:
        allowed = sign * (kept_A - kept_A[reference]) >= -study.max_loss
        return int(np.argmax(np.where(allowed, sign * sea_A, -np.inf)))

    sea_A, kept_A = (np.array([getattr(row, group)[key].value for row in rows]) for group in ("sea", "kept"))
    spread = [np.array([(getattr(row, group)[key].high - getattr(row, group)[key].low) / (2 * Z95) for row in rows])
              for group in ("sea", "kept")]
    draw = np.random.default_rng(0)
    picks = [pick(draw.normal(sea_A, spread[0]), draw.normal(kept_A, spread[1])) for _ in range(DRAWS)]
    front = {name for place, name in enumerate(names) if not any(
        sign * sea_A[other] > sign * sea_A[place] and sign * kept_A[other] > sign * kept_A[place] for other in range(len(names)))}
    return names[pick(sea_A, kept_A)], {name: picks.count(place) / DRAWS for place, name in enumerate(names)}, front


def answer(study: TuningStudy, arms: Sequence[TuningArmRow], recommended: str | None) -> list[str]:
    """Return what the figures say, in sentences; a difference is called one only if its interval leaves out 0.

    Args:
        study: measures and reference.
        arms: their figures.
        recommended: arm; None: nothing is.
    """
    reference = next(arm for arm in arms if arm.name == study.reference)
    sentences = []
    for key, measure in study.measures.items():
        parts = []
        for group, words in (("sea", "SEA languages"), ("kept", "English and Chinese")):
            clear = [arm for arm in arms if getattr(arm, f"{group}_difference").get(key) is not None
                     and getattr(arm, f"{group}_difference")[key].is_clear]
            each = [f"{arm.title} {getattr(arm, f'{group}_difference')[key].value:+.3f}" for arm in clear]
            own = getattr(reference, group)[key]
            parts.append(f"in {words} {own.value:.3f} with {reference.title}, "
                         + (f"clearly different with {listing(each)}" if each else "no arm clearly different"))
        sentences.append(f"{measure.title}: {'; '.join(parts)}.".replace("-", "−"))
    if recommended is not None and study.recommend_by is not None:
        arm = next(arm for arm in arms if arm.name == recommended)
        sentences.append(
            f"By {study.measures[study.recommend_by].title} of the SEA languages, with English and Chinese at most "
            f"{study.max_loss:g} below the reference, {arm.title} is recommended; the chance that the rule would pick it again "
            f"is {arm.chance_of_best:.0%}.")
    return sentences
