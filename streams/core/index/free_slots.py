"""The free slots of a model, least used first, without a comparison of all.

While a slot is free its busy time falls, at most as fast as time passes: `busy + now` never falls. A heap on that sum,
computed when the slot was last looked up, is therefore a heap of lower bounds: the top is computed again until it is
up to date, and then it is the least used. Slots that were free for longer than the window have no busy time and are
kept apart, by id.

An index: slots that are no longer free are dropped when they reach the top. `take` hides a slot until the decision's
changes are undone (`undo.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final

from schemas.vocabulary import Millis
from streams.core.index.undo import Undo
from streams.core.state.utilisation import SHORT_MS, BusyCurve

#: Stale entries before the list of free slots is compacted.
_STALE_MAX: Final = 64


class FreeSlots:
    """The free slots of one model in one pool."""

    __slots__ = ("_cold", "_curves", "_line", "_looked_ms", "_taken", "_undo", "_warm", "since_ms")

    def __init__(self, curves: Mapping[str, BusyCurve], undo: Undo) -> None:
        self._curves = curves
        self._undo = undo
        #: slot id -> free since; the other fields are derived from it.
        self.since_ms: dict[str, Millis] = {}
        #: Without any busy time in the window, by id.
        self._cold: list[tuple[str, Millis]] = []
        #: Lower bound of `busy + now`, id, free since.
        self._warm: list[tuple[int, str, Millis]] = []
        self._taken: set[str] = set()
        #: Free longest first.
        self._line: list[tuple[Millis, str]] = []
        #: Latest time of a look-up: a slot without busy time then may have some at an earlier time.
        self._looked_ms = Millis(0)

    def __len__(self) -> int:
        return len(self.since_ms)

    def add(self, slot_id: str, since_ms: Millis) -> None:
        """Add a slot that is free from `since_ms` on."""
        self.since_ms[slot_id] = since_ms
        heappush(self._warm, (0, slot_id, since_ms))
        heappush(self._line, (since_ms, slot_id))
        if len(self._line) > 2 * len(self.since_ms) + _STALE_MAX:
            self._line[:] = [(since, id_) for id_, since in self.since_ms.items()]
            heapify(self._line)

    def remove(self, slot_id: str) -> None:
        """Remove a slot."""
        self.since_ms.pop(slot_id, None)

    def least_used(self, now_ms: Millis) -> tuple[int, str] | None:
        """Return (busy ms of the last 5 min, slot id) of the least used free slot that is not taken."""
        self._look_again(now_ms)
        cold = self._cold
        while cold:
            slot_id, since_ms = cold[0]
            if self.since_ms.get(slot_id) != since_ms:
                heappop(cold)
            elif slot_id in self._taken:
                self._undo.add(partial(heappush, cold, heappop(cold)))
            else:
                return 0, slot_id
        warm = self._warm
        while warm:
            bound_ms, slot_id, since_ms = warm[0]
            if self.since_ms.get(slot_id) != since_ms:
                heappop(warm)
            elif slot_id in self._taken:
                self._undo.add(partial(heappush, warm, heappop(warm)))
            else:
                busy_ms = self._busy_ms(slot_id, now_ms)
                if busy_ms + now_ms == bound_ms:
                    return busy_ms, slot_id
                heapreplace(warm, (busy_ms + now_ms, slot_id, since_ms))
        return None

    def longest_free(self) -> tuple[Millis, str] | None:
        """Return (since, slot id) of the slot that has been free longest and is not taken."""
        line = self._line
        while line:
            since_ms, slot_id = line[0]
            if self.since_ms.get(slot_id) != since_ms:
                heappop(line)
            elif slot_id in self._taken:
                self._undo.add(partial(heappush, line, heappop(line)))
            else:
                return since_ms, slot_id
        return None

    def is_free(self, slot_id: str) -> bool:
        """Whether the slot is free and not taken."""
        return slot_id in self.since_ms and slot_id not in self._taken

    def take(self, slot_id: str) -> None:
        """Hide the slot for the rest of the decision."""
        if not self._taken:
            self._undo.add(self._taken.clear)
        self._taken.add(slot_id)

    def _busy_ms(self, slot_id: str, now_ms: Millis) -> int:
        curve = self._curves.get(slot_id)
        return curve.busy_ms(now_ms, SHORT_MS) if curve else 0

    def _look_again(self, now_ms: Millis) -> None:
        """Move what may have no busy time left out of the heap that needs repair."""
        warm = self._warm
        if now_ms < self._looked_ms:
            # A decision for a later time was discarded.
            self._cold.clear()
            warm[:] = [(0, slot_id, since_ms) for slot_id, since_ms in self.since_ms.items()]
            heapify(warm)
        self._looked_ms = now_ms
        while warm and warm[0][0] <= now_ms:
            _, slot_id, since_ms = warm[0]
            if self.since_ms.get(slot_id) != since_ms:
                heappop(warm)
            elif busy_ms := self._busy_ms(slot_id, now_ms):
                heapreplace(warm, (busy_ms + now_ms, slot_id, since_ms))
            else:
                heappop(warm)
                heappush(self._cold, (slot_id, since_ms))
