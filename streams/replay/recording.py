"""What a journal says happened to a partition, as what came from without: tasks, slots and operators' events.

What the router did about it is left out, but for the work that was done: how long it took, and how it ended. Everything
stands at the time of the step that handled it, so that what was decided about together comes together again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from schemas.decision import Advice, Decision, SlotRow, Step, TaskRow, WorkDone
from schemas.events import Event, FleetControl, SlotFreed
from schemas.vocabulary import LAST_MS, Millis, from_millis
from streams.core.policy.rulebook import Rulebook
from streams.core.state.partition import Partition
from streams.replay.work_seen import WorkSeen, work_kind

#: (pool, id) of a task or a slot.
Key: TypeAlias = tuple[str, str]

#: Operators' events that are not repeated: another policy is in force, time passes by itself, slots leave by reports.
_LEFT_OUT: Final = frozenset(("policy.activated", "tick", "slot.retired"))
_CONTROLS: Final = msgspec.json.Decoder(FleetControl)


class Occurrence(Struct, frozen=True):
    """An event from without, at the time of the step that handled it."""

    at_ms: Millis
    event: Event
    advice: Advice | None = None
    traceparent: str | None = None
    tracestate: str | None = None


class Attempt(Struct, frozen=True):
    """Work on a task: the decision that began it and how it ended."""

    decision: Decision
    work: WorkDone
    #: From the decision to the step that handled its end.
    taken_ms: int

    @property
    def seen(self) -> WorkSeen:
        """The part that says how long such work takes."""
        one = self.decision
        return WorkSeen(
            one.pool, one.task_id, one.attempt, work_kind(one), self.work.model, self.taken_ms, self.work.outcome
        )


class Away(Struct, frozen=True):
    """A time in which a slot did not report: what it worked on was lost."""

    from_ms: Millis
    #: None: it never came back.
    until_ms: Millis | None


class Recording:
    """A window of one partition's journal. Hand in its steps one after the other, from the first that there is."""

    def __init__(self, partition: int, rulebook: Rulebook, *, from_ms: int = 0, to_ms: int = LAST_MS) -> None:
        """Both times are part of the window; the rulebook says how long things are remembered."""
        self.partition = partition
        self.from_ms, self.to_ms = from_ms, to_ms
        #: State at the end of what was handed in.
        self.end = Partition(partition, ev_window_ms=rulebook.ev_window_ms, finished_memory_ms=rulebook.memory_ms)
        #: State at the begin of the window, as a snapshot; None: the window begins with nothing.
        self.start: list[bytes] | None = None
        #: Models of the slots that were there then, and of all that are named.
        self.models_at_start: set[str] = set()
        self.models: set[str] = set()
        #: Slots that were in service then.
        self.slots_at_start: list[SlotRow] = []
        #: The journal's first steps are gone: what was before them is not known.
        self.is_cut = False
        self.steps: list[Step] = []
        #: What came from without, by step of the window.
        self.occurrences: list[list[Occurrence]] = []
        #: Work whose end is recorded, by its task's key and the number of the attempt.
        self.attempts: dict[tuple[str, str, int], Attempt] = {}
        #: All work that ended, also before the window and after it.
        self.ended: list[Attempt] = []
        self.away: defaultdict[Key, list[Away]] = defaultdict(list)
        #: Every task that waited or ran when the window began, or arrived in it.
        self.tasks: dict[Key, TaskRow] = {}
        #: Slots of the first steps of a journal that is cut: they were there before.
        self.there: list[Occurrence] = []
        self._routed: dict[str, Decision] = {}
        self._silent: dict[Key, Millis] = {}

    def begin_at(self, state: Partition) -> None:
        """Begin with a known state, before any step is added."""
        self.end = state

    def add(self, step: Step) -> None:
        """Take the next step; before the window it is part of its begin, after it only ends of work count."""
        if step.now_ms > self.to_ms:
            self._take_work(step)
            return
        if not self._routed and not self.steps and self.end.seq == 0 and step.seq > 0:
            self.is_cut, self.end.seq = True, step.seq
        if self.is_cut:
            step = self._known(step)
        if step.now_ms >= self.from_ms:
            if not self.steps:
                self._begin()
            self.steps.append(step)
            self.occurrences.append(list(self._occurrences(step)))
        self._take_work(step)
        self.end.apply(step)

    def choices(self) -> Iterator[Decision]:
        """Return the decisions of the window that routed a task."""
        return (one for step in self.steps for one in step.decisions if one.outcome == "routed")

    def ends_of_running(self) -> Iterator[Occurrence]:
        """Return when slots report the work that ran as the window began, as recorded."""
        begun = {one.decision.decision_id for one in self.ended if one.decision.decided_at_ms < self.from_ms}
        for step in self.steps:
            for work in step.work:
                if work.decision_id in begun:
                    yield reported(work, step.now_ms)

    def _begin(self) -> None:
        if self.end.seq and not (self.is_cut and not self.end.pools):
            self.start = list(self.end.snapshot())
        for name, pool in self.end.pools.items():
            self.models_at_start.update(slot.model for slot in pool.slots.values())
            self.slots_at_start += [one for one in pool.slots.values() if one.state != "lost" and not one.retired]
            self.tasks.update(((name, task_id), row) for task_id, row in pool.tasks.items())
        self.models |= self.models_at_start

    def _known(self, step: Step) -> Step:
        """Return a step of a journal that is cut without what it says of tasks from before the cut."""
        pools = self.end.pools
        new = {(row.task.pool, row.task.task_id) for row in step.tasks}
        new |= {(name, task_id) for name, pool in pools.items() for task_id in pool.tasks}
        return replace(
            step,
            decisions=tuple(one for one in step.decisions if (one.pool, one.task_id) in new),
            tasks_changed=tuple(one for one in step.tasks_changed if (one.pool, one.task_id) in new),
            work=tuple(one for one in step.work if (one.pool, one.outcome.task_id) in new),
        )

    def _take_work(self, step: Step) -> None:
        self._routed.update((one.decision_id, one) for one in step.decisions if one.outcome == "routed")
        for work in step.work:
            decision = self._routed.get(work.decision_id)
            if decision is not None:
                done = Attempt(decision, work, max(1, step.now_ms - decision.decided_at_ms))
                self.ended.append(done)
                self.attempts.setdefault((decision.pool, decision.task_id, decision.attempt), done)

    def _occurrences(self, step: Step) -> Iterator[Occurrence]:
        yield from orders(step)
        yield from self._slots(step)
        self.tasks.update(((row.task.pool, row.task.task_id), row) for row in step.tasks)
        yield from arrivals(step)

    def _slots(self, step: Step) -> Iterator[Occurrence]:
        """Return the slots that come, come back and leave; take down when others fell silent."""
        now_ms = step.now_ms
        reported = {(work.pool, work.slot_id) for work in step.work}
        for row in step.slots:
            self.models.add(row.model)
            key = row.pool, row.slot_id
            before = self._before(key)
            if before is None and self.is_cut and (row.lease or row.state != "free"):
                self.there.append(Occurrence(now_ms, announced(row, now_ms)))
            elif before is None:
                yield Occurrence(now_ms, announced(row, now_ms))
            elif row.state == "lost" and before.state != "lost":
                self._silent[key] = before.since_ms
            elif before.state == "lost" and row.state != "lost":
                since_ms = self._silent.pop(key, before.since_ms)
                if key not in reported:
                    self.away[key].append(Away(since_ms, now_ms))
                    yield Occurrence(now_ms, announced(row, now_ms))
            elif (
                before.state == "leased" and key not in reported and (row.state, row.lease) != ("leased", before.lease)
            ):
                # It was started again: what it worked on at that moment was lost, and nothing before.
                self.away[key].append(Away(Millis(now_ms - 1), now_ms))
                yield Occurrence(now_ms, announced(row, now_ms))
            if row.retired and (before is None or not before.retired):
                yield Occurrence(now_ms, _leaving(row, now_ms))
        for gone in step.slots_gone:
            before = self._before((gone.pool, gone.slot_id))
            if before is not None and not before.retired:
                yield Occurrence(now_ms, _leaving(before, now_ms))

    def silent(self) -> Iterator[tuple[Key, Away]]:
        """Return the slots that were lost at the end of the window, since when."""
        return ((key, Away(since_ms, None)) for key, since_ms in self._silent.items())

    def _before(self, key: Key) -> SlotRow | None:
        pool = self.end.pools.get(key[0])
        return pool.slots.get(key[1]) if pool is not None else None


def orders(step: Step) -> Iterator[Occurrence]:
    """Return the operators' events and the quota reports of a step."""
    for taken in step.controls:
        if taken.kind not in _LEFT_OUT:
            yield Occurrence(step.now_ms, _CONTROLS.decode(taken.event))


def arrivals(step: Step) -> Iterator[Occurrence]:
    """Return the tasks that came in a step."""
    for row in step.tasks:
        yield Occurrence(step.now_ms, row.task, row.advice, row.traceparent, row.tracestate)


def reported(work: WorkDone, now_ms: Millis) -> Occurrence:
    """Return the report with which a slot ends recorded work."""
    event = SlotFreed(
        slot_id=work.slot_id, pool=work.pool, at=from_millis(now_ms), lease=work.lease, outcome=work.outcome
    )
    return Occurrence(now_ms, event)


def announced(row: SlotRow, now_ms: int) -> SlotFreed:
    """The report with which a slot comes; a replay sends no heartbeats, so it asks for no rule on them."""
    return SlotFreed(slot_id=row.slot_id, pool=row.pool, at=from_millis(now_ms), model=row.model, account=row.account)


def _leaving(row: SlotRow, now_ms: int) -> SlotFreed:
    return SlotFreed(slot_id=row.slot_id, pool=row.pool, at=from_millis(now_ms), state="leaving")
