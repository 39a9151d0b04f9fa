"""Means of what was seen of a thing in a place, drawn towards the thing's mean, and that towards the mean of all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, TypeVar

_Thing = TypeVar("_Thing", bound=Hashable)
_Place = TypeVar("_Place", bound=Hashable)


class DrawnMeans(Generic[_Thing, _Place]):
    """Where little was seen, the wider mean counts for more."""

    def __init__(self, seen: Iterable[tuple[_Thing, _Place, float]], weight: float) -> None:
        """`seen` has a thing, its place and a value; a mean of `weight` values is drawn half way."""
        everything: list[float] = []
        things: defaultdict[_Thing, list[float]] = defaultdict(list)
        both: defaultdict[tuple[_Thing, _Place], list[float]] = defaultdict(list)
        for thing, place, value in seen:
            everything.append(value)
            things[thing].append(value)
            both[thing, place].append(value)
        self._all = sum(everything) / len(everything) if everything else 0.0
        self._things = {thing: _drawn(values, self._all, weight) for thing, values in things.items()}
        self._both = {key: _drawn(values, self._things[key[0]], weight) for key, values in both.items()}

    def of(self, thing: _Thing, place: _Place) -> float:
        """Return the mean to expect; of a place that was never seen the thing's, of such a thing that of all."""
        return self._both.get((thing, place), self._things.get(thing, self._all))


def _drawn(values: Sequence[float], towards: float, weight: float) -> float:
    return (sum(values) + weight * towards) / (len(values) + weight)
