"""How numbers stand in sentences: short, and never so short that two that differ look alike."""

from __future__ import annotations

from typing import Final

_WHOLE_FROM: Final = 100


def short(value: float) -> str:
    """Three digits, and all the digits of a whole part."""
    return f"{value:,.0f}" if abs(value) >= _WHOLE_FROM else f"{value:.3g}"


def apart(one: float, other: float) -> tuple[str, str]:
    """Two numbers that are compared: as short as shows the difference, if there is one."""
    pair = short(one), short(other)
    for digits in (6, 9, 17):
        if pair[0] != pair[1]:
            break
        pair = f"{one:.{digits}g}", f"{other:.{digits}g}"
    return pair if one != other else (short(one), short(other))
