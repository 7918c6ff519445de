"""Language identification with py3langid, whose model ships in its wheel, restricted to the twelve languages."""

from __future__ import annotations

from functools import cache
from typing import Any

from sea_ray.languages import LANGUAGES

# py3langid finds Malay in 72 of 99 sentences of SIB-200 and calls the rest Indonesian: these three count as one.
MALAYIC = frozenset({"id", "ms", "jv"})
_JUDGED_CHARACTERS = 400


def identify(text: str) -> str:
    """Return the code of the likeliest of the twelve languages.

    Args:
        text: document; its first 400 characters are judged, which is enough and bounds the time.
    """
    code, _ = _identifier().classify(text[:_JUDGED_CHARACTERS])
    return str(code)


def is_language(text: str, code: str) -> bool:
    """Return whether a document may be in a language; Indonesian, Malay and Javanese are taken for each other."""
    found = identify(text)
    return found == code or (found in MALAYIC and code in MALAYIC)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # 1 s to load, and a demo may not need it

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(list(LANGUAGES))
    return identifier
