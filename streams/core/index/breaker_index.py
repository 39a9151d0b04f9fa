"""The cost breaker of a pool at this point of a decision: what was spent of each cap, and what it bars tasks from.

Only what finished work has cost is spend. So it grows by an event of the pool, falls when a minute leaves the window,
and no round changes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf

from schemas.decision import Spent
from schemas.vocabulary import MicroUsd, Millis
from streams.core.policy.breaker import BARS_PREMIUM, WARNS, Reading
from streams.core.policy.rulebook import Rulebook
from streams.core.state.marks import Marks
from streams.core.state.pool import Pool
from streams.core.state.spending import Scope, scopes_of


class BreakerIndex:
    """The spend of one pool, and the caps that it has come near to."""

    def __init__(self, pool: Pool, rulebook: Rulebook) -> None:
        self._pool = pool
        self._breaker = rulebook.breaker
        #: Caps that are used up to the first share at least.
        self._readings: dict[Scope, Reading] = {}
        #: What the next change by time was computed of, and that time.
        self._next: tuple[tuple[int, ...], float] = ((), inf)

    def spent(self, now_ms: Millis, also: Iterable[Spent] = ()) -> Mapping[Scope, int]:
        """Return the spend of the last hour, with rows of a draft; empty where nothing is capped."""
        if not self._breaker.is_on:
            return {}
        found = dict(self._pool.spending.sums(now_ms))
        for row in also:
            for scope in scopes_of(row.pool, row.tenant_id, row.lane):
                found[scope] = found.get(scope, 0) + row.uusd
        return found

    def look(self, spent: Mapping[Scope, int], marks: Marks, now_ms: Millis) -> bool:
        """Read the caps; return whether tasks are barred from other models than before."""
        before = {scope: reading.level for scope, reading in self._readings.items() if reading.level >= BARS_PREMIUM}
        self._readings = self._read(spent, marks, now_ms)
        return before != {
            scope: reading.level for scope, reading in self._readings.items() if reading.level >= BARS_PREMIUM
        }

    def trip(self, tenant: str | None, lane: str | None) -> Reading | None:
        """Return the cap that bars such a task from models, and how far it is used up; None: it is barred from none."""
        worst = self._worst(tenant, lane)
        return worst if worst is not None and worst.level >= BARS_PREMIUM else None

    def level(self, tenant: str | None, lane: str | None) -> int:
        """Return the level by which such a task is barred from models; 0: from none."""
        trip = self.trip(tenant, lane)
        return 0 if trip is None else trip.level

    def warns(self, tenant: str | None, lane: str | None) -> bool:
        """Whether a cap of such a task is nearly used up, or more."""
        return self._worst(tenant, lane) is not None

    def readings(self, now_ms: Millis) -> list[Reading]:
        """Return every cap that is used up to the first share at least, by the rows as they are."""
        return list(self._read(self.spent(now_ms), self._pool.marks, now_ms).values())

    def next_ms(self, now_ms: Millis) -> float:
        """Return when the spend of a cap that bars tasks falls next by the time alone."""
        if not self._breaker.is_on:
            return inf
        spending = self._pool.spending
        seen = (now_ms, spending.version, self._pool.marks.version)
        if self._next[0] != seen:
            barring = [one.scope for one in self.readings(now_ms) if one.level >= BARS_PREMIUM]
            self._next = (seen, min((spending.leaves_ms(scope, now_ms) for scope in barring), default=inf))
        return self._next[1]

    def _read(self, spent: Mapping[Scope, int], marks: Marks, now_ms: Millis) -> dict[Scope, Reading]:
        found = {}
        for scope, uusd in sorted(spent.items()):
            cap = self._breaker.cap_uusd(scope)
            if cap is not None and not marks.is_open(scope.of, scope.name, now_ms):
                level = self._breaker.level(uusd, cap)
                if level >= WARNS:
                    found[scope] = Reading(scope, MicroUsd(uusd), cap, level)
        return found

    def _worst(self, tenant: str | None, lane: str | None) -> Reading | None:
        if not self._readings:
            return None
        scopes = scopes_of(self._pool.name, tenant, lane)
        return max(
            (reading for scope in scopes if (reading := self._readings.get(scope)) is not None),
            key=lambda reading: reading.level,
            default=None,
        )
