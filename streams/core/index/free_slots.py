"""Which slots of a model are free, least used first, without comparing them all.

While a slot is free its busy share falls, at most as fast as time passes: `busy + now` never falls. A heap on
that sum, taken when the slot was last looked at, is therefore a heap of lower bounds; the top is looked at
again until it is up to date, and then it is the least used. Slots free for longer than the window have no
busy time at all and stand apart, by id.

An index, not the truth: what is no longer free is dropped when it surfaces. `take` hides a slot until the
decision's changes are undone (`undo.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final

from schemas.vocabulary import Millis
from streams.core.index.undo import Undo
from streams.core.state.utilisation import SHORT_MS, BusyCurve

#: Stale entries kept before the line of free slots is compacted.
_STALE_MAX: Final = 64


class FreeSlots:
    """The free slots of one model in one pool."""

    __slots__ = ("_cold", "_curves", "_line", "_looked_ms", "_taken", "_undo", "_warm", "since_ms")

    def __init__(self, curves: Mapping[str, BusyCurve], undo: Undo) -> None:
        self._curves = curves
        self._undo = undo
        #: slot id -> free since; the truth of this index.
        self.since_ms: dict[str, Millis] = {}
        #: Without any busy time in the window, by id.
        self._cold: list[tuple[str, Millis]] = []
        #: Lower bound of `busy + now`, id, free since.
        self._warm: list[tuple[int, str, Millis]] = []
        self._taken: set[str] = set()
        #: Free longest first.
        self._line: list[tuple[Millis, str]] = []
        #: Latest moment of a look-up: what it found to be cold may be warm at an earlier one.
        self._looked_ms = Millis(0)

    def __len__(self) -> int:
        return len(self.since_ms)

    def add(self, slot_id: str, since_ms: Millis) -> None:
        """The slot is free from `since_ms` on."""
        self.since_ms[slot_id] = since_ms
        heappush(self._warm, (0, slot_id, since_ms))
        heappush(self._line, (since_ms, slot_id))
        if len(self._line) > 2 * len(self.since_ms) + _STALE_MAX:
            self._line[:] = [(since, id_) for id_, since in self.since_ms.items()]
            heapify(self._line)

    def remove(self, slot_id: str) -> None:
        """The slot is not free any more."""
        self.since_ms.pop(slot_id, None)

    def least_used(self, now_ms: Millis) -> tuple[int, str] | None:
        """(busy ms of the last 5 min, slot id) of the least used free slot that is not taken."""
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
        """(since, slot id) of the slot that has been free longest and is not taken."""
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
        self._taken.add(slot_id)
        self._undo.add(partial(self._taken.discard, slot_id))

    def _busy_ms(self, slot_id: str, now_ms: Millis) -> int:
        curve = self._curves.get(slot_id)
        return curve.busy_ms(now_ms, SHORT_MS) if curve else 0

    def _look_again(self, now_ms: Millis) -> None:
        """Move what may have no busy time left out of the heap that needs repair."""
        warm = self._warm
        if now_ms < self._looked_ms:
            # A decision for a later moment was discarded.
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
