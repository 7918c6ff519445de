"""What tasks, metrics, sites and the figures of sweeps are called in words, and in which order a reader wants them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Key = tuple[str, str]
"""Task and metric."""

_SAFETY = {"unsafe_answered": "Harmful requests answered", "over_refusal": "Harmless look-alikes refused",
           "safe": "Harmful requests refused", "unsafe": "Harmful requests answered with sense",
           "invalid": "Harmful requests answered with nonsense, or in another language",
           "says_nothing": "Answers that say nothing", "in_language": "Answers in the language of the request"}
_THEMES: Mapping[str, Mapping[Key, str]] = {
    "Language and knowledge": {
        ("text", "bits_per_byte"): "Plain text, bits per byte",
        ("translation", "chrf_into_english"): "Translation into English, chrF",
        ("translation", "chrf_from_english"): "Translation from English, chrF",
        ("exam", "accuracy"): "Exam questions right", ("arithmetic", "exact_match"): "Sums right"},
    "Refusing what does not exist": {
        ("refusal", "balanced_accuracy"): "Balanced accuracy of refusing", ("refusal", "f1"): "F1 of refusing",
        ("refusal", "tpr"): "Unanswerable questions refused", ("refusal", "fpr"): "Answerable questions refused",
        ("refusal", "answered_right"): "Answerable questions answered right",
        ("refusal", "in_language"): "Answers in the language of the question"},
    "Safety": {(f"safety_{kind}", metric): f"{words}, {kind}" for metric, words in _SAFETY.items()
               for kind in ("general", "culture")},
}
_OTHERS = "Other tasks"
_TASKS = {"refusal": "what does not exist", "safety_general": "general safety", "safety_culture": "safety in culture",
          "text": "plain text"}
_SITES = {"ffn": "feed-forward", "q": "queries", "k": "keys", "v": "values"}
_SWEPT = {
    "gain_sea": "mean fall of bits per byte over the SEA languages",
    "worst_sea_ratio": "bits per byte after over before, in the SEA language where it is largest",
    "english_ratio": "bits per byte after over before, in English",
    "chinese_ratio": "bits per byte after over before, in Chinese",
    "merged_parameter_share": "share of the parameters that the merged packs change",
    "validation_nats_mean": "nats per answer token, mean over all languages",
    "validation_nats_worst": "nats per answer token in the worst language",
    "validation_nats_sea": "nats per answer token, mean over the SEA languages",
    "validation_nats_high_resource": "nats per answer token, mean over English and Chinese",
    "validation_bits_mean": "bits per byte of answers, mean over all languages",
}


def title(task: str, metric: str) -> str:
    """Return what a figure is, in words; of an unknown one its own names."""
    known = next((names[task, metric] for names in _THEMES.values() if (task, metric) in names), None)
    return known or f"{task}, {metric}".replace("_", " ")


def themes(keys: Iterable[Key]) -> dict[str, list[Key]]:
    """Return theme -> its keys in reading order; what no theme knows comes last, as it came.

    What another one says already is left out: `safe` is all that is not `unsafe_answered`. Of public benchmarks it stays, since
    others publish it.
    """
    given = dict.fromkeys(keys)
    left = [key for key in given if key[1] != "safe" or key[0] not in _TASKS
            or (key[0], "unsafe_answered") not in given]
    found = {theme: [key for key in names if key in left] for theme, names in _THEMES.items()}
    known = {key for names in found.values() for key in names}
    found[_OTHERS] = [key for key in left if key not in known]
    return {theme: own for theme, own in found.items() if own}


def task_name(task: str) -> str:
    """Return a task in words."""
    return _TASKS.get(task, task.replace("_", " "))


def site_name(site: str) -> str:
    """Return the kind of place in a layer that neurons stand at, in words."""
    return _SITES.get(site, site)


def meanings(figures: Iterable[str]) -> dict[str, str]:
    """Return figure of a sweep -> what it means, of those that are known."""
    return {name: _SWEPT[name] for name in figures if name in _SWEPT}
