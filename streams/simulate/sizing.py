"""How many slots are enough: the least number whose waits keep to a limit, and how sure that is.

More slots are taken not to lengthen waits, so that the number can be halved in on. Every number plays the same work,
seed by seed, so that luck in the arrivals does not choose between two numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from streams.estimate.interval import Interval, of_few

#: Gives one wait a run, in seconds, with so many slots.
Waits = Callable[[int], Sequence[float]]

SLOTS_MIN: Final = 1


class Size(Struct, frozen=True, kw_only=True):
    """The answer, and what was tried."""

    #: The least number with which the mean of the runs keeps to the limit; None: none up to the most that was allowed.
    slots: int | None
    #: The least number that could do: its interval reaches below the limit.
    at_least: int | None
    #: The least number that does surely: its whole interval is below the limit.
    surely: int | None
    #: Of every number tried: the mean wait of its runs and the 95 % interval.
    tried: Mapping[int, Interval]


class Sized(Struct, frozen=True, kw_only=True):
    """How many slots are enough, and for what."""

    model: str
    limit_s: float
    #: Percentile of the waits of all tasks.
    percentile: int
    size: Size
    seeds: int
    #: What holds in every run.
    assumed: tuple[str, ...]


def size(waits: Waits, limit_s: float, most: int) -> Size:
    """Search from 1 to `most` slots."""
    tried: dict[int, Interval] = {}

    def at(slots: int) -> Interval:
        if slots not in tried:
            tried[slots] = of_few(waits(slots))
        return tried[slots]

    found = _least(lambda slots: at(slots).value <= limit_s, SLOTS_MIN, most)
    at_least = _least(lambda slots: at(slots).low <= limit_s, SLOTS_MIN, found if found is not None else most)
    surely = _least(lambda slots: at(slots).high <= limit_s, found, most) if found is not None else None
    return Size(slots=found, at_least=at_least, surely=surely, tried=dict(sorted(tried.items())))


def _least(keeps: Callable[[int], bool], start: int, most: int) -> int | None:
    """The least number that keeps to it, by steps that double and then by halving; None: not even the most does."""
    below, above, step = start - 1, start, 1
    while not keeps(above):
        if above == most:
            return None
        below, above, step = above, min(most, above + step), step * 2
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if keeps(middle) else (middle, above)
    return above
