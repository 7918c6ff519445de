"""The twelve languages of SeaLLMs 3 (arXiv 2407.19672, section 2): codes, names, scripts and the benchmarks' codes."""

from __future__ import annotations

from dataclasses import dataclass

from sea_ray.errors import ConfigError, nearest


@dataclass(frozen=True, kw_only=True)
class Language:
    """One language as every room names it."""

    code: str
    """ISO 639-1 code as the paper uses it (Tagalog: tl)."""
    name: str
    """English name."""
    native_name: str
    """Name in the language itself."""
    script: str
    """Prefix of the Unicode names of its letters ("LATIN", "THAI", "CJK")."""
    flores: str
    """Code in Flores-200, SIB-200 and Belebele, such as "vie_Latn"."""


LANGUAGES: dict[str, Language] = {
    code: Language(code=code, name=name, native_name=native, script=script, flores=flores)
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

HIGH_RESOURCE: tuple[str, ...] = ("en", "zh")
"""Languages whose quality must not suffer."""

SEA_LANGUAGES: tuple[str, ...] = tuple(code for code in LANGUAGES if code not in HIGH_RESOURCE)
"""The ten Southeast Asian languages whose neurons are trained."""


def language(code: str, path: str = "languages") -> Language:
    """Return the language of a code.

    Args:
        code: ISO code such as "vi".
        path: dotted config path that named it, for the error.

    Raises:
        ConfigError: the code is not one of the twelve.
    """
    if code not in LANGUAGES:
        by_name = {known.name.lower(): known.code for known in LANGUAGES.values()}
        hint = f"; did you mean {by_name[code.lower()]}?" if code.lower() in by_name else nearest(code, LANGUAGES)
        raise ConfigError(path, f"unknown language {code!r}{hint}")
    return LANGUAGES[code]
