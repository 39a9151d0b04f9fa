"""Utilisation of a slot or a model: exact busy time over any window of the last hour.

A curve is the cumulative busy time, linear between its breakpoints. The caller reports when leases begin and end. Old
breakpoints are thinned, so that memory stays bounded: beyond the short window one breakpoint in half a minute is kept,
with interpolation between them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from schemas.vocabulary import Millis

#: The window that breaks ties between slots.
SHORT_MS: Final = 5 * 60_000
#: The longer window that boards show beside it.
LONG_MS: Final = 60 * 60_000
_KEEP_APART_MS: Final = 30_000
_POINTS_MAX: Final = 512


class BusyCurve:
    """Cumulative busy milliseconds of one slot (level 0 or 1) or of all slots of a model (level 0..n)."""

    __slots__ = ("_level", "_times_ms", "_totals_ms")

    def __init__(self, times_ms: list[int] | None = None, totals_ms: list[int] | None = None, level: int = 0) -> None:
        self._times_ms = times_ms or []
        self._totals_ms = totals_ms or []
        self._level = level

    def change(self, at_ms: Millis, by: int) -> None:
        """Change the number of busy slots by `by` from `at_ms` on. Times never decrease."""
        times, totals = self._times_ms, self._totals_ms
        if not times or at_ms > times[-1]:
            totals.append(self._total_ms(at_ms))
            times.append(at_ms)
            if len(times) > _POINTS_MAX:
                self._thin(at_ms)
        self._level += by

    def busy_ms(self, now_ms: Millis, window_ms: int) -> int:
        """Return the busy time within the last `window_ms`; of a model, the sum over its slots."""
        if not self._times_ms:
            return 0
        return self._total_ms(now_ms) - self._total_ms(now_ms - window_ms)

    def falls_ms(self, now_ms: Millis, window_ms: int, busy_ms: int) -> Millis:
        """Return when the busy time within `window_ms` is at most `busy_ms`, if nothing is busy from now on."""
        goal = self._total_ms(now_ms) - busy_ms
        times, totals = self._times_ms, self._totals_ms
        i = bisect_left(totals, goal)
        if i == 0:
            return now_ms
        if i == len(totals):
            return Millis(now_ms + window_ms)
        # The first time at which the total, which is rounded down between two breakpoints, reaches the goal.
        ahead_ms = -((totals[i - 1] - goal) * (times[i] - times[i - 1]) // (totals[i] - totals[i - 1]))
        return Millis(times[i - 1] + ahead_ms + window_ms)

    def dump(self) -> tuple[list[int], list[int], int]:
        """Return the curve as plain lists, for a snapshot."""
        return list(self._times_ms), list(self._totals_ms), self._level

    def _total_ms(self, at_ms: int) -> int:
        times, totals = self._times_ms, self._totals_ms
        if not times or at_ms <= times[0]:
            return totals[0] if totals else 0
        if at_ms >= times[-1]:
            return totals[-1] + self._level * (at_ms - times[-1])
        i = bisect_right(times, at_ms)
        span_ms = times[i] - times[i - 1]
        return totals[i - 1] + (totals[i] - totals[i - 1]) * (at_ms - times[i - 1]) // span_ms

    def _thin(self, now_ms: int) -> None:
        times, totals = self._times_ms, self._totals_ms
        fewer_times: list[int] = []
        fewer_totals: list[int] = []
        # A crowded short window (a model of a thousand slots) is thinned to seconds as well.
        crowded_ms = 1_000 if times[-_POINTS_MAX // 2] > now_ms - SHORT_MS else 0
        for i, at_ms in enumerate(times):
            if i + 1 < len(times) and times[i + 1] < now_ms - LONG_MS:
                continue
            apart_ms = _KEEP_APART_MS if at_ms < now_ms - SHORT_MS - _KEEP_APART_MS else crowded_ms
            # A breakpoint is dropped only where its neighbours are close, so that no long gap is interpolated.
            if fewer_times and i + 1 < len(times) and times[i + 1] - fewer_times[-1] <= apart_ms:
                continue
            fewer_times.append(at_ms)
            fewer_totals.append(totals[i])
        self._times_ms, self._totals_ms = fewer_times, fewer_totals
