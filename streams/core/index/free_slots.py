"""The free slots of a model, least used first, without a comparison of all.

Use is compared in steps, so that slots used nearly alike are alike: each step has a heap of its slots by id. While a
slot is free its busy time only falls, and its curve says when it falls into a lower step: a heap of those times moves
slots down. Only slots whose time has come are looked at.

An index: slots that are no longer free are dropped when they reach the top. `take` hides a slot until the decision's
changes are undone (`undo.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from heapq import heapify, heappop, heappush
from typing import Any, Final

from schemas.vocabulary import Millis
from streams.core.index.undo import Undo
from streams.core.state.utilisation import SHORT_MS, BusyCurve

#: Stale entries before the list of free slots is compacted.
_STALE_MAX: Final = 64


class FreeSlots:
    """The free slots of one model in one pool."""

    __slots__ = (
        "_by_step",
        "_curves",
        "_falls",
        "_line",
        "_looked_ms",
        "_step_ms",
        "_step_of",
        "_taken",
        "_undo",
        "since_ms",
    )

    def __init__(self, curves: Mapping[str, BusyCurve], step_ms: int, undo: Undo) -> None:
        """`step_ms` is the busy time, of the last 5 min, that makes a step of use."""
        self._curves = curves
        self._step_ms = step_ms
        self._undo = undo
        #: slot id -> free since; the other fields are derived from it.
        self.since_ms: dict[str, Millis] = {}
        #: Step of use -> its slots by id: (id, free since). `_step_of` says in which of them a slot is now.
        self._by_step: list[list[tuple[str, Millis]]] = [[] for _ in range(SHORT_MS // step_ms + 1)]
        self._step_of: dict[str, int] = {}
        #: When a slot falls into a lower step: (time, id, free since); those not looked at yet first.
        self._falls: list[tuple[Millis, str, Millis]] = []
        self._taken: set[str] = set()
        #: Free longest first.
        self._line: list[tuple[Millis, str]] = []
        #: Latest time of a look-up: a slot's step then may be too low for an earlier time.
        self._looked_ms = Millis(0)

    def __len__(self) -> int:
        return len(self.since_ms)

    def add(self, slot_id: str, since_ms: Millis) -> None:
        """Add a slot that is free from `since_ms` on."""
        self.since_ms[slot_id] = since_ms
        heappush(self._falls, (Millis(0), slot_id, since_ms))
        heappush(self._line, (since_ms, slot_id))
        if self._is_stale(self._line):
            self._line[:] = [(since, id_) for id_, since in self.since_ms.items()]
            heapify(self._line)
        if self._is_stale(self._falls):
            self._falls[:] = [item for item in self._falls if self.since_ms.get(item[1]) == item[2]]
            heapify(self._falls)

    def remove(self, slot_id: str) -> None:
        """Remove a slot."""
        self.since_ms.pop(slot_id, None)
        self._step_of.pop(slot_id, None)

    def least_used(self, now_ms: Millis) -> tuple[int, str] | None:
        """Return (step of use, slot id) of the least used free slot that is not taken, the first by id of a step."""
        self._fall(now_ms)
        for step, slots in enumerate(self._by_step):
            while slots:
                slot_id, since_ms = slots[0]
                if not self._is_of(step, slot_id, since_ms):
                    heappop(slots)
                elif slot_id in self._taken:
                    self._undo.add(partial(heappush, slots, heappop(slots)))
                else:
                    return step, slot_id
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

    def _fall(self, now_ms: Millis) -> None:
        """Move slots whose use has fallen into a lower step by now."""
        falls = self._falls
        if now_ms < self._looked_ms:
            # A decision for a later time was discarded.
            for slots in self._by_step:
                slots.clear()
            falls[:] = [(Millis(0), slot_id, since_ms) for slot_id, since_ms in self.since_ms.items()]
        self._looked_ms = now_ms
        while falls and falls[0][0] <= now_ms:
            _, slot_id, since_ms = heappop(falls)
            if self.since_ms.get(slot_id) != since_ms:
                continue
            curve, step = self._curves.get(slot_id), 0
            if curve is not None:
                step = curve.busy_ms(now_ms, SHORT_MS) // self._step_ms
                if step:
                    at_ms = curve.falls_ms(now_ms, SHORT_MS, step * self._step_ms - 1)
                    heappush(falls, (at_ms, slot_id, since_ms))
            self._step_of[slot_id] = step
            slots = self._by_step[step]
            heappush(slots, (slot_id, since_ms))
            if self._is_stale(slots):
                slots[:] = [item for item in slots if self._is_of(step, *item)]
                heapify(slots)

    def _is_of(self, step: int, slot_id: str, since_ms: Millis) -> bool:
        return self.since_ms.get(slot_id) == since_ms and self._step_of.get(slot_id) == step

    def _is_stale(self, heap: list[Any]) -> bool:
        """Whether most of a heap may be of slots that are no longer free, or of another step."""
        return len(heap) > 2 * len(self.since_ms) + _STALE_MAX
