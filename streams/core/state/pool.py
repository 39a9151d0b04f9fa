"""The state of one pool: tasks, slots, EVs, busy curves and marks. Plain rows, changed by steps only.

`Pool` decides nothing and holds no index; those are in `streams/core/index/`.
"""

from __future__ import annotations

from collections import deque

from schemas.decision import Finished, LedgerRow, Percentiles, SlotGone, SlotRow, TaskRow
from schemas.vocabulary import Millis
from streams.core.state.ev_percentiles import EvWindow
from streams.core.state.marks import Marks
from streams.core.state.spending import Spending
from streams.core.state.utilisation import BusyCurve


class Pool:
    """One pool of tasks and slots."""

    __slots__ = (
        "_finished_order",
        "announced_ms",
        "busy",
        "cancels",
        "duplicates",
        "evs",
        "finished",
        "gone",
        "ledgers",
        "marks",
        "model_busy",
        "model_slots",
        "name",
        "percentiles",
        "slots",
        "spending",
        "tasks",
    )

    def __init__(self, name: str, ev_window_ms: int, marks: Marks) -> None:
        self.name = name
        self.marks = marks
        #: tenant -> its ledger; a tenant without one has no budget.
        self.ledgers: dict[str, LedgerRow] = {}
        #: What finished work of the last hour has cost; empty where the policy caps nothing.
        self.spending = Spending()
        #: Delayed, waiting or running; finished ones are gone.
        self.tasks: dict[str, TaskRow] = {}
        #: Registered slots; a retired one until its task has ended.
        self.slots: dict[str, SlotRow] = {}
        #: task id -> how it ended, for as long as a redelivery must be recognised.
        self.finished: dict[str, Finished] = {}
        self._finished_order: deque[Finished] = deque()
        #: Slots that left, by id, with their last lease number: it goes on where they come back.
        self.gone: dict[str, SlotGone] = {}
        #: Cancels of tasks not seen yet: task id -> when.
        self.cancels: dict[str, Millis] = {}
        #: How many tasks were sent again after their end, and ignored.
        self.duplicates = 0
        self.evs = EvWindow(ev_window_ms)
        self.percentiles: Percentiles | None = None
        #: The allowance of repeated announcements is used up to here; it grows with time.
        self.announced_ms = Millis(0)
        #: Busy time per slot and per model; `model_slots` counts the slots behind a model's curve.
        self.busy: dict[str, BusyCurve] = {}
        self.model_busy: dict[str, BusyCurve] = {}
        self.model_slots: dict[str, int] = {}

    def put_slot(self, row: SlotRow, now_ms: Millis) -> None:
        """Set the slot's row and update its busy curves."""
        old = self.slots.get(row.slot_id)
        if old is not None and old.model != row.model:
            self.drop_slot(row.slot_id, now_ms)
            old = None
        was_busy = old is not None and old.state == "leased"
        is_busy = row.state == "leased"
        if old is None:
            self.model_slots[row.model] = self.model_slots.get(row.model, 0) + 1
        if was_busy != is_busy:
            by = 1 if is_busy else -1
            self.busy.setdefault(row.slot_id, BusyCurve()).change(row.since_ms, by)
            self.model_busy.setdefault(row.model, BusyCurve()).change(row.since_ms, by)
        self.slots[row.slot_id] = row
        self.gone.pop(row.slot_id, None)

    def put_gone(self, gone: SlotGone, now_ms: Millis) -> None:
        """Remove the slot, and remember its lease number."""
        if gone.slot_id in self.slots:
            self.drop_slot(gone.slot_id, now_ms)
        self.gone.pop(gone.slot_id, None)
        self.gone[gone.slot_id] = gone

    def drop_slot(self, slot_id: str, now_ms: Millis) -> None:
        """Remove the slot and its curve."""
        row = self.slots.pop(slot_id)
        if row.state == "leased":
            self.model_busy[row.model].change(now_ms, -1)
        self.busy.pop(slot_id, None)
        self.model_slots[row.model] -= 1
        if not self.model_slots[row.model]:
            del self.model_slots[row.model]
            self.model_busy.pop(row.model, None)

    def put_finished(self, row: Finished) -> None:
        """Remove the task, and remember its id."""
        self.tasks.pop(row.task_id, None)
        # The latest end is the last one, also where an earlier life of the task is still remembered.
        self.finished.pop(row.task_id, None)
        self.finished[row.task_id] = row
        self._finished_order.append(row)

    def forget(self, before_ms: Millis) -> None:
        """Drop finished ids, early cancels and removed slots from before that time."""
        order = self._finished_order
        while order and order[0].at_ms < before_ms:
            row = order.popleft()
            if self.finished.get(row.task_id) is row:
                del self.finished[row.task_id]
        while self.cancels:
            task_id, at_ms = next(iter(self.cancels.items()))
            if at_ms >= before_ms:
                break
            del self.cancels[task_id]
        while self.gone:
            gone = next(iter(self.gone.values()))
            if gone.at_ms >= before_ms:
                break
            del self.gone[gone.slot_id]

    def is_empty(self) -> bool:
        """Whether the pool has nothing but marks: it was only named by an event that was refused or ignored."""
        return not (
            self.tasks
            or self.slots
            or self.finished
            or self.cancels
            or self.gone
            or self.ledgers
            or self.spending
            or self.percentiles
            or self.announced_ms
        )
