"""Language identification with py3langid, whose model ships in its wheel, restricted to the twelve languages.

Text of an added language is judged by its script, and by what the library takes it for beside the twelve, if that is said; text
of the twelve is judged the same whatever is added.

py3langid takes Malay for Indonesian in a quarter of all sentences. The two share most words but spell or choose many common ones
differently (kerana and karena, boleh and bisa), so between them those words decide, and the library where there are none.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from importlib import resources
from typing import Any

import yaml

from sea_ray.errors import ConfigError, nearest
from sea_ray.languages import ADDED, TWELVE, Language

_JUDGED_CHARACTERS = 400
_CLEAR = 3.0
"""Lead of Malay or Indonesian, in nats, from which a document is held to be in the wrong one of the two."""
_MALAYIC = ("id", "ms", "jv")
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")


def identify(text: str) -> str:
    """Return the code of the likeliest of the twelve languages.

    Args:
        text: document; its first 400 characters are judged, which is enough and bounds the time.
    """
    code, _ = _identifier().classify(text[:_JUDGED_CHARACTERS])
    if code in ("id", "ms"):
        lead = _malay_lead(text)
        code = "ms" if lead > 0 else "id" if lead < 0 else code
    return str(code)


def is_language(text: str, code: str) -> bool:
    """Return whether a document may be in a language: as `is_written_in`, but Javanese, which borrows from Indonesian and Malay,
    is taken for either and either for it."""
    return is_written_in(text, code) or (code in _MALAYIC and identify(text) in _MALAYIC and "jv" in (code, identify(text)))


def is_written_in(text: str, code: str) -> bool:
    """Return whether a text is in a language; Indonesian and Malay are told apart where their words do so clearly."""
    if code in ADDED:
        return _is_added(text, ADDED[code])
    found = identify(text)
    return found == code or ({found, code} == {"id", "ms"} and abs(_malay_lead(text)) < _CLEAR)


def _is_added(text: str, added: Language) -> bool:
    letters = [letter for letter in text[:_JUDGED_CHARACTERS] if letter.isalpha()]
    own = sum(unicodedata.name(letter, "").startswith(added.script) for letter in letters)
    if not added.identified_as or 2 * own < len(letters):
        return 2 * own >= len(letters)
    label, _ = _identifier(added.identified_as).classify(text[:_JUDGED_CHARACTERS])
    return label in added.identified_as


def _malay_lead(text: str) -> float:
    """Return the log odds of Malay against Indonesian by the document's words, nats (naive Bayes, each word once)."""
    weights = _telling_words()
    return sum(weights.get(word, 0.0) for word in set(_WORD.findall(text[:_JUDGED_CHARACTERS].lower())))


@cache
def _telling_words() -> dict[str, float]:
    groups = yaml.safe_load((resources.files("sea_ray.corpus") / "malay_indonesian.yaml").read_text(encoding="utf-8"))
    return {word: weight for weight, words in groups.items() for word in words.split()}


@cache
def _identifier(labels: tuple[str, ...] = ()) -> Any:
    """Return the identifier of the twelve languages and of further labels."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # 1 s to load, and a demo may not need it

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    for label in labels:
        if label not in identifier.nb_classes:
            raise ConfigError("", f"conf/languages.yaml: identified_as: language identification has no {label!r}"
                                  f"{nearest(label, identifier.nb_classes)}")
    identifier.set_languages([*TWELVE, *labels])
    return identifier
