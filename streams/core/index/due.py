"""What falls due in a pool: leases, deadlines, and delayed tasks.

An index: stale items are dropped when they reach the top, or when they are half of the heap.
"""

from __future__ import annotations

import math
from functools import partial
from heapq import heapify, heappop, heappush
from typing import Final

from schemas.decision import SlotRow, TaskRow
from schemas.vocabulary import Millis, to_millis
from streams.core.index.undo import Undo
from streams.core.state.pool import Pool

_DUE_MIN: Final = 4_096
#: Due: (when, kind, id, which); kinds are `lease`, `silence`, `deadline` and `due`.
Due = tuple[Millis, str, str, int]


def silent_ms(slot: SlotRow) -> Millis | None:
    """Return when a slot that asked for the heartbeat rule is lost if it reports nothing; None: never."""
    if slot.ttl_ms is None or slot.last_report is None or slot.state == "lost":
        return None
    return Millis(slot.last_report.accepted_ms + slot.ttl_ms)


def is_current(item: Due, slot: SlotRow | None, row: TaskRow | None) -> bool:
    """Whether the item still stands in the row it is about: that of a slot, else that of a task."""
    due_ms, kind, _, which = item
    if kind == "lease":
        return (
            slot is not None and slot.state == "leased" and slot.lease == which and slot.lease_expires_at_ms == due_ms
        )
    if kind == "silence":
        return slot is not None and silent_ms(slot) == due_ms
    if row is None or row.status.attempt != which:
        return False
    if kind == "due":
        return row.status.state == "delayed" and row.status.due_ms == due_ms
    deadline = row.task.deadline
    # Another task of the same id, sent again after its end, has a deadline of its own.
    return row.status.state != "running" and deadline is not None and to_millis(deadline) == due_ms


class DueList:
    """Due items of one pool's rows, earliest first."""

    __slots__ = ("_heap", "_max", "_pool", "_undo")

    def __init__(self, pool: Pool, undo: Undo) -> None:
        self._pool = pool
        self._undo = undo
        self._heap: list[Due] = []
        self._max = _DUE_MIN

    def push(self, item: Due) -> None:
        """Add an item."""
        heappush(self._heap, item)
        if len(self._heap) > self._max:
            # Most leases end before their limit.
            self._heap = [item for item in self._heap if self._is_current(item)]
            heapify(self._heap)
            self._max = max(_DUE_MIN, 2 * len(self._heap))

    def from_ms(self) -> float:
        """Return a lower bound of the next due time."""
        return self._heap[0][0] if self._heap else math.inf

    def first_ms(self) -> float:
        """Return the time of the next due item."""
        while self._heap:
            if self._is_current(self._heap[0]):
                return self._heap[0][0]
            heappop(self._heap)
        return math.inf

    def pop(self, now_ms: Millis) -> Due | None:
        """Return the next item due by `now_ms`, and hide it until `release`."""
        if self.first_ms() > now_ms:
            return None
        item = heappop(self._heap)
        self._undo.add(partial(self._put_back, item))
        return item

    def _put_back(self, item: Due) -> None:
        heappush(self._heap, item)

    def _is_current(self, item: Due) -> bool:
        return is_current(item, self._pool.slots.get(item[2]), self._pool.tasks.get(item[2]))
