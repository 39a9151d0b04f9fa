"""An estimate with its 95 % interval: by the normal approximation of a mean, or by Student's t of a few values."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from math import exp, fsum, lgamma, log1p, pi, sqrt
from typing import Final

from msgspec import Struct

#: Half of a 95 % interval, in standard errors.
Z_95: Final = 1.959963984540054
#: Share of the values below the upper end of such an interval.
_UPPER: Final = 0.975
#: Places at which a density is read to sum it up, and halvings of a search; both for some nine digits.
_PLACES: Final = 400
_HALVINGS: Final = 50


class Interval(Struct, frozen=True):
    """A value that lies between the two others with a probability of 95 %."""

    value: float
    low: float
    high: float

    def covers(self, truth: float) -> bool:
        """Whether the interval has that value in it."""
        return self.low <= truth <= self.high


def around(value: float, variance: float) -> Interval:
    """Return the interval of an estimate whose own variance is known."""
    half = Z_95 * sqrt(max(0.0, variance))
    return Interval(value, value - half, value + half)


def of_mean(values: Sequence[float]) -> Interval:
    """Return the mean of independent values; two at least.

    Raises:
        ValueError: there are fewer.
    """
    count = len(values)
    if count < 2:  # noqa: PLR2004 -- a spread takes two
        raise ValueError(f"{count} values have no spread")
    mean = fsum(values) / count
    return around(mean, fsum((value - mean) ** 2 for value in values) / (count - 1) / count)


def of_few(values: Sequence[float]) -> Interval:
    """Return the mean of a few independent values by Student's t; a single one says nothing of its spread.

    Raises:
        ValueError: there is none.
    """
    if len(values) == 1:
        return Interval(values[0], values[0], values[0])
    found = of_mean(values)
    half = (found.high - found.value) / Z_95 * student_t(len(values) - 1)
    return Interval(found.value, found.value - half, found.value + half)


@functools.cache
def student_t(freedom: int) -> float:
    """Return half of a 95 % interval in standard errors, of so many degrees of freedom (1 at least)."""
    low, high = 0.0, 16.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _below(middle, freedom) < _UPPER else (low, middle)
    return low


def _below(t: float, freedom: int) -> float:
    """The share of Student's distribution below `t`, which is 0 or more: Simpson's rule from the middle on."""
    scale = exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2)) / sqrt(freedom * pi)
    width = t / _PLACES
    heights = [exp(-(freedom + 1) / 2 * log1p((place * width) ** 2 / freedom)) for place in range(_PLACES + 1)]
    inner = 4 * fsum(heights[1:-1:2]) + 2 * fsum(heights[2:-1:2])
    return 0.5 + scale * width / 3 * (heights[0] + inner + heights[-1])
