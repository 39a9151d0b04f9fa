"""Formats numbers for sentences: short, but different numbers stay different."""

from __future__ import annotations

from typing import Final

_WHOLE_FROM: Final = 100


def short(value: float) -> str:
    """Return three significant digits, and all digits of the whole part."""
    return f"{value:,.0f}" if abs(value) >= _WHOLE_FROM else f"{value:.3g}"


def usd(uusd: float | None) -> str:
    """Return micro-dollars as dollars, with every digit of them."""
    return f"${(uusd or 0) / 1e6:.6f}"


def apart(one: float, other: float) -> tuple[str, str]:
    """Return two compared numbers with as few digits as show their difference."""
    pair = short(one), short(other)
    for digits in (6, 9, 17):
        if pair[0] != pair[1]:
            break
        pair = f"{one:.{digits}g}", f"{other:.{digits}g}"
    return pair if one != other else (short(one), short(other))
