"""A step in the making: what the rows would be if it becomes part of the state.

Reads look at the draft first and at the state second; writes go to the draft only. One `PoolDraft` for each
pool that the inputs concern.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from heapq import heappop, heappush
from math import inf

from msgspec.structs import replace

from schemas.decision import (
    Activated,
    ControlTaken,
    Decision,
    EvSample,
    Finished,
    LedgerRow,
    MoneyMovement,
    Percentiles,
    Rejected,
    SlotGone,
    SlotRow,
    TaskRow,
    TaskStatus,
    WorkDone,
)
from schemas.vocabulary import DecisionOutcome, Millis, to_millis
from streams.core.index.due import Due
from streams.core.index.fleet import Cell, cell_of
from streams.core.index.pool_index import PoolIndex
from streams.core.state.marks import Mark, Marks
from streams.core.state.pool import Pool


class Ending:
    """A task's way ended without a slot, in this step; becomes a decision of its own."""

    __slots__ = ("detail", "outcome", "row")

    def __init__(self, row: TaskRow, outcome: DecisionOutcome, detail: str) -> None:
        self.row = row
        self.outcome: DecisionOutcome = outcome
        self.detail = detail


class StepDraft:
    """What one step would be, over all pools."""

    __slots__ = (
        "activated",
        "controls",
        "counts",
        "decisions",
        "due_ms",
        "marks",
        "percentiles",
        "pools",
        "rejected",
        "seq",
    )

    def __init__(self, seq: int, due_ms: float) -> None:
        self.seq = seq
        #: Nothing falls due before this; something may then.
        self.due_ms = due_ms
        self.pools: dict[str, PoolDraft] = {}
        self.rejected: list[Rejected] = []
        self.controls: dict[str, ControlTaken] = {}
        self.counts: dict[str, int] = {}
        #: In the order in which they were made, with the moment.
        self.marks: list[tuple[Mark, Millis]] = []
        self.activated: Activated | None = None
        self.percentiles: list[Percentiles] = []
        self.decisions: list[Decision] = []

    def count(self, word: str) -> None:
        """One more of what is counted and not decided."""
        self.counts[word] = self.counts.get(word, 0) + 1

    def mark(self, row: Mark, now_ms: Millis) -> None:
        """Something is exhausted, drained or used, or no longer, in one pool or in all."""
        self.marks.append((row, now_ms))
        for pool in self.pools.values():
            pool.mark(row, now_ms)


class PoolDraft:
    """What one pool would be."""

    def __init__(self, pool: Pool, index: PoolIndex, step: StepDraft) -> None:
        self.pool = pool
        self.index = index
        self.seq = step.seq
        self.count = step.count
        self._step = step
        self.tasks: dict[str, TaskRow] = {}
        self.finished: dict[str, Finished] = {}
        self.slots: dict[str, SlotRow] = {}
        self.slots_gone: dict[str, SlotGone] = {}
        #: Tasks that the round must look at beside those of the line-up.
        self.unindexed: dict[str, TaskRow] = {}
        #: Task ids whose entry in the line-up no longer waits.
        self.left: dict[str, None] = {}
        self.endings: list[Ending] = []
        self.dead: list[TaskRow] = []
        self.evs: list[EvSample] = []
        self.work: list[WorkDone] = []
        self.cancels: dict[str, Millis] = {}
        #: The record that brought a task in this step: task id -> (topic, offset).
        self.origins: dict[str, tuple[int, int]] = {}
        #: Headlines changed for more tasks than could be told, and what telling used of the allowance.
        self.unannounced = False
        self.announced_ms: Millis | None = None
        #: Money of tenants, as it would be, and how it came to that.
        self.ledgers: dict[str, LedgerRow] = {}
        self.money: list[MoneyMovement] = []
        self.marks: Marks = pool.marks
        self._fleet_changes = False
        self._due: list[Due] = []
        for mark, now_ms in step.marks:
            self.mark(mark, now_ms)

    def mark(self, row: Mark, now_ms: Millis) -> None:
        """The mark would stand here too, if it concerns this pool."""
        if row.pool not in (None, self.pool.name):
            return
        if self.marks is self.pool.marks:
            self.marks = self.pool.marks.copy()
        self.marks.put(row, now_ms)

    @property
    def slots_max(self) -> int:
        """The pool has no more slots than so many."""
        return len(self.pool.slots) + len(self.slots)

    def ledger(self, tenant: str | None) -> LedgerRow | None:
        """The tenant's money as it would be; None: it pays by no budget here."""
        if tenant is None:
            return None
        row = self.ledgers.get(tenant)
        return row if row is not None else self.pool.ledgers.get(tenant)

    def task(self, task_id: str) -> TaskRow | None:
        """The unfinished task as it would be."""
        if task_id in self.finished:
            return None
        row = self.tasks.get(task_id)
        return row if row is not None else self.pool.tasks.get(task_id)

    def slot(self, slot_id: str) -> SlotRow | None:
        """The slot as it would be."""
        if slot_id in self.slots_gone:
            return None
        row = self.slots.get(slot_id)
        return row if row is not None else self.pool.slots.get(slot_id)

    def last_lease(self, slot_id: str) -> int | None:
        """Last lease number of a slot that left and is remembered."""
        gone = self.slots_gone.get(slot_id) or self.pool.gone.get(slot_id)
        return gone.lease if gone is not None else None

    def put_task(self, row: TaskRow) -> None:
        """The task would stand like this; a waiting one is looked at by the round."""
        task_id = row.task.task_id
        self.tasks[task_id] = row
        status = row.status
        if row.task.deadline is not None and status.state != "running":
            self.expect((to_millis(row.task.deadline), "deadline", task_id, status.attempt))
        if status.state == "waiting":
            self.unindexed[task_id] = row
        else:
            self._leaves(task_id)
        if status.state == "delayed" and status.due_ms is not None:
            self.expect((status.due_ms, "due", task_id, status.attempt))

    def restand(self, row: TaskRow, status: TaskStatus) -> None:
        """The task would stand elsewhere."""
        self.put_task(replace(row, status=status))

    def put_slot(self, row: SlotRow) -> None:
        """The slot would stand like this."""
        self.slots_gone.pop(row.slot_id, None)
        old = self.pool.slots.get(row.slot_id)
        if old is None or (old.model, old.account, old.retired) != (row.model, row.account, row.retired):
            self._fleet_changes = True
        self.slots[row.slot_id] = row

    def drop_slot(self, slot: SlotRow, at_ms: Millis) -> None:
        """The slot would be gone, and its lease number remembered."""
        self.slots.pop(slot.slot_id, None)
        self._fleet_changes = True
        self.slots_gone[slot.slot_id] = SlotGone(self.pool.name, slot.slot_id, slot.lease, at_ms)

    def finish(self, row: TaskRow, what: str, at_ms: Millis) -> None:
        """The task would be over."""
        task_id = row.task.task_id
        self._leaves(task_id)
        self.tasks.pop(task_id, None)
        self.finished[task_id] = Finished(pool=self.pool.name, task_id=task_id, at_ms=at_ms, what=what)

    def end(self, row: TaskRow, outcome: DecisionOutcome, detail: str, at_ms: Millis) -> None:
        """The task would be over without a slot, with a decision that says so."""
        self.endings.append(Ending(row, outcome, detail))
        self.finish(row, outcome, at_ms)

    def expect(self, item: Due) -> None:
        """Something of this step falls due; it may be within this step."""
        heappush(self._due, item)
        self._step.due_ms = min(self._step.due_ms, item[0])

    def next_due_ms(self) -> float:
        """Nothing of this pool falls due before this."""
        return min(self._due[0][0] if self._due else inf, self.index.due_from_ms())

    def pop_due(self, now_ms: Millis) -> Due | None:
        """The next thing due by `now_ms`, of this step or of before."""
        if self._due and self._due[0][0] <= now_ms and self._due[0][0] < self.index.due.first_ms():
            return heappop(self._due)
        return self.index.due.pop(now_ms)

    def fleet(self) -> AbstractSet[Cell]:
        """Models and accounts with a slot in service, were this step part of the state."""
        if not self._fleet_changes:
            return self.index.in_service.keys()
        counts = dict(self.index.in_service)
        for slot_id in (*self.slots, *self.slots_gone):
            old, new = self.pool.slots.get(slot_id), self.slot(slot_id)
            if old is not None and not old.retired:
                counts[cell_of(old)] -= 1
            if new is not None and not new.retired:
                cell = cell_of(new)
                counts[cell] = counts.get(cell, 0) + 1
        return {cell for cell, count in counts.items() if count}

    def _leaves(self, task_id: str) -> None:
        self.unindexed.pop(task_id, None)
        if task_id in self.index.entries:
            self.left[task_id] = None
