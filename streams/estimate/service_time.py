"""How long a slot is taken by a task, by model, class and size: shrunk medians of logarithms.

log seconds = base + model + class + (model, class) + slope of the model x log size. Medians, so that a stuck agent does
not move them; each is drawn towards 0 where few were seen. Slopes are resistant lines: medians of the outer thirds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from math import exp, log, log1p
from statistics import median
from typing import Final

from msgspec import Struct

from streams.errors import MISTAKE, SlotwiseError
from streams.estimate.nearest_rank import nearest_rank

#: Fewer outcomes say too little.
OBSERVATIONS_MIN: Final = 20
#: An effect of so many observations is drawn half way towards none; of a slope, towards that of all models.
_WEIGHT: Final = 5.0
_WEIGHT_OF_SLOPES: Final = 50.0
#: Observations of a model and class from which its slope is looked at.
_SLOPE_MIN: Final = 9
_ROUNDS: Final = 4
_SECONDS_MIN: Final = 1e-3
#: A prediction is given with the band of so much below and above that 80 % of the times lie in.
_LOW, _HIGH = 10, 90


class Observation(Struct, frozen=True):
    """A piece of work that ended."""

    model: str
    #: Class of the work, or what it is known by.
    kind: str
    #: Tokens of the answer; None: unknown.
    size: float | None
    seconds: float


class TooFewOutcomes(SlotwiseError):
    """The record holds too little ended work; the message says how much there is and what to do."""

    exit_code = MISTAKE


class ServiceTimes:
    """Times fitted to observations."""

    def __init__(self, observations: Sequence[Observation]) -> None:
        """Fit.

        Raises:
            TooFewOutcomes: there are fewer than `OBSERVATIONS_MIN`.
        """
        if len(observations) < OBSERVATIONS_MIN:
            raise TooFewOutcomes(
                f"{len(observations)} ended pieces of work are too few to fit service times to, {OBSERVATIONS_MIN} are "
                "the least: take a longer window, or keep recorded times with --times recorded."
            )
        sizes = [log1p(one.size) for one in observations if one.size is not None]
        #: Where the size is unknown, it is the middle one.
        self._centre = median(sizes) if sizes else 0.0
        logs = [log(max(_SECONDS_MIN, one.seconds)) for one in observations]
        at = [self._x(one.size) for one in observations]
        self._slope, self._slopes = _slopes(observations, at, logs)
        rest = [
            y - self._slopes.get(one.model, self._slope) * x for one, x, y in zip(observations, at, logs, strict=True)
        ]
        self._base = median(rest)
        rest = [y - self._base for y in rest]
        self._models: dict[Hashable, float] = {}
        self._kinds: dict[Hashable, float] = {}
        self._cells: dict[Hashable, float] = {}
        for _ in range(_ROUNDS):
            rest = _polish(self._models, observations, rest, lambda one: one.model)
            rest = _polish(self._kinds, observations, rest, lambda one: one.kind)
        rest = _polish(self._cells, observations, rest, lambda one: (one.model, one.kind))
        #: What is left of the logarithms, ascending.
        self._rest = sorted(rest)

    def seconds(self, model: str, kind: str, size: float | None) -> float:
        """Return the median time of such work; a model or class that was never seen counts as the middle one."""
        return exp(
            self._base
            + self._models.get(model, 0.0)
            + self._kinds.get(kind, 0.0)
            + self._cells.get((model, kind), 0.0)
            + self._slopes.get(model, self._slope) * self._x(size)
        )

    def band(self, model: str, kind: str, size: float | None) -> tuple[float, float]:
        """Return between which seconds 80 % of such work should lie."""
        middle = self.seconds(model, kind, size)
        return middle * self.deviation(_LOW), middle * self.deviation(_HIGH)

    def deviation(self, percent: int) -> float:
        """Return which multiple of its median so many of 100 such pieces of work take at most."""
        return exp(nearest_rank(self._rest, percent))

    def _x(self, size: float | None) -> float:
        return 0.0 if size is None else log1p(size) - self._centre


def _slopes(
    observations: Sequence[Observation], at: Sequence[float], logs: Sequence[float]
) -> tuple[float, dict[str, float]]:
    """Return the slope of all models, and of each, drawn towards it."""
    points: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for one, x, y in zip(observations, at, logs, strict=True):
        if one.size is not None:
            points[one.model, one.kind].append((x, y))
    found: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    for (model, _), some in points.items():
        slope = _resistant(some)
        if slope is not None:
            found[model].append((slope, len(some)))
    everything = [one for some in found.values() for one in some]
    if not everything:
        return 0.0, {}
    general = _weighted_median(everything)
    return general, {
        model: general + (_weighted_median(some) - general) * _share(sum(n for _, n in some), _WEIGHT_OF_SLOPES)
        for model, some in found.items()
    }


def _resistant(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the slope between the medians of the lower and the upper third; None: too few points, or of one size."""
    if len(points) < _SLOPE_MIN:
        return None
    ordered = sorted(points)
    third = len(ordered) // 3
    low, high = ordered[:third], ordered[-third:]
    wide = median(x for x, _ in high) - median(x for x, _ in low)
    # Work does not get quicker by being longer, nor more than in proportion.
    return min(1.0, max(0.0, (median(y for _, y in high) - median(y for _, y in low)) / wide)) if wide > 0.0 else None


def _polish(
    effects: dict[Hashable, float],
    observations: Sequence[Observation],
    rest: Sequence[float],
    key: Callable[[Observation], Hashable],
) -> list[float]:
    """Give each key the median of its rest, drawn towards 0, as its effect; return what then is left."""
    groups: defaultdict[Hashable, list[float]] = defaultdict(list)
    for one, left in zip(observations, rest, strict=True):
        groups[key(one)].append(left + effects.get(key(one), 0.0))
    before = dict(effects)
    effects.update((name, median(some) * _share(len(some), _WEIGHT)) for name, some in groups.items())
    return [left + before.get(key(one), 0.0) - effects[key(one)] for one, left in zip(observations, rest, strict=True)]


def _share(count: int, weight: float) -> float:
    return count / (count + weight)


def _weighted_median(values: Sequence[tuple[float, int]]) -> float:
    half, seen = sum(n for _, n in values) / 2.0, 0
    for value, n in sorted(values):
        seen += n
        if seen >= half:
            return value
    raise ValueError("no values")
