"""A rig that hands events to a router, drives it through time and checks its promises at every step.

Each step is computed twice, applied, checked, and applied from its journal record to a second router; where the
two differ, or the state contradicts itself, the test that used the rig fails there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from schemas.decision import Advice, Decision, SlotRow, Step, TaskStatus
from schemas.event_id import EventId
from schemas.events import SlotFreed
from schemas.input import Content, Input
from schemas.steps import decode_step, encode_step
from schemas.vocabulary import INPUT_TOPICS, Millis, from_millis
from streams.audit.journal import JournalAudit
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from tests.support.builders import START_MS, freed, rulebook, slot, tick, topic_of


class RouterRig:
    """A router with a clock, offsets and a memory of all its steps."""

    def __init__(self, *slots: str, book: Rulebook | None = None, strict: bool = True, **named: Any) -> None:
        """Begin with these slots announced, `haiku-1` for a slot that runs haiku."""
        #: Without a rulebook of its own a test's tasks are tried again without a pause.
        self.book = book or rulebook(attempts={"back_off_s": 0.0})
        self.make: Callable[[], Router] = lambda: Router(0, self.book, **named)
        self.router = self.make()
        #: Fed with journal records only.
        self.follower = self.make()
        self.strict = strict
        #: A step of these inputs is computed around each step, and never applied: it must change nothing.
        self.discarded: list[Input] = []
        self.audit = JournalAudit(
            0,
            memory_ms=self.book.memory_ms,
            ageing_ms=self.book.ageing_ms,
            patience_points=self.book.patience_points,
        )
        self.now_ms = START_MS
        #: What plug-ins say of a task as it arrives.
        self.advise: Callable[[Content], Advice | None] = lambda _: None
        #: The CloudEvents identity of a slot's report.
        self.identify: Callable[[Content], EventId | None] = lambda _: None
        self.steps: list[Step] = []
        self.batches: list[list[Input]] = []
        self._offsets = [0] * len(INPUT_TOPICS)
        if slots:
            self.hand_in(*(slot(name) for name in slots))

    # What happens.

    def hand_in(self, *events: Content, after_s: float = 0.0) -> Step:
        """All these events in one step, `after_s` later than the one before."""
        self.now_ms += round(after_s * 1000)
        return self.hand_in_timed((0, event) for event in events)

    def hand_in_timed(self, events: Iterable[tuple[int, Content]]) -> Step:
        """All these events in one step, each so many milliseconds after the one before."""
        batch = []
        for after_ms, event in events:
            self.now_ms += after_ms
            topic = topic_of(event)
            now_ms, offset, advice = Millis(self.now_ms), self._offsets[topic], self.advise(event)
            event_id = self.identify(event)
            batch.append(Input(topic, offset, now_ms, event, advice=advice, event_id=event_id))
            self._offsets[topic] += 1
        return self.take(batch)

    def take(self, batch: list[Input]) -> Step:
        """One step of the router, with every promise checked."""
        self.batches.append(batch)
        before = picture(self.router) if self.strict else []
        step = self.router.handle(batch)
        raw = encode_step(step)
        if self.strict:
            self._compute_and_discard()
            step = self.router.handle(batch)
            assert encode_step(step) == raw, "handling the same twice gave two different steps"
            self._compute_and_discard()
            assert picture(self.router) == before, "computing a step changed the state"
        assert self.audit.add(raw) is not None
        assert self.audit.problems == [], "the auditor, who shares no code with the router, finds a broken promise"
        self.router.apply(step)
        self.follower.apply(decode_step(raw))
        self.steps.append(step)
        self.router.validate()
        if self.strict:
            assert picture(self.router) == picture(self.follower), "applying the journal gives another state"
            assert self.router.due_ms() == self.follower.due_ms(), "applying the journal gives other due times"
        return step

    def _compute_and_discard(self) -> None:
        """Another worker's step takes the place of the one that is computed here."""
        if self.discarded:
            self.router.handle(self.discarded)

    def wait(self, s: float) -> Step:
        """Time passes and a tick says so."""
        return self.hand_in(tick(), after_s=s)

    def ends(self, task_id: str, status: str = "success", *, after_s: float = 0.0, **outcome: Any) -> Step:
        """The slot that runs the task reports its outcome."""
        return self.hand_in(self.end_of(task_id, status, **outcome), after_s=after_s)

    # What to hand in, and what came of it.

    def end_of(self, task_id: str, status: str = "success", **outcome: Any) -> SlotFreed:
        """The event by which the slot that runs the task gives it back."""
        now = self.status(task_id)
        assert now is not None, f"{task_id} is over"
        assert now.slot_id is not None, f"{task_id} does not run"
        assert now.lease is not None
        return freed(
            now.slot_id,
            now.lease,
            task_id,
            status,
            outcome=outcome,
            at_ms=self.now_ms,
            pool=self.pool_of(task_id),
        )

    def pool_of(self, task_id: str) -> str:
        """The pool in which the task is unfinished."""
        return next(name for name, pool in self.router.state.pools.items() if task_id in pool.tasks)

    def status(self, task_id: str, pool: str = "main") -> TaskStatus | None:
        """Where an unfinished task stands."""
        row = self.router.state.pool(pool).tasks.get(task_id)
        return row.status if row is not None else None

    def runs_on(self, task_id: str, pool: str = "main") -> str | None:
        """The slot on which the task runs."""
        status = self.status(task_id, pool)
        return status.slot_id if status is not None else None

    def headline(self, task_id: str, pool: str = "main") -> str | None:
        """The headline last announced for the task."""
        status = self.status(task_id, pool)
        return status.headline if status is not None else None

    def row(self, slot_id: str, pool: str = "main") -> SlotRow | None:
        """How a slot stands."""
        return self.router.state.pool(pool).slots.get(slot_id)

    def count(self, word: str) -> int:
        """How often something was counted so far."""
        return self.router.state.counts.get(word, 0)

    def decisions(self, task_id: str | None = None) -> list[Decision]:
        """All decisions so far, or those about one task."""
        return [one for step in self.steps for one in step.decisions if task_id in (None, one.task_id)]

    @property
    def at(self) -> str:
        """The present moment, as events spell it."""
        return from_millis(self.now_ms)


def picture(router: Router) -> list[bytes]:
    """The state as bytes."""
    return list(router.snapshot())


def outcomes(step: Step) -> dict[str, str]:
    """What a step decided: the slot of a routed task, the reason code of any other."""
    return {one.task_id: one.chosen_slot_id or one.reason_code for one in step.decisions}


def at(event: Any, now_ms: int) -> Any:
    """The same event at another time."""
    return replace(event, at=from_millis(now_ms))
