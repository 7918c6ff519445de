"""Numbers as a reader wants them: grouped, with a real minus sign and few digits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

from sea_ray.report.data import Unit

_MISSING = "–"


def _sign(text: str) -> str:
    return text.replace("-", "−")


def count(value: float) -> str:
    """Return a whole number with grouped digits: 12,345."""
    return _sign(f"{value:,.0f}") if math.isfinite(value) else _MISSING


def short_count(value: float) -> str:
    """Return a large number in thousands, millions or billions: 1.23 M."""
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{_sign(f'{value / size:.3g}')} {name}"
    return count(value)


def size(num_bytes: float) -> str:
    """Return bytes in binary units: 3.1 GiB."""
    for scale, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {name}"
    return f"{num_bytes:.0f} B"


def duration(seconds: float) -> str:
    """Return seconds as a reader says them: 0.42 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def share(value: float, digits: int = 1) -> str:
    """Return a share of 0 to 1 in per cent: 12.3 %."""
    return _sign(f"{value * 100:.{digits}f} %") if math.isfinite(value) else _MISSING


def change(value: float, digits: int = 1) -> str:
    """Return a relative change with its sign: −12.3 %, +0.4 %."""
    if not math.isfinite(value):
        return _MISSING
    text = f"{value * 100:+.{digits}f} %"
    return _sign(text.lstrip("+-") if float(f"{value * 100:.{digits}f}") == 0 else text)


def figure(value: float, unit: Unit) -> str:
    """Return a figure without its unit, shares times 100."""
    if not math.isfinite(value):
        return _MISSING
    return _sign({"share": f"{value * 100:.1f}", "score": f"{value:.1f}", "bits": f"{value:.3f}"}[unit])


def score(value: float) -> str:
    """Return a value of -1 to 1 with two digits, zero without a sign."""
    return _sign(f"{value:.2f}") if abs(value) >= 0.005 else "0.00"


def general(value: object) -> str:
    """Return a value of unknown kind: four significant digits for a float, text for all else, members one by one."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {general(member)}" for name, member in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(general, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if abs(value) >= 10_000 and math.isfinite(value):
        return count(value)
    if isinstance(value, int):
        return str(value)
    return _sign(f"{value:.4g}") if math.isfinite(value) else "∞" if value == math.inf else _MISSING


def point_text(point: Mapping[str, object]) -> str:
    """Return a point of a sweep without the paths' beginnings: top_frac 0.2, rate 0.001."""
    return ", ".join(f"{path.rpartition('.')[2]} {setting(value)}" for path, value in point.items())


def setting(value: object) -> str:
    """Return a point's value in a few characters: of a mix, per cent."""
    if isinstance(value, Mapping):
        return " ".join(f"{code} {100 * part:.0f}" for code, part in value.items())
    return general(value)


def moment(text: str) -> str:
    """Return a date and time of ISO 8601 as a reader says it: 27 November 2026, 22:02 UTC; any other text as it is."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{when.day} {when:%B %Y, %H:%M} {when.tzname() or ''}".rstrip()


def sentence(text: str) -> str:
    """Return a text with a full stop at its end."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def listing(words: Sequence[str]) -> str:
    """Return words as a sentence lists them: a, b and c."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
