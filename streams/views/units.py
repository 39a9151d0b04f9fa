"""Numbers with their units, as people read them: spans of time, money, shares, counts. Pure."""

from __future__ import annotations

from typing import Final

_TENTHS_BELOW_S: Final = 10
#: Unit, and the next smaller one, in seconds.
_UNITS: Final = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))
_CENTS_FROM_USD: Final = 1


def span(seconds: float, units: int = 2) -> str:
    """Say a span of time in its largest units, one or two: `3 min 20 s`."""
    if seconds < _TENTHS_BELOW_S:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit_s, unit, below_s, below in _UNITS:
        if whole >= unit_s:
            rest = whole % unit_s // below_s
            return f"{whole // unit_s} {unit}" + (f" {rest} {below}" if rest and units > 1 else "")
    return f"{whole} s"


def usd(amount: float) -> str:
    """Say an amount of dollars: with cents, and of less than one dollar with four digits."""
    sign = "-" if amount < 0 else ""
    size = abs(amount)
    return f"{sign}${size:,.2f}" if size >= _CENTS_FROM_USD or size == 0 else f"{sign}${size:.4f}"


def share(part: float) -> str:
    """Say a part of 0..1 as per cent."""
    return f"{part:.0%}".replace("%", " %")


def many(count: int, noun: str, plural: str | None = None) -> str:
    """Say a count with its noun: `1 task`, `1,204 tasks`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
