"""A world that goes on under the real router: what comes from without is handed in, what follows is made.

A choice decides when its slot comes free, so ends of work are made by what says how long work takes. Everything of one
moment is one step. Time is that of what is handed in; nothing here asks a clock, so it does not matter how quickly it
comes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from schemas.decision import Decision, Step
from schemas.events import Outcome, SlotFreed, Tick
from schemas.input import Input, topic_of
from schemas.vocabulary import INPUT_TOPICS, Millis, from_millis
from streams.core.router import Router
from streams.replay.recording import Away, Key, Occurrence
from streams.replay.work_model import Works

#: Who sends what only a replay sends.
BY: Final = "replay"
#: A lease is renewed when so much of it is left.
_LEFT_SHARE: Final = 10


class World:
    """One partition."""

    def __init__(self, router: Router, work: Works, away: Mapping[Key, Sequence[Away]] | None = None) -> None:
        """`away`: when slots fall silent."""
        self.router = router
        #: Reasons of what was refused.
        self.refused: list[str] = []
        self._work = work
        self._away = away or {}
        #: What is to come: (when, in which order, what).
        self._coming: list[tuple[int, int, Occurrence]] = []
        self._count = 0

    def come(self, occurrence: Occurrence) -> None:
        """Have something happen at its time, after what was handed in for that time before."""
        self._count += 1
        heapq.heappush(self._coming, (occurrence.at_ms, self._count, occurrence))

    def advance(self, to_ms: int) -> Iterator[Step]:
        """Let everything happen until that time, which is part of it, and yield the steps."""
        while True:
            due_ms = self.router.due_ms()
            moments = [self._coming[0][0]] if self._coming else []
            if due_ms is not None:
                moments.append(max(due_ms, self.router.now_ms + 1))
            if not moments or min(moments) > to_ms:
                return
            yield self._step(Millis(max(min(moments), self.router.now_ms)))

    def follow(self, to_ms: Millis) -> Iterator[Step]:
        """Let what was handed in happen until that time, with a step at that time; what falls due in between waits.

        So it wakes when the one that it follows does, and at the ends of its own work.
        """
        reached = False
        while self._coming and self._coming[0][0] <= to_ms:
            step = self._step(Millis(max(self._coming[0][0], self.router.now_ms)))
            reached = step.now_ms >= to_ms
            yield step
        if not reached:
            yield self._step(to_ms)

    @property
    def next_ms(self) -> Millis | None:
        """When the next thing that was handed in happens."""
        return Millis(self._coming[0][0]) if self._coming else None

    def coming(self) -> list[Occurrence]:
        """Return what is to come, in order."""
        return [one for _, _, one in sorted(self._coming, key=lambda one: one[:2])]

    def _step(self, now_ms: Millis) -> Step:
        occurrences: list[Occurrence] = []
        while self._coming and self._coming[0][0] <= now_ms:
            occurrences.append(heapq.heappop(self._coming)[2])
        if not occurrences:
            occurrences.append(ticked(now_ms))
        step = self.router.handle(inputs_of(self.router, occurrences, now_ms))
        self.router.apply(step)
        self.refused += [one.reason for one in step.rejected]
        for decision in step.decisions:
            if decision.outcome == "routed":
                self._begin_work(decision, now_ms)
        return step

    def _begin_work(self, decision: Decision, now_ms: Millis) -> None:
        row = self.router.task(decision.pool, decision.task_id)
        if row is None or decision.chosen_slot_id is None:
            return
        work = self._work.work(row.task, decision)
        if work is None:
            return
        end_ms = now_ms + work.taken_ms
        away = self._away.get((decision.pool, decision.chosen_slot_id), ())
        if any(one.from_ms <= end_ms and (one.until_ms is None or one.until_ms > now_ms) for one in away):
            return
        if decision.lease_expires_at_ms is not None:
            for at_ms in renewals(now_ms, decision.lease_expires_at_ms - now_ms, decision.lease_renewals_max, end_ms):
                self.come(report_of(decision.pool, decision.chosen_slot_id, decision.lease, at_ms))
        self.come(report_of(decision.pool, decision.chosen_slot_id, decision.lease, end_ms, work.outcome))


def report_of(pool: str, slot_id: str, lease: int | None, at_ms: int, outcome: Outcome | None = None) -> Occurrence:
    """Return the report with which a slot ends its work, or without an outcome says that it works on."""
    event = SlotFreed(
        slot_id=slot_id,
        pool=pool,
        at=from_millis(at_ms),
        lease=lease,
        outcome=outcome,
        state="free" if outcome is not None else "working",
    )
    return Occurrence(Millis(at_ms), event)


def inputs_of(router: Router, occurrences: Iterable[Occurrence], now_ms: Millis) -> list[Input]:
    """Return what happens at a moment as inputs, at offsets that follow those of the router."""
    offsets = [router.position(topic) for topic in range(len(INPUT_TOPICS))]
    inputs = []
    for one in occurrences:
        topic = topic_of(one.event)
        offsets[topic] += 1
        inputs.append(
            Input(topic, offsets[topic], now_ms, one.event, one.traceparent, one.tracestate, advice=one.advice)
        )
    return inputs


def ticked(now_ms: Millis) -> Occurrence:
    """Return that time has passed and nothing else happened."""
    return Occurrence(now_ms, Tick(control_id=f"{BY}-tick-{now_ms}", at=from_millis(now_ms), by=BY))


def renewals(from_ms: int, length_ms: int, most: int, end_ms: int) -> Iterator[int]:
    """Return when a slot renews a lease that was given then, until its work ends or no renewal is left."""
    at_ms = from_ms
    for _ in range(most):
        if at_ms + length_ms > end_ms:
            return
        at_ms += max(1, length_ms - length_ms // _LEFT_SHARE)
        yield at_ms
