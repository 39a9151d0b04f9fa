"""How many requests one caller may send: a token bucket each, so that one who sends without end leaves room for others.

A bucket is full at first and holds what comes in `BURST_S`; each request takes one out, and it fills at the rate.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

#: A caller that was silent may send so many seconds' worth at once.
BURST_S: Final = 2.0
#: Callers that are remembered; who is forgotten begins with a full bucket.
CALLERS_MAX: Final = 10_000


class Rate:
    """A rate for each of many callers; 0: none."""

    def __init__(self, per_s: float, now_s: Callable[[], float]) -> None:
        self._per_s, self._now_s = per_s, now_s
        self._most = max(per_s * BURST_S, 1.0)
        #: What is in each bucket, and when that was so; who asked last is at the end.
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, caller: Hashable) -> float:
        """Take one request of a caller; return 0 where it may be served, else the seconds until the next may."""
        if not self._per_s:
            return 0.0
        now_s = self._now_s()
        level, at_s = self._buckets.pop(caller, (self._most, now_s))
        level = min(level + (now_s - at_s) * self._per_s, self._most)
        self._buckets[caller] = (level - 1 if level >= 1 else level, now_s)
        if len(self._buckets) > CALLERS_MAX:
            self._buckets.popitem(last=False)
        return 0.0 if level >= 1 else (1 - level) / self._per_s
