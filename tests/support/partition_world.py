"""A partition's worker with all its ports in memory, and the faults that a journal can have."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from schemas.codec import write_event
from schemas.decision import Step
from schemas.events import FleetControl, SlotFreed, TaskPending
from schemas.vocabulary import INPUT_TOPICS, from_millis
from streams.core.policy.rulebook import Rulebook, load_rulebook
from streams.core.router import Router
from streams.partition.checkpoint import AlternatingCheckpoints
from streams.partition.memory import (
    Log,
    ManualClock,
    MemoryCompacted,
    MemoryDeadLetters,
    MemoryForwards,
    MemoryInputs,
    MemoryJournal,
    MemoryTicks,
    NoFollower,
)
from streams.partition.ports import Advisor, Forwards, JournalError, Limits, PartitionError, Ports, StateMachine
from streams.partition.worker import PartitionWorker
from streams.replay.verify import Verification, verify
from streams.shipped import shipped
from tests.support.audit import Audit, audit
from tests.support.builders import START_MS

_ids = itertools.count(1)

RULEBOOK = load_rulebook(shipped("catalog.toml"), shipped("policy.toml"))
DEADLINE_S = 100.0

Fault = Callable[["FaultyJournal", bytes], int | None]


class FaultyJournal(MemoryJournal):
    """A journal whose next appends go wrong, each in its way."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: deque[Fault] = deque()

    async def append(self, value: bytes) -> int:
        """Write, or do what the next fault says."""
        if self.faults:
            offset = self.faults.popleft()(self, value)
            if offset is not None:
                return offset
        return await super().append(value)


def lost(_journal: FaultyJournal, _value: bytes) -> int:
    """The record was not written, and the broker is gone."""
    raise ConnectionError("the broker went away before it wrote")


def written_but_unknown(journal: FaultyJournal, value: bytes) -> int:
    """The record was written, and the answer was lost."""
    journal.log.append(value)
    raise TimeoutError("the broker wrote and went away")


def written_twice(journal: FaultyJournal, value: bytes) -> int:
    """The client tried again although the first try had worked."""
    journal.log.append(value)
    return journal.log.append(value)


def taken_by(step: Step | Callable[[], bytes]) -> Fault:
    """Another worker wrote the same number first."""

    def fault(journal: FaultyJournal, _value: bytes) -> None:
        assert not isinstance(step, Step)
        journal.log.append(step())

    return fault


class Follower(NoFollower):
    """Stores confirmed steps, and fails on demand."""

    def __init__(self, took: Callable[[int, Step], None]) -> None:
        super().__init__(took)
        self.failure: asyncio.Future[None] = asyncio.Future()

    async def failed(self) -> None:
        """Wait for the failure."""
        await asyncio.shield(self.failure)


class World:
    """Everything outside one partition's worker."""

    def __init__(self, rulebook: Rulebook = RULEBOOK, **limits: Any) -> None:
        self.rulebook = rulebook
        self.clock = ManualClock(START_MS)
        self.journal = FaultyJournal()
        self.inputs = MemoryInputs()
        self.dead_letters = MemoryDeadLetters()
        #: The input topics of other partitions, for what is forwarded there.
        self.elsewhere = {partition: [Log() for _ in INPUT_TOPICS] for partition in (1, 2, 3)}
        self.forwards: Forwards = MemoryForwards(0, self.elsewhere)
        self.compacted = MemoryCompacted()
        self.steps: list[Step] = []
        self.make: Callable[[Iterable[bytes] | None], StateMachine] = self._router
        self.limits = Limits(
            **{
                "step_inputs_max": 1000,
                "step_bytes_max": 8_000_000,
                "round_ms_min": 0,
                "now_ahead_ms_max": 5000,
                "checkpoint_changes_min": 1_000_000,
                "journal_retention_hours": 168.0,
            }
            | limits
        )
        self.home: Callable[[bytes], int] = lambda _: 0
        self.pressed: list[tuple[int, bool]] = []
        self.advisor: Callable[[Rulebook], Advisor | None] = lambda _: None

    def _router(self, chunks: Iterable[bytes] | None) -> StateMachine:
        return Router(0, self.rulebook) if chunks is None else Router.restore(0, self.rulebook, chunks)

    def new_worker(self) -> PartitionWorker:
        """Another process's worker of the partition, or the same one's after a restart."""
        self.follower = Follower(lambda _, step: self.steps.append(step))
        ports = Ports(
            journal=self.journal,
            inputs=self.inputs,
            dead_letters=self.dead_letters,
            forwards=self.forwards,
            ticks=MemoryTicks(self.inputs.logs[2]),
            checkpoints=self.checkpoints(),
            clock=self.clock,
            follower=self.follower,
            home=self.home,
            pressure=lambda topic, full: self.pressed.append((topic, full)),
            advisor=self.advisor,
            rulebook=self.rulebook,
        )
        return PartitionWorker(0, self.make, ports, self.limits)

    def checkpoints(self) -> AlternatingCheckpoints:
        """The checkpoints of the partition, as a new process sees them."""
        return AlternatingCheckpoints(0, self.compacted, self.clock)

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[PartitionWorker]:
        """A worker that was recovered and started, and is halted at the end, whatever happened to it."""
        worker = self.new_worker()
        await worker.recover()
        await worker.start()
        try:
            yield worker
        finally:
            with suppress(JournalError, PartitionError):  # the test asked for it
                await worker.halt()

    def send(self, topic: str, event: TaskPending | SlotFreed | FleetControl, **record: Any) -> int:
        """Write an input and return its offset."""
        written = write_event(topic, event, ce_id=f"e-{next(_ids)}", source="test", time_ms=self.clock.now_ms())
        fields: dict[str, Any] = {
            "key": written.key, "headers": written.headers, "timestamp_ms": self.clock.now_ms(), **record,
        }  # fmt: skip
        return self.inputs.logs[INPUT_TOPICS.index(topic)].append(written.value, **fields)

    def task(self, task_id: str, pool: str = "main", **fields: Any) -> int:
        """Send a task that any model can do."""
        at = from_millis(self.clock.now_ms())
        return self.send("task.pending", TaskPending(task_id=task_id, pool=pool, at=at, **fields))

    def slot(self, slot_id: str, pool: str = "main", model: str = "haiku", **fields: Any) -> int:
        """Announce a slot, or free it."""
        at = from_millis(self.clock.now_ms())
        return self.send("slot.freed", SlotFreed(slot_id=slot_id, pool=pool, at=at, model=model, **fields))

    def deliver(self, worker: PartitionWorker, topic: str, *offsets: int) -> None:
        """Give records to the worker: these, or all."""
        index = INPUT_TOPICS.index(topic)
        log = self.inputs.logs[index]
        wanted = offsets or [record.offset for record in log.records]
        by_offset = {record.offset: record for record in log.records}
        worker.offer(index, [by_offset[offset] for offset in wanted])

    async def handled(self, worker: PartitionWorker, topic: str, offset: int) -> None:
        """Wait until an input is journaled, or the worker has ended."""
        index = INPUT_TOPICS.index(topic)
        await until(lambda: worker.position(index) >= offset or not worker.working)
        if not worker.working:
            await worker.failed()

    async def pass_through(self, worker: PartitionWorker, topic: str) -> None:
        """Deliver all records of a topic and wait until the last is journaled."""
        self.deliver(worker, topic)
        await self.handled(worker, topic, self.inputs.logs[INPUT_TOPICS.index(topic)].end - 1)

    async def handle_tasks(self, worker: PartitionWorker, count: int, **fields: Any) -> None:
        """Send `count` further tasks, named after their offsets, and wait until they are journaled."""
        for number in range(self.inputs.logs[0].end, self.inputs.logs[0].end + count):
            self.task(f"t-{number}", **fields)
        await self.pass_through(worker, "task.pending")

    def verified(self) -> Verification:
        """The steps derived again, from the journal and the input topics."""
        records = [{record.offset: record for record in log.records} for log in self.inputs.logs]
        journal = [(entry.offset, entry.value or b"") for entry in self.journal.log.records]
        return verify(Router(0, self.rulebook), journal, records, self.home)

    def audit(self) -> Audit:
        """What the auditor says of the journal so far, against all inputs that exist."""
        return audit(
            0,
            [record.value or b"" for record in self.journal.log.records],
            {
                topic: [record.offset for record in log.records]
                for topic, log in zip(INPUT_TOPICS, self.inputs.logs, strict=True)
            },
        )

    def sound(self) -> Audit:
        """The same, after a check that nothing is wrong."""
        found = self.audit()
        assert found.problems == []
        return found


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what it waits for knows nothing of events
            await asyncio.sleep(0.001)
