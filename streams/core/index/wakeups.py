"""Wake-up times of a pool without an input: something falls due or ends, a price, the spend or the patience changes."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from math import inf
from typing import Final

from schemas.vocabulary import Millis, ReasonCode
from streams.core.index.breaker_index import BreakerIndex
from streams.core.index.due import DueList
from streams.core.index.waiting import Entry
from streams.core.index.waiting_index import WaitingIndex
from streams.core.policy.rulebook import Rulebook
from streams.core.state.pool import Pool

#: Headlines of tasks that may wait because premium slots are kept from them; a kept slot may be behind lost ones.
BEHIND_PREMIUM: Final = frozenset[ReasonCode | None](("reserved_for_ev", "lost"))
#: Stale entries before the list of these tasks is compacted.
_SPARE: Final = 64


class Wakeups:
    """Wake-up times of one pool."""

    def __init__(
        self,
        pool: Pool,
        due: DueList,
        waiting: WaitingIndex,
        breaker: BreakerIndex,
        rulebook: Rulebook,
        now_ms: Millis,
    ) -> None:
        self._pool = pool
        self._breaker = breaker
        self._due = due
        self._waiting = waiting
        self._rulebook = rulebook
        #: The state's `now`.
        self.now_ms = now_ms
        #: How many tasks may wait because premium slots are kept from them, as announced.
        self._reserved = 0
        #: When each of them reaches patience; stale items are dropped when they reach the top.
        self._patient: list[tuple[Millis, str, Entry]] = []

    def reserve(self, entry: Entry) -> None:
        """Add a waiting task whose announced headline is in `BEHIND_PREMIUM`."""
        self._reserved += 1
        heappush(self._patient, (self._rulebook.patient_ms(entry.row), entry.task_id, entry))
        if len(self._patient) > 2 * self._reserved + _SPARE:
            self._patient = [item for item in self._patient if self._is_current(item)]
            heapify(self._patient)

    def unreserve(self) -> None:
        """Remove one: it left, or another headline was announced."""
        self._reserved -= 1

    def clear(self) -> None:
        """Remove all."""
        self._reserved = 0
        self._patient.clear()

    def from_ms(self) -> float:
        """Return a lower bound of the next wake-up time; `is_due` is exact."""
        return min(self._due.from_ms(), self._conditions_ms())

    def is_due(self, now_ms: Millis) -> bool:
        """Whether something is due by `now_ms`."""
        return self.from_ms() <= now_ms and min(self._due.first_ms(), self._conditions_ms()) <= now_ms

    def next_ms(self) -> Millis | None:
        """Return the next wake-up time; None: there is none."""
        due_ms = min(self._due.first_ms(), self._conditions_ms())
        return None if due_ms == inf else Millis(int(due_ms))

    def _conditions_ms(self) -> float:
        """Return when a condition of waiting tasks changes by itself."""
        if not self._waiting.entries:
            return inf
        marks_ms = self._pool.marks.next_change_ms(self.now_ms) if self._pool.marks else inf
        prices_ms = self._rulebook.prices_change_ms(self.now_ms)
        spend_ms = self._breaker.next_ms(self.now_ms)
        return min(self._percentiles_ms(), self._patience_ms(), marks_ms, prices_ms, spend_ms)

    def _percentiles_ms(self) -> float:
        """Return when percentiles may be recomputed, where tasks wait because of them."""
        percentiles = self._pool.percentiles
        if not self._reserved or percentiles is None or percentiles.p50 is None:
            return inf
        return percentiles.at_ms + self._rulebook.recompute_ms

    def _patience_ms(self) -> float:
        """Return when the next task reaches patience that premium slots are kept from."""
        while self._patient:
            if self._is_current(self._patient[0]):
                return self._patient[0][0]
            heappop(self._patient)
        return inf

    def _is_current(self, item: tuple[Millis, str, Entry]) -> bool:
        at_ms, _, entry = item
        return at_ms > self.now_ms and entry.alive and entry.row.status.headline in BEHIND_PREMIUM
