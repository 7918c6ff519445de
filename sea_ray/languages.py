"""The twelve languages of SeaLLMs 3 (arXiv 2407.19672, section 2), and those that conf/languages.yaml adds to them.

What is written by hand for each of the twelve (the demo world, refusals, number words) an added language has not: it is left out
where it would be asked for, or refused with a word, never guessed. docs/own_language.md goes through it.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from sea_ray.conf_folder import config_folder
from sea_ray.decoding import decode
from sea_ray.errors import ConfigError, nearest


@dataclass(frozen=True, kw_only=True)
class Language:
    """One language as every room names it."""

    code: str
    """ISO 639-1 code as the paper uses it (Tagalog: tl); of an added language 2 to 8 small letters, such as "ceb"."""
    name: str
    """English name."""
    native_name: str = ""
    """Name in the language itself."""
    script: str
    """Prefix of the Unicode names of its letters ("LATIN", "THAI", "CJK")."""
    flores: str
    """Code in Flores-200, SIB-200 and Belebele, such as "vie_Latn"; of an added language its own code, if none is given."""
    high_resource: bool = False
    """Whether its quality must not suffer; else its neurons may be trained, and it counts among the SEA languages."""
    decimal_comma: bool = False
    """Whether numbers are written 1.234,5; else 1,234.5."""
    spaced: bool = True
    """Whether spaces stand between words."""
    identified_as: tuple[str, ...] = ()
    """Of an added language: what language identification (py3langid) takes its text for, such as [tl]. Empty: only the script is
    looked at."""


TWELVE: dict[str, Language] = {
    code: Language(code=code, name=name, native_name=native, script=script, flores=flores, high_resource=code in ("en", "zh"),
                   decimal_comma=code in ("id", "vi", "jv"), spaced=code not in ("zh", "th", "my", "km", "lo"))
    for code, name, native, script, flores in (
        ("en", "English", "English", "LATIN", "eng_Latn"),
        ("zh", "Chinese", "中文", "CJK", "zho_Hans"),
        ("id", "Indonesian", "Bahasa Indonesia", "LATIN", "ind_Latn"),
        ("vi", "Vietnamese", "Tiếng Việt", "LATIN", "vie_Latn"),
        ("th", "Thai", "ไทย", "THAI", "tha_Thai"),
        ("tl", "Tagalog", "Tagalog", "LATIN", "tgl_Latn"),
        ("ms", "Malay", "Bahasa Melayu", "LATIN", "zsm_Latn"),
        ("my", "Burmese", "မြန်မာ", "MYANMAR", "mya_Mymr"),
        ("km", "Khmer", "ខ្មែរ", "KHMER", "khm_Khmr"),
        ("lo", "Lao", "ລາວ", "LAO", "lao_Laoo"),
        ("ta", "Tamil", "தமிழ்", "TAMIL", "tam_Taml"),
        ("jv", "Javanese", "Basa Jawa", "LATIN", "jav_Latn"),
    )
}
"""The twelve: what all defaults are."""


def read_languages(file: Path) -> dict[str, Language]:
    """Return the languages that a file adds to the twelve, in its order.

    Raises:
        ConfigError: what is wrong, with the file and the dotted path in it.
    """
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        added = decode(dict[str, dict[str, object]], values)
        return {code: _added(code, fields) for code, fields in added.items()}
    except (OSError, yaml.YAMLError, ConfigError) as error:
        raise ConfigError("", f"{file}: {error}") from error


def _added(code: str, fields: Mapping[str, object]) -> Language:
    if code in TWELVE:
        raise ConfigError(code, f"it is one of the twelve ({TWELVE[code].name}); they stay as they are")
    if not re.fullmatch("[a-z]{2,8}", code):
        raise ConfigError(code, "a code has 2 to 8 small letters, such as ceb")
    added = decode(Language, {"flores": code, **fields, "code": code}, code)
    if not any(unicodedata.name(chr(point), "").startswith(f"{added.script} ") for point in range(sys.maxunicode)):
        raise ConfigError(f"{code}.script", f"no letter's Unicode name begins with {added.script!r}; write LATIN, ARABIC, "
                                            "JAVANESE or what the names of its letters begin with")
    return added


def _added_languages() -> dict[str, Language]:
    try:
        file = config_folder() / "languages.yaml"
    except ConfigError:
        return {}  # a room on its own, without conf/
    return read_languages(file) if file.is_file() else {}


ADDED: dict[str, Language] = _added_languages()
"""Languages besides the twelve."""

LANGUAGES: dict[str, Language] = TWELVE | ADDED
"""All of them, in the order of all tables."""

HIGH_RESOURCE: tuple[str, ...] = tuple(one.code for one in LANGUAGES.values() if one.high_resource)
"""Languages whose quality must not suffer."""

SEA_LANGUAGES: tuple[str, ...] = tuple(code for code in TWELVE if code not in HIGH_RESOURCE)
"""The ten Southeast Asian languages whose neurons are trained."""

LOW_RESOURCE: tuple[str, ...] = tuple(code for code in LANGUAGES if code not in HIGH_RESOURCE)
"""The ten, and those added languages that are to gain like them."""


def language(code: str, path: str = "languages") -> Language:
    """Return the language of a code.

    Args:
        code: ISO code such as "vi".
        path: dotted config path that named it, for the error.

    Raises:
        ConfigError: the code is not one of the twelve and not added.
    """
    if code not in LANGUAGES:
        by_name = {known.name.lower(): known.code for known in LANGUAGES.values()}
        hint = f"; did you mean {by_name[code.lower()]}?" if code.lower() in by_name else nearest(code, LANGUAGES)
        raise ConfigError(path, f"unknown language {code!r}{hint} (conf/languages.yaml may add it: docs/own_language.md)")
    return LANGUAGES[code]
