"""Personal data masked: e-mail addresses, telephone numbers, identity numbers of the countries where the languages are spoken.

Telephone numbers are found by phonenumbers (the port of Google's libphonenumber) under the rules of the language's country.
Identity numbers are found by their check digit or date (python-stdnum), those that have none by their form in text of their own
country's language. Cambodia and Laos publish nothing that would tell theirs from other numbers: they stay. Names and addresses
stay too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

COUNTRY = {"zh": "CN", "id": "ID", "vi": "VN", "th": "TH", "tl": "PH", "ms": "MY", "my": "MM", "km": "KH", "lo": "LA", "ta": "IN",
           "jv": "ID"}
"""Language -> country whose national way of writing telephone numbers is known; of English only +65 and the like are."""
EMAIL, PHONE, IDENTITY = "[email]", "[phone]", "[id]"

# At most 64 characters stand before the @ (RFC 5321); without that limit a long word takes time in the square of its length.
_EMAIL = re.compile(r"[A-Za-z0-9_.%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_MANY_DIGITS = re.compile(r"\d{6}|(?:\d\D{0,2}){7}")
_SHORTEST_PHONE = 6
"""Characters of the countries' shortest valid number (the Philippines, Burma); years and the like are not even parsed."""
_EDGE = r"(?<![A-Za-z\d_-])(?:{})(?![A-Za-z\d_-])"  # other scripts write no space before a number


@dataclass(frozen=True)
class _Form:
    """How an identity number is written, and whether one is real."""

    pattern: re.Pattern[str]
    is_valid: Callable[[str], bool]
    language: str | None
    """The only language in whose text it is looked for."""

    def masked(self, found: re.Match[str]) -> str:
        return IDENTITY if self.is_valid(_plain(found[0])) else found[0]


def mask(text: str, code: str) -> str:
    """Return a text with personal data replaced by [email], [phone] and [id].

    Args:
        text: document.
        code: its language, for telephone numbers without a country's prefix.
    """
    text = _EMAIL.sub(EMAIL, text)
    if not _MANY_DIGITS.search(text):
        return text
    for form in _forms():
        if form.language not in (None, code):
            continue
        text = form.pattern.sub(form.masked, text)
    return _mask_phones(text, code)


def _mask_phones(text: str, code: str) -> str:
    from phonenumbers import PhoneNumberMatcher

    parts, end = [], 0
    for found in PhoneNumberMatcher(text, COUNTRY.get(code), min_candidate_length=_SHORTEST_PHONE,
                                    max_tries=len(text)):  # it gives up at 65,535 wrong ones
        parts += [text[end : found.start], PHONE]
        end = found.end
    return "".join([*parts, text[end:]])


def _plain(number: str) -> str:
    """Return a number's digits as ASCII and its letters, without hyphens and spaces."""
    return "".join(str(unicodedata.digit(letter)) if letter.isdigit() else letter for letter in number if letter not in "- ")


def _is_singapores(number: str) -> bool:
    """Return whether a Singaporean NRIC or FIN has the right last letter (weights 2 7 6 5 4 3 2, modulo 11)."""
    first, digits, last = number[0], number[1:-1], number[-1]
    total = sum(weight * int(digit) for weight, digit in zip((2, 7, 6, 5, 4, 3, 2), digits, strict=True))
    total += {"T": 4, "G": 4, "M": 3}.get(first, 0)
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "F": "XWUTRQPNMLK", "G": "XWUTRQPNMLK", "M": "KLJNPQRTUWX"}[first]
    return letters[10 - total % 11 if first == "M" else total % 11] == last


@cache
def _forms() -> tuple[_Form, ...]:
    from stdnum.cn import ric
    from stdnum.id import nik
    from stdnum.in_ import aadhaar
    from stdnum.my import nric
    from stdnum.th import pin

    def form(pattern: str, is_valid: Callable[[str], bool] = lambda number: True, language: str | None = None) -> _Form:
        return _Form(re.compile(_EDGE.replace("{}", pattern)), is_valid, language)

    return (
        form(r"\d{17}[\dXx]", ric.is_valid),
        form(r"\d{16}", nik.is_valid),
        form(r"\d-?\d{4}-?\d{5}-?\d{2}-?\d", pin.is_valid),
        form(r"\d{6}-?\d{2}-?\d{4}", nric.is_valid),
        form(r"\d{4} ?\d{4} ?\d{4}", aadhaar.is_valid),
        form(r"[STFGM]\d{7}[A-Z]", _is_singapores),
        # Viet Nam: province, sex and century, year, number
        form(r"0\d{2}[0-3]\d{8}", lambda number: 1 <= int(number[:3]) <= 96, "vi"),
        # the Philippines: PhilSys, SSS, TIN
        form(r"\d{4}-\d{4}-\d{4}(?:-\d{4})?|\d{2}-\d{7}-\d|\d{3}-\d{3}-\d{3}(?:-\d{3,5})?", language="tl"),
        form(r"\d{1,2}/ ?[A-Za-z\u1000-\u109f]{3,12} ?\([A-Za-z\u1000-\u109f]{1,8}\) ?\d{6}", language="my"),
    )
