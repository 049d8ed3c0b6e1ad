"""Numbers as people read them: rounded, with thousands separated, and their unit."""

from decimal import Decimal
from math import isfinite

__all__ = ["change", "duration", "points", "shown", "size"]

_STEPS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k"))
_SHIFTED = {1e4: 1e3}


def shown(value: float | Decimal | None, unit: str = "") -> str:
    """A number in at most five characters and its unit: 1,204, 12.3 k, 4.56 M, 0.0214.

    A share (unit "%") is given as 0 to 1. What is missing or no number is an en dash.
    """
    if value is None or not isfinite(value):
        return "–"
    number = float(value) * (100 if unit == "%" else 1)
    text = _rounded(number)
    if unit in ("$", "€"):
        return f"{'-' if number < 0 else ''}{unit}{text.removeprefix('-')}"
    return f"{text} {unit}".rstrip()


def change(now: float | None, before: float | None) -> str:
    """How much something grew, such as "+12 %"; empty where there is nothing to compare with."""
    if now is None or before is None or not before or not (isfinite(now) and isfinite(before)):
        return ""
    share = (now - before) / abs(before)
    if abs(share) < 0.0005:
        return "±0 %"
    return f"{share * 100:+,.{0 if abs(share) >= 0.1 else 1}f} %"


def points(now: float | None, before: float | None) -> str:
    """How a share of 0 to 1 changed, in percentage points; empty where it cannot be told."""
    if now is None or before is None or not (isfinite(now) and isfinite(before)):
        return ""
    moved = (now - before) * 100
    return f"{moved:+.1f} points" if abs(moved) >= 0.05 else "±0"


def duration(seconds: float | None) -> str:
    """A time as its two largest units: 340 ms, 12.4 s, 3 min 20 s, 2 h 5 min, 4 d 3 h."""
    if seconds is None or not isfinite(seconds):
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for size, large, part, small in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min")):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {large}" + (f" {rest} {small}" if rest else "")
    rest = whole % 60
    return f"{whole // 60} min" + (f" {rest} s" if rest else "")


def size(count: float | None) -> str:
    """Bytes as people read them, in powers of 1,000: 512 B, 12.3 kB, 4.56 GB."""
    if count is None or not isfinite(count):
        return "–"
    for least, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= least * 0.9995:
            return f"{count / least:.3g} {unit}"
    return f"{count:,.0f} B"


def _rounded(number: float) -> str:
    size = abs(number)
    for least, letter in _STEPS:
        # 999,960 would be shown as 1,000 k.
        if size >= least * 0.99995:
            return f"{number / _SHIFTED.get(least, least):,.3g} {letter}"
    if size >= 100 or number == int(number):
        return f"{number:,.0f}"
    return f"{number:.3g}"
