"""The draft of a step: changed rows over an unchanged state.

Reads look in the draft first and in the state second; writes go to the draft only. There is one `PoolDraft` for each
pool that the inputs concern.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from heapq import heappop, heappush
from math import inf
from typing import Literal, TypeAlias

from msgspec.structs import replace

from schemas.decision import (
    Activated,
    ControlTaken,
    Decision,
    Duplicate,
    EvSample,
    Finished,
    Forwarded,
    LedgerRow,
    MoneyMovement,
    Percentiles,
    Rejected,
    SlotGone,
    SlotRow,
    Spent,
    TaskRow,
    TaskStatus,
    WorkDone,
)
from schemas.ends import Ended, Stopped
from schemas.marks import Mark
from schemas.vocabulary import DecisionOutcome, FinishStatus, Millis, StopReason, to_millis
from streams.core.index.due import Due, silent_ms
from streams.core.index.fleet import Cell, cell_of
from streams.core.index.pool_index import PoolIndex
from streams.core.index.slot_index import is_in_service, is_registered
from streams.core.state.marks import Marks
from streams.core.state.pool import Pool
from streams.core.state.spending import Scope

#: How a task ends by a decision.
EndOutcome = Literal["cancelled", "expired", "dead_lettered", "dropped"]
#: Work that is reported after its lease: its decision, slot and model.
Late: TypeAlias = tuple[str | None, str | None, str | None]


class Ending:
    """A task that ended without a slot in this step; it becomes a decision."""

    __slots__ = ("detail", "life", "origin", "outcome", "row")

    def __init__(
        self, row: TaskRow, outcome: DecisionOutcome, detail: str, life: int, origin: tuple[int, int] | None
    ) -> None:
        self.row = row
        self.outcome: DecisionOutcome = outcome
        self.detail = detail
        #: How many lives of this task id ended in this step before.
        self.life = life
        #: Topic and offset of the task's record, if it came in this step.
        self.origin = origin


class StepDraft:
    """The draft of one step, over all pools."""

    __slots__ = (
        "activated",
        "controls",
        "counts",
        "decisions",
        "due_ms",
        "forwarded",
        "marks",
        "percentiles",
        "pools",
        "rejected",
        "seq",
    )

    def __init__(self, seq: int, due_ms: float) -> None:
        self.seq = seq
        #: Lower bound of the next due time.
        self.due_ms = due_ms
        self.pools: dict[str, PoolDraft] = {}
        self.rejected: list[Rejected] = []
        self.forwarded: list[Forwarded] = []
        self.controls: dict[str, ControlTaken] = {}
        self.counts: dict[str, int] = {}
        #: In the order in which they were set.
        self.marks: list[Mark] = []
        self.activated: Activated | None = None
        self.percentiles: list[Percentiles] = []
        self.decisions: list[Decision] = []

    def count(self, word: str) -> None:
        """Count an event by word."""
        self.counts[word] = self.counts.get(word, 0) + 1

    def mark(self, row: Mark) -> None:
        """Set a mark, in one pool or in all."""
        self.marks.append(row)
        changes = [pool.mark(row) for pool in self.pools.values() if row.pool in (None, pool.pool.name)]
        if changes and not any(changes):
            self.count("late_quota")


class PoolDraft:
    """The draft of one pool."""

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
        #: Tasks of the round that are not in the index.
        self.unindexed: dict[str, TaskRow] = {}
        #: Task ids whose entry in the index no longer waits.
        self.left: dict[str, None] = {}
        self.endings: list[Ending] = []
        self._lives: dict[str, int] = {}
        self.duplicates: list[Duplicate] = []
        self.dead: list[TaskRow] = []
        self.ended: list[Ended] = []
        self.stopped: list[Stopped] = []
        self.evs: list[EvSample] = []
        self.work: list[WorkDone] = []
        self.cancels: dict[str, Millis] = {}
        #: Ended tasks whose ids count as new.
        self.retried: dict[str, None] = {}
        #: Task id -> (topic, offset) of its record in this step.
        self.origins: dict[str, tuple[int, int]] = {}
        #: Whether more headlines changed than were announced, and the use of the allowance.
        self.unannounced = False
        self.announced_ms: Millis | None = None
        #: Changed ledgers of tenants, and their movements.
        self.ledgers: dict[str, LedgerRow] = {}
        self.money: list[MoneyMovement] = []
        #: What work that ended has cost, where the policy caps spend.
        self.spent: list[Spent] = []
        self.marks: Marks = pool.marks
        self._fleet_changes = False
        self._due: list[Due] = []
        for mark in step.marks:
            if mark.pool in (None, pool.name):
                self.mark(mark)

    def mark_by_itself(self, row: Mark, taken: ControlTaken) -> None:
        """Set a mark that no operator sent, with the event that stands for it in the journal."""
        self._step.controls[taken.control_id] = taken
        self._step.mark(row)

    def mark(self, row: Mark) -> bool:
        """Set a mark that concerns this pool; return whether it changes anything here."""
        if self.marks is self.pool.marks:
            self.marks = self.pool.marks.copy()
        return self.marks.put(row)

    def spending(self, now_ms: Millis) -> Mapping[Scope, int]:
        """Return the pool's spend of the last hour, with what this step has added; empty where nothing is capped."""
        return self.index.breaker.spent(now_ms, self.spent)

    @property
    def slots_max(self) -> int:
        """Return an upper bound of the pool's slots."""
        return len(self.pool.slots) + len(self.slots)

    def ledger(self, tenant: str | None) -> LedgerRow | None:
        """Return the tenant's ledger; None: it has no budget in this pool."""
        if tenant is None:
            return None
        row = self.ledgers.get(tenant)
        return row if row is not None else self.pool.ledgers.get(tenant)

    def task(self, task_id: str) -> TaskRow | None:
        """Return the unfinished task."""
        row = self.tasks.get(task_id)
        if row is not None:
            # It may be a new life of a task that ended in this step.
            return row
        return self.pool.tasks.get(task_id) if task_id not in self.finished else None

    def end_of(self, task_id: str) -> Finished | None:
        """Return how the task ended, where that is remembered and it may not be sent again; it may be old."""
        if task_id in self.retried:
            return None
        return self.finished.get(task_id) or self.pool.finished.get(task_id)

    def early_cancel(self, task_id: str) -> Millis | None:
        """Return when a task that is not there was cancelled, where that is remembered; it may be old."""
        early = self.cancels.get(task_id)
        return early if early is not None or task_id in self.retried else self.pool.cancels.get(task_id)

    def retry(self, task_id: str) -> None:
        """Forget how a task ended, and that it was cancelled."""
        self.cancels.pop(task_id, None)
        self.retried[task_id] = None

    def life(self, task_id: str) -> int:
        """Return how many lives of the task ended in this step with a decision."""
        return self._lives.get(task_id, 0)

    def slot(self, slot_id: str) -> SlotRow | None:
        """Return the slot."""
        if slot_id in self.slots_gone:
            return None
        row = self.slots.get(slot_id)
        return row if row is not None else self.pool.slots.get(slot_id)

    def gone(self, slot_id: str) -> SlotGone | None:
        """Return what is remembered of a slot that left."""
        return self.slots_gone.get(slot_id) or self.pool.gone.get(slot_id)

    def put_task(self, row: TaskRow) -> None:
        """Set the task's row; a waiting task takes part in the round."""
        task_id = row.task.task_id
        self.tasks[task_id] = row
        status = row.status
        if row.task.deadline is not None and status.state != "running":
            self.expect((to_millis(row.task.deadline), "deadline", task_id, status.attempt))
        self._leaves(task_id)
        if status.state == "waiting":
            self.unindexed[task_id] = row
        if status.state == "delayed" and status.due_ms is not None:
            self.expect((status.due_ms, "due", task_id, status.attempt))

    def change_status(self, row: TaskRow, status: TaskStatus) -> None:
        """Set the task's status."""
        self.put_task(replace(row, status=status))

    def put_slot(self, row: SlotRow) -> None:
        """Set the slot's row."""
        self.slots_gone.pop(row.slot_id, None)
        old = self.pool.slots.get(row.slot_id)
        if old is None or _place(old) != _place(row):
            self._fleet_changes = True
        self.slots[row.slot_id] = row
        if (at_ms := silent_ms(row)) is not None:
            self.expect((at_ms, "silence", row.slot_id, row.lease))

    def drop_slot(self, slot: SlotRow, at_ms: Millis) -> None:
        """Remove the slot, and remember its lease number and its last report."""
        self.slots.pop(slot.slot_id, None)
        self._fleet_changes = True
        self.put_gone(SlotGone(self.pool.name, slot.slot_id, slot.lease, at_ms, slot.last_report, slot.unreported))

    def put_gone(self, gone: SlotGone) -> None:
        """Set what is remembered of a slot that left."""
        self.slots_gone[gone.slot_id] = gone

    def finish(
        self, row: TaskRow, status: FinishStatus, at_ms: Millis, reason: str = "", late: Late | None = None
    ) -> None:
        """Finish the task; why it ended without success is said here or by a decision. `late`: by work of before."""
        task_id, now = row.task.task_id, row.status
        slot = self.slot(now.slot_id) if now.slot_id is not None else None
        if late is not None:
            run = late
        elif now.state == "running":
            run = (now.decision_id, now.slot_id, slot.model if slot is not None else None)
        else:
            # A lost lease may have left its decision, which did not end the task.
            run = (None, None, None)
        decision_id, slot_id, model = run
        self.ended.append(
            Ended(
                pool=self.pool.name,
                task_id=task_id,
                status=status,
                # A pending task counts the attempt that is to come.
                attempts=now.attempt if now.state == "running" else max(0, now.attempt - 1),
                at_ms=at_ms,
                decision_id=decision_id,
                slot_id=slot_id,
                model=model,
                reason=reason,
                traceparent=row.traceparent,
                tracestate=row.tracestate,
            )
        )
        self._leaves(task_id)
        self.tasks.pop(task_id, None)
        self.retried.pop(task_id, None)
        self.finished[task_id] = Finished(
            pool=self.pool.name,
            task_id=task_id,
            at_ms=at_ms,
            what="done" if status == "success" else status,
            task_at_ms=to_millis(row.task.at),
        )

    def end(self, row: TaskRow, outcome: EndOutcome, detail: str, at_ms: Millis, late: Late | None = None) -> None:
        """Finish the task without a slot, with a decision; `late` as for `finish`."""
        task_id = row.task.task_id
        life = self.life(task_id)
        self._lives[task_id] = life + 1
        self.endings.append(Ending(row, outcome, detail, life, self.origins.pop(task_id, None)))
        self.finish(row, outcome, at_ms, late=late)

    def stop(self, row: TaskRow, slot_id: str, lease: int, why: StopReason, at_ms: Millis) -> None:
        """Have the slot's dispatcher know that the work on the task is not wanted any more."""
        self.stopped.append(
            Stopped(
                pool=self.pool.name,
                task_id=row.task.task_id,
                slot_id=slot_id,
                lease=lease,
                reason_code=why,
                at_ms=at_ms,
                decision_id=row.status.decision_id,
                traceparent=row.traceparent,
                tracestate=row.tracestate,
            )
        )

    def expect(self, item: Due) -> None:
        """Add a due time of this step; it may be within the step."""
        heappush(self._due, item)
        self._step.due_ms = min(self._step.due_ms, item[0])

    def next_due_ms(self) -> float:
        """Return a lower bound of the pool's next due time."""
        return min(self._due[0][0] if self._due else inf, self.index.wakeups.from_ms())

    def pop_due(self, now_ms: Millis) -> Due | None:
        """Return the next item due by `now_ms`, of this step or of the index."""
        if self._due and self._due[0][0] <= now_ms and self._due[0][0] < self.index.due.first_ms():
            return heappop(self._due)
        return self.index.due.pop(now_ms)

    def fleet(self) -> AbstractSet[Cell]:
        """Return models and accounts with a registered slot, with the changes of the draft."""
        return self._cells(self.index.slots.registered, is_registered)

    def in_service(self) -> AbstractSet[Cell]:
        """Return those of them with a slot that is not lost."""
        return self._cells(self.index.slots.in_service, is_in_service)

    def lost(self) -> dict[str, Cell]:
        """Return the lost slots by id, with the changes of the draft."""
        found = dict(self.index.slots.lost)
        for slot_id in (*self.slots, *self.slots_gone):
            found.pop(slot_id, None)
            slot = self.slot(slot_id)
            if slot is not None and is_registered(slot) and not is_in_service(slot):
                found[slot_id] = cell_of(slot)
        return found

    def _cells(self, known: Mapping[Cell, int], counts_slot: Callable[[SlotRow], bool]) -> AbstractSet[Cell]:
        if not self._fleet_changes:
            return known.keys()
        counts = dict(known)
        for slot_id in (*self.slots, *self.slots_gone):
            old, new = self.pool.slots.get(slot_id), self.slot(slot_id)
            if old is not None and counts_slot(old):
                counts[cell_of(old)] -= 1
            if new is not None and counts_slot(new):
                cell = cell_of(new)
                counts[cell] = counts.get(cell, 0) + 1
        return {cell for cell, count in counts.items() if count}

    def _leaves(self, task_id: str) -> None:
        self.unindexed.pop(task_id, None)
        if task_id in self.index.entries:
            self.left[task_id] = None


def _place(slot: SlotRow) -> tuple[Cell, bool, bool]:
    """Return what decides for which cells the slot counts."""
    return cell_of(slot), is_registered(slot), is_in_service(slot)
