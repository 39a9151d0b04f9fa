"""The journal of one partition, read as another language would: JSON only, not a line shared with the router.

The first record with the next number counts. What is found wrong becomes a `Problem`: a number left out, an input
handled twice, a slot leased twice, a task in two places, a slot that is free beside a task that may use it, money
that does not add up. Rows of layout 1 are read too.
A foreign record that an operator passes over, by a note behind it with its offset and hash, is known and no problem.
A journal that does not begin at step 0 was cut by retention: what stood before is unknown, and is believed when it is
first seen.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from typing import Any, Final, TypeAlias

from streams.audit.handled import Handled
from streams.audit.ledgers import Ledgers
from streams.audit.problem import Problem, Promise
from streams.audit.service import Service

#: In the order by which a step names them.
TOPICS: Final = ("task.pending", "slot.freed", "fleet.control")
#: Problems kept of a partition; more are counted only.
PROBLEMS_MAX: Final = 200
_TASKS: Final = TOPICS.index("task.pending")
#: The word of layout 1 for a slot with a task.
_LEASED_V1: Final = "held"
_LEASED: Final = "leased"

#: (pool, id).
Task: TypeAlias = tuple[str, str]
Slot: TypeAlias = tuple[str, str]
Fields: TypeAlias = Mapping[str, Any]


class JournalAudit:
    """What one partition's journal says, and what is wrong with it."""

    def __init__(self, partition: int, *, memory_ms: int = 0, ageing_ms: int = 0, patience_points: int = 0) -> None:
        """`memory_ms`: for so long a finished task's id and a control's id are remembered; 0: that is not checked.

        `ageing_ms` and `patience_points` are those of `Service`.
        """
        self.partition = partition
        self.first_seq: int | None = None
        self.next_seq = 0
        self.steps = 0
        #: Records ignored because their number was taken.
        self.fenced = 0
        self.problems: list[Problem] = []
        self.problems_total = 0
        #: A number was left out, or a step is damaged: nothing after it counts.
        self.stopped = False
        self.handled = {topic: Handled() for topic in TOPICS}
        #: By outcome.
        self.decisions: Counter[str] = Counter()
        #: Records that the dead-letter topics must hold.
        self.dead_letters = 0
        #: Records that `task.cancelled` and `task.finished` must hold.
        self.stopped_work = 0
        self.ended = 0
        self.tasks: dict[Task, Fields] = {}
        self.slots: dict[Slot, Fields] = {}
        #: Id of the journal: that of the first step that has one.
        self.journal_id: str | None = None
        #: Foreign records that operators pass over, each with the note about it.
        self.skipped: list[Fields] = []
        #: Foreign records that are a problem so far, by offset and hash.
        self._foreign: dict[tuple[int | None, str], Problem] = {}
        self._memory_ms = memory_ms
        #: Latest lease number of each slot.
        self._leases: dict[Slot, int] = {}
        #: When what is remembered happened, oldest first.
        self._finished: dict[Task, int] = {}
        #: How the tasks of `_finished` ended.
        self._ended: dict[Task, str] = {}
        self._controls: dict[str, int] = {}
        self._ledgers = Ledgers(whole=True)
        self._service = Service(ageing_ms=ageing_ms, patience_points=patience_points)
        #: Ends of leases, the earliest first; some are over already.
        self._ends: list[tuple[int, Slot]] = []

    @property
    def whole(self) -> bool:
        """Whether the journal begins at step 0, so that all that was ever known is known here."""
        return self.first_seq in (None, 0)

    def add(self, value: bytes, offset: int | None = None) -> Fields | None:
        """Read the next record; gives the step if it counts. Without its offset it cannot be passed over."""
        if self.stopped:
            return None
        try:
            step = json.loads(value)
            if "skip" in step:
                self._skip(step)
                return None
            seq, partition, journal_id = int(step["seq"]), step["partition"], step.get("journal")
        except (AttributeError, ValueError, TypeError, KeyError, RecursionError):
            self._report_foreign("no step", value, offset)
            return None
        if partition != self.partition:
            self._report_foreign(f"of partition {partition}", value, offset)
            return None
        if seq >= self.next_seq and None not in (journal_id, self.journal_id) and journal_id != self.journal_id:
            self._report_foreign(f"of the journal {journal_id}", value, offset)
            return None
        if self.first_seq is None:
            self.first_seq = self.next_seq = seq
            self._ledgers = Ledgers(whole=self.whole)
        if seq < self.next_seq:
            self.fenced += 1
            return None
        if seq > self.next_seq:
            self.stopped = True
            self.report("journal", f"step {seq} follows step {self.next_seq - 1}; nothing after that was checked", seq)
            return None
        try:
            self._apply(step)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            self.stopped = True
            self.report("journal", f"the step cannot be read ({error!r}); nothing after it was checked", seq)
            return None
        self.steps += 1
        self.next_seq = seq + 1
        self.journal_id = self.journal_id or journal_id
        return step  # type: ignore[no-any-return]

    def _report_foreign(self, what: str, value: bytes, offset: int | None) -> None:
        where = "a record" if offset is None else f"the record at offset {offset},"
        problem = self.report("journal", f"{where} behind step {self.next_seq - 1} is {what}")
        self._foreign[offset, hashlib.sha256(value).hexdigest()] = problem

    def _skip(self, note: Fields) -> None:
        """Take over an operator's note: the record that it names is no problem."""
        if note["partition"] != self.partition:
            return
        problem = self._foreign.pop((note["skip"], note["sha256"]), None)
        if problem is not None:
            self.skipped.append(note)
            self.problems_total -= 1
            if problem in self.problems:
                self.problems.remove(problem)

    def report(self, promise: Promise, says: str, seq: int | None = None) -> Problem:
        """Note a problem of this partition."""
        problem = Problem(promise=promise, says=says, partition=self.partition, seq=seq)
        self.problems_total += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)
        return problem

    def expect(self, inputs: Mapping[str, Iterable[int]]) -> None:
        """Report inputs that exist, by topic and offset, and that no step handled."""
        for topic, offsets in inputs.items():
            lacking = self.handled[topic].lacking(offsets)
            if lacking:
                self.report(
                    "conservation", f"{topic}: {len(lacking)} inputs were never handled, the first at {lacking[0]}"
                )

    def _apply(self, step: Fields) -> None:
        seq = step["seq"]
        slots_before = self._apply_slots(step)
        tasks_touched = self._apply_tasks(step)
        self._apply_inputs(step)
        for decision in step.get("decisions", ()):
            self.decisions[decision["outcome"]] += 1
        self._check_places(seq, tasks_touched, slots_before)
        self._check_expiry(step)
        self._check_controls(step)
        for says in self._ledgers.add(step):
            self.report("money", says, seq)
        for promise, says in self._service.add(step, self.tasks, self.slots, slots_before):
            self.report(promise, says, seq)
        if self._memory_ms and "activated" in step:
            self._memory_ms = step["activated"]["finished_memory_ms"]
        self._forget(step["now_ms"])

    def _apply_inputs(self, step: Fields) -> None:
        inputs = step.get("inputs", ())
        for topic, offset, _ in inputs:
            if not self.handled[TOPICS[topic]].add(offset):
                self.report("once", f"{TOPICS[topic]}@{offset} was handled twice or out of order", step["seq"])
        for place, _ in step.get("advice", ()):
            if not 0 <= place < len(inputs) or inputs[place][0] != _TASKS:
                self.report("conservation", f"advice on input {place}, which is no task", step["seq"])
        self.dead_letters += len(step.get("rejected", ())) + len(step.get("dead", ()))
        self.stopped_work += len(step.get("stopped", ()))
        self.ended += len(step.get("ended", ()))

    def _apply_tasks(self, step: Fields) -> set[Task]:
        """Take over the tasks of a step; gives those that it touched."""
        seq, touched = step["seq"], set()
        # Ends first: a task that ended in this step may have begun a new life in it.
        for row in step.get("finished", ()):
            task = (row["pool"], row["task_id"])
            touched.add(task)
            self.tasks.pop(task, None)
            self._finished.pop(task, None)
            self._finished[task] = row["at_ms"]
            self._ended[task] = row["what"]
        for pool, task_id in step.get("retried", ()):
            if (pool, task_id) in self.tasks:
                self.report("once", f"{_named((pool, task_id))} is to be run again while it lives", seq)
            self._finished.pop((pool, task_id), None)
        for row in step.get("tasks", ()):
            task = (row["task"]["pool"], row["task"]["task_id"])
            touched.add(task)
            if task in self.tasks:
                self.report("once", f"{_named(task)} is accepted while it lives", seq)
            finished_ms = self._finished.pop(task, None)
            what = self._ended.pop(task, None)
            known = finished_ms is not None and row["standing"]["accepted_ms"] - finished_ms <= self._memory_ms
            # Sent again after an end without success it is a new life.
            if known and (what == "done" or row["at_ms"] <= finished_ms):
                self.report("once", f"{_named(task)} is accepted again, though it is finished", seq)
            self.tasks[task] = row["standing"]
        for row in step.get("moved", ()):
            task = (row["pool"], row["task_id"])
            touched.add(task)
            if task not in self.tasks and self.whole:
                self.report("conservation", f"{_named(task)} changes, but was never accepted or is finished", seq)
            self.tasks[task] = row["standing"]
        return touched

    def _apply_slots(self, step: Fields) -> dict[Slot, Fields | None]:
        """Take over the slots of a step; gives how those that it touched stood before."""
        seq, before = step["seq"], {}
        for decision in step.get("decisions", ()):
            if decision["outcome"] == "routed":
                self._count_lease(seq, decision)
        for row in step.get("slots", ()):
            slot = (row["pool"], row["slot_id"])
            was = before[slot] = self.slots.get(slot)
            lease = row.get("lease", 0)
            known = self._leases.get(slot)
            if known is not None and lease != known and was is not None and was["model"] == row["model"]:
                self.report("lease", f"{_named(slot)} has lease {lease}, though its latest one is {known}", seq)
            self._leases[slot] = lease
            self.slots[slot] = {**row, "state": _LEASED} if row["state"] == _LEASED_V1 else row
        for pool, slot_id, *_ in step.get("slots_gone", ()):
            slot = (pool, slot_id)
            before.setdefault(slot, self.slots.get(slot))
            self.slots.pop(slot, None)
            # It is remembered for a while and then begins again at 1.
            self._leases.pop(slot, None)
        return before

    def _count_lease(self, seq: int, decision: Fields) -> None:
        slot = (decision["pool"], decision["chosen_slot_id"])
        known = self._leases.get(slot)
        if known is not None and decision["lease"] != known + 1:
            self.report("lease", f"{_named(slot)} is leased under {decision['lease']} after {known}", seq)
        self._leases[slot] = decision["lease"]

    def _check_places(self, seq: int, tasks: Iterable[Task], slots: Mapping[Slot, Fields | None]) -> None:
        """Every task that runs has a slot that is leased to it, and the other way round; of what the step touched."""
        for task in tasks:
            status = self.tasks.get(task)
            if status is not None and status["state"] == "running":
                slot = (task[0], status["slot_id"])
                row = self.slots.get(slot)
                if row is None and not self.whole:
                    continue
                found = (row["state"], row.get("task_id"), row.get("lease", 0)) if row is not None else None
                if found != (_LEASED, task[1], status.get("lease")):
                    self.report("lease", f"{_named(task)} runs on {slot[1]}, which is not leased to it", seq)
        for slot, before in slots.items():
            row = self.slots.get(slot)
            task_id = row.get("task_id") if row is not None and row["state"] == _LEASED else None
            if task_id is not None:
                status = self.tasks.get((slot[0], task_id))
                if status is None and not self.whole:
                    continue
                if status is None or (status["state"], status.get("slot_id")) != ("running", slot[1]):
                    self.report("lease", f"{_named(slot)} is leased to {task_id}, which does not run on it", seq)
            if before is not None and before["state"] == _LEASED and before["task_id"] != task_id:
                holder = self.tasks.get((slot[0], before["task_id"]), {})
                if (holder.get("state"), holder.get("slot_id")) == ("running", slot[1]):
                    now = "free" if task_id is None else f"leased to {task_id}"
                    self.report("lease", f"{_named(slot)} is {now} while {before['task_id']} runs on it", seq)

    def _check_expiry(self, step: Fields) -> None:
        """After a step no slot is leased whose lease has ended by the step's time."""
        for row in step.get("slots", ()):
            if row["state"] in (_LEASED, _LEASED_V1):
                heappush(self._ends, (row["lease_expires_at_ms"], (row["pool"], row["slot_id"])))
        while self._ends and self._ends[0][0] <= step["now_ms"]:
            ends_ms, slot = heappop(self._ends)
            now = self.slots.get(slot, {})
            if (now.get("state"), now.get("lease_expires_at_ms")) == (_LEASED, ends_ms):
                self.report("expiry", f"{_named(slot)} is leased beyond the end of its lease", step["seq"])

    def _check_controls(self, step: Fields) -> None:
        for row in step.get("controls", ()):
            taken_ms = self._controls.pop(row["control_id"], None)
            if taken_ms is not None and row["at_ms"] - taken_ms <= self._memory_ms:
                self.report("controls", f"control {row['control_id']} was taken twice", step["seq"])
            self._controls[row["control_id"]] = row["at_ms"]

    def _forget(self, now_ms: int) -> None:
        memory: tuple[dict[Any, int], ...] = (self._finished, self._controls)
        for remembered in memory:
            while remembered:
                oldest, at_ms = next(iter(remembered.items()))
                if now_ms - at_ms <= self._memory_ms:
                    break
                del remembered[oldest]
                self._ended.pop(oldest, None)


def _named(one: tuple[str, str]) -> str:
    return f"{one[1]} of pool {one[0]}"
