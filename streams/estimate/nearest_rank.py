"""Percentiles that are one of the values, by nearest rank; reckoned in integers, so that no rounding moves a rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Value = TypeVar("Value", int, float)


def nearest_rank(ascending: Sequence[Value], percent: int) -> Value:
    """The smallest value that at least so many of 100 values do not exceed; percentile 0 is the least value.

    Raises:
        IndexError: there are no values.
    """
    return ascending[max(0, -(-percent * len(ascending) // 100) - 1)]
