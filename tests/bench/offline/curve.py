"""How much of the gap between a weak and a strong model a rule recovers, for how many calls of the strong one.

The definitions are RouteLLM's (Ong et al. 2024, arXiv 2406.18665, section 3). For a rule R that calls the strong model
for the share c(R) of the items, with r the mean quality of what is served:

    PGR(R)  = (r(R) - r(weak)) / (r(strong) - r(weak))             performance gap recovered
    APGR(R) = integral from 0 to 1 of PGR(R at threshold t) d c(R at threshold t)

Here, as in their code, by the trapezoid rule over the settings ("knots") that were tried; the ends are always "all
weak" (0, 0) and "all strong" (1, 1). Between two knots the straight line stands for a random mix of the two settings. A
random mix of weak and strong alone has PGR = c everywhere and APGR 0.5.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import mul
from typing import Final

from msgspec import Struct

from streams.estimate.interval import Interval
from tests.bench.offline.item import Item

#: For each item, whether the strong model serves it.
Picks = Sequence[bool]

RESAMPLES: Final = 200
#: Of the resamples, what lies between these shares is the interval.
INTERVAL: Final = (0.025, 0.975)


class Served(Struct, frozen=True):
    """What one setting of a rule serves."""

    #: Share of the items that the strong model serves.
    calls: float
    quality: float
    usd_per_1000: float
    #: None: the strong model is not the better one, so there is no gap to recover.
    pgr: float | None


class Curve:
    """A rule at all its settings, on one set of items."""

    def __init__(self, items: Sequence[Item], settings: Sequence[Picks]) -> None:
        size = len(items)
        self._items = items
        self._gains = [item.gain for item in items]
        #: Knots as (1 or 0 by item, gain by item).
        self._knots = [
            (
                [int(pick) for pick in picks],
                [gain if pick else 0.0 for gain, pick in zip(self._gains, picks, strict=True)],
            )
            for picks in ([False] * size, *settings, [True] * size)
        ]

    def points(self, weights: Sequence[int] | None = None) -> list[tuple[float, float]] | None:
        """(calls, PGR) at the knots, ascending; None where there is no gap. An item counts `weights` times."""
        weights = weights or [1] * len(self._items)
        total, gap = sum(weights), sum(map(mul, weights, self._gains))
        if gap <= 0:
            return None
        return sorted(
            (sum(map(mul, weights, calls)) / total, sum(map(mul, weights, gains)) / gap) for calls, gains in self._knots
        )

    def pgr_at(self, calls: float) -> float | None:
        """PGR where the strong model gets that share of the calls."""
        points = self.points()
        return None if points is None else _between(points, calls)

    def apgr(self, weights: Sequence[int] | None = None) -> float | None:
        """The area under the curve."""
        points = self.points(weights)
        if points is None:
            return None
        return sum((right - left) * (low + high) / 2 for (left, low), (right, high) in pairwise(points))

    def apgr_interval(self) -> Interval | None:
        """APGR with its interval."""
        return interval(len(self._items), self.apgr)


def served(items: Sequence[Item], picks: Picks) -> Served:
    """What these picks give and cost."""
    calls, quality, usd = _sums(items, picks)
    gap = sum(item.gain for item in items)
    recovered = sum(item.gain for item, pick in zip(items, picks, strict=True) if pick)
    size = len(items)
    return Served(calls / size, quality / size, 1000 * usd / size, recovered / gap if gap > 0 else None)


def above_random(items: Sequence[Item], picks: Picks) -> Interval | None:
    """PGR less what a random mix with as many strong calls would recover."""
    gains = [item.gain for item in items]
    taken = [gain if pick else 0.0 for gain, pick in zip(gains, picks, strict=True)]
    ones = [int(pick) for pick in picks]

    def lead(weights: Sequence[int] | None = None) -> float | None:
        weights = weights or [1] * len(items)
        gap = sum(map(mul, weights, gains))
        if gap <= 0:
            return None
        at_random: float = sum(map(mul, weights, ones)) / sum(weights)
        recovered: float = sum(map(mul, weights, taken)) / gap
        return recovered - at_random

    return interval(len(items), lead)


def interval(size: int, value: Callable[[Sequence[int] | None], float | None]) -> Interval | None:
    """A value of all items, and its interval over resamples of them, the same ones for every rule."""
    whole = value(None)
    if whole is None:
        return None
    chance = random.Random(size)
    found = []
    for _ in range(RESAMPLES):
        drawn = Counter(chance.choices(range(size), k=size))
        again = value([drawn[place] for place in range(size)])
        if again is not None:
            found.append(again)
    return among(whole, found)


def among(value: float, found: Sequence[float]) -> Interval:
    """A value, with the range in which 95 % of what was found lie."""
    ordered = sorted(found)
    low, high = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in INTERVAL)
    return Interval(value, low, high)


def _sums(items: Sequence[Item], picks: Picks) -> tuple[int, float, float]:
    quality = usd = 0.0
    for item, pick in zip(items, picks, strict=True):
        quality += item.strong if pick else item.weak
        usd += item.strong_usd if pick else item.weak_usd
    return sum(picks), quality, usd


def _between(points: Sequence[tuple[float, float]], calls: float) -> float:
    for (left, low), (right, high) in pairwise(points):
        if left <= calls <= right and right > left:
            return low + (high - low) * (calls - left) / (right - left)
    return points[-1][1]
