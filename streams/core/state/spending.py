"""What finished work has cost in the last hour, by tenant, lane and pool, in minutes: for the cost breaker.

A minute counts as a whole for sixty minutes after it: an amount is in the sum for an hour at least, and for a minute
more at most. Minutes that are over are dropped when the next amount comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Final, NamedTuple

from schemas.decision import Spent
from schemas.vocabulary import BreakerScope, Millis

_MINUTE_MS: Final = 60_000
_WINDOW_MIN: Final = 60


class Scope(NamedTuple):
    """Whose spend is counted: a tenant's or a lane's in one pool, or the pool's."""

    of: BreakerScope
    name: str


def scopes_of(pool: str, tenant: str | None, lane: str | None) -> tuple[Scope, ...]:
    """Return whose spend the work of a task is."""
    found = [] if tenant is None else [Scope("tenant", tenant)]
    if lane is not None:
        found.append(Scope("lane", lane))
    return (*found, Scope("pool", pool))


class Spending:
    """The spend of one pool."""

    __slots__ = ("_first", "_minutes", "_sums", "version")

    def __init__(self) -> None:
        self._minutes: dict[int, dict[Scope, int]] = {}
        #: The sums from a minute on; None: they must be made again.
        self._first: int | None = None
        self._sums: dict[Scope, int] = {}
        #: Grows with every amount.
        self.version = 0

    def __bool__(self) -> bool:
        return bool(self._minutes)

    def add(self, row: Spent) -> None:
        """Add an amount; rows come in the order of time."""
        minute = row.at_ms // _MINUTE_MS
        for old in [old for old in self._minutes if old < minute - _WINDOW_MIN]:
            del self._minutes[old]
        sums = self._minutes.setdefault(minute, {})
        for scope in scopes_of(row.pool, row.tenant_id, row.lane):
            sums[scope] = sums.get(scope, 0) + row.uusd
            if self._first is not None and minute >= self._first:
                self._sums[scope] = self._sums.get(scope, 0) + row.uusd
        self.version += 1

    def sums(self, now_ms: Millis) -> Mapping[Scope, int]:
        """Return what was spent in the last hour; it is read before the next call."""
        first = now_ms // _MINUTE_MS - _WINDOW_MIN
        if self._first != first:
            self._first, self._sums = first, {}
            for minute, sums in self._minutes.items():
                if minute >= first:
                    for scope, uusd in sums.items():
                        self._sums[scope] = self._sums.get(scope, 0) + uusd
        return self._sums

    def leaves_ms(self, scope: Scope, now_ms: Millis) -> float:
        """Return when the oldest amount of the last hour leaves the sum; infinite: there is none."""
        first = now_ms // _MINUTE_MS - _WINDOW_MIN
        minutes = [minute for minute, sums in self._minutes.items() if minute >= first and scope in sums]
        return (min(minutes) + _WINDOW_MIN + 1) * _MINUTE_MS if minutes else inf

    def dump(self) -> tuple[tuple[int, tuple[tuple[Scope, int], ...]], ...]:
        """Return the minutes for a snapshot."""
        return tuple((minute, tuple(sums.items())) for minute, sums in self._minutes.items())

    def load(self, minutes: tuple[tuple[int, tuple[tuple[Scope, int], ...]], ...]) -> None:
        """Load what `dump` returned."""
        self._minutes = {minute: dict(sums) for minute, sums in minutes}
        self._first = None
