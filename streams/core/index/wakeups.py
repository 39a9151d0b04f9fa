"""Wake-up times of a pool without an input: a row falls due, a mark ends, a price or the percentiles change."""

from __future__ import annotations

from math import inf

from schemas.vocabulary import Millis
from streams.core.index.due import DueList
from streams.core.index.waiting_index import WaitingIndex
from streams.core.policy.rulebook import Rulebook
from streams.core.state.pool import Pool


class Wakeups:
    """Wake-up times of one pool."""

    def __init__(self, pool: Pool, due: DueList, waiting: WaitingIndex, rulebook: Rulebook, now_ms: Millis) -> None:
        self._pool = pool
        self._due = due
        self._waiting = waiting
        self._rulebook = rulebook
        #: The state's `now`.
        self.now_ms = now_ms
        #: How many tasks wait because of the percentiles, as announced.
        self.reserved_for_ev = 0

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
        return min(self._percentiles_ms(), marks_ms, self._rulebook.prices_change_ms(self.now_ms))

    def _percentiles_ms(self) -> float:
        """Return when percentiles may be recomputed, where tasks wait because of them."""
        percentiles = self._pool.percentiles
        if not self.reserved_for_ev or percentiles is None or percentiles.p50 is None:
            return inf
        return percentiles.at_ms + self._rulebook.recompute_ms
