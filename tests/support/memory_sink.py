"""A journal's topic and a store in memory, for tests of what follows the journal; both can be made to fail."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

from schemas.vocabulary import Millis
from streams.sinks.ports import ConflictError, JournalRecord, RetryableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from streams.sinks.follow import JournalFollower
    from streams.sinks.ports import JournaledStep, SinkPosition


class HandClock:
    """A clock that tests move, and that moves a little while a follower idles."""

    def __init__(self, now_ms: int = 0) -> None:
        self.ms = now_ms

    def now_ms(self) -> Millis:
        """Give the time it was set to."""
        return Millis(self.ms)


class MemoryRecords:
    """Partitions of one topic; `deliver` lists what the next fetches give, by default what lies after the seek."""

    topic = "decision.audit"

    def __init__(self, clock: HandClock, partitions: int = 1) -> None:
        self.clock = clock
        self.logs: dict[int, list[JournalRecord]] = {partition: [] for partition in range(partitions)}
        self.first = dict.fromkeys(self.logs, 0)
        self.assigned = frozenset(self.logs)
        self.at: dict[int, int] = {}
        self.committed: dict[int, int] = {}
        self.idled_s: list[float] = []
        self.failing: str | None = None
        self.closed = False

    def append(self, *values: bytes, partition: int = 0, at_ms: int = 0) -> None:
        """Append records."""
        log = self.logs[partition]
        for value in values:
            log.append(JournalRecord(partition, len(log), at_ms, value))

    async def assignment(self) -> frozenset[int]:
        """Give the partitions assigned."""
        self._fail()
        return self.assigned

    async def bounds(self, partition: int) -> tuple[int, int]:
        """Give first and end offset."""
        self._fail()
        return self.first[partition], len(self.logs[partition])

    def seek(self, partition: int, offset: int) -> None:
        """Go on from there."""
        self.at[partition] = offset

    async def fetch(self, wait_s: float) -> Sequence[JournalRecord]:
        """Give all that is there."""
        del wait_s
        await asyncio.sleep(0)
        self._fail()
        found: list[JournalRecord] = []
        for partition in sorted(self.assigned & self.at.keys()):
            found += self.logs[partition][self.at[partition] :]
            self.at[partition] = len(self.logs[partition])
        return found

    async def read(self, partition: int, start: int, end: int) -> AsyncGenerator[Sequence[JournalRecord], None]:
        """Give a range, one record a run."""
        self._fail()
        for record in self.logs[partition][start:end]:
            yield [record]

    def end(self, partition: int) -> int | None:
        """Give the end."""
        return len(self.logs[partition])

    async def idle(self, wait_s: float) -> None:
        """Let the clock go on by what was asked for."""
        self.idled_s.append(wait_s)
        self.clock.ms += max(1, round(wait_s * 1000))
        await asyncio.sleep(0)

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Note the offsets."""
        self.committed.update(offsets)

    async def close(self) -> None:
        """Note it."""
        self.closed = True

    def _fail(self) -> None:
        if self.failing:
            raise RetryableError(self.failing)


class MemoryStore:
    """Steps in lists; `fail_next` says what the next writes end in, before or after they were kept."""

    name = "The store"
    remedy = "Use another store."

    def __init__(self) -> None:
        self.stored: defaultdict[int, list[JournaledStep]] = defaultdict(list)
        self.batches: list[int] = []
        self.fail_before: int = 0
        self.fail_after: int = 0
        self.closed = False

    async def positions(self) -> Mapping[int, SinkPosition]:
        """Give the last of each list."""
        if self.fail_before:
            self.fail_before -= 1
            raise RetryableError("the database at test:1 failed (gone)")
        return {partition: steps[-1].position for partition, steps in self.stored.items() if steps}

    async def write(self, steps: Sequence[JournaledStep]) -> None:
        """Store all or none, and only numbers that are not written."""
        await asyncio.sleep(0)
        if self.fail_before:
            self.fail_before -= 1
            raise RetryableError("the database at test:1 failed (gone)")
        numbers = {(p, one.step.seq) for p, steps in self.stored.items() for one in steps}
        if any((one.step.partition, one.step.seq) in numbers for one in steps):
            raise ConflictError("another sink has written these steps")
        for one in steps:
            self.stored[one.step.partition].append(one)
        self.batches.append(len(steps))
        if self.fail_after:
            self.fail_after -= 1
            raise RetryableError("the database at test:1 failed (connection lost at commit)")

    async def close(self) -> None:
        """Note it."""
        self.closed = True

    def seqs(self, partition: int = 0) -> list[int]:
        """Give the numbers kept, in the order in which they were written."""
        return [one.step.seq for one in self.stored[partition]]


async def until(happened: Callable[[], bool], follower: JournalFollower, deadline_s: float = 100.0) -> None:
    """Run a follower until something has happened; an error of the follower is ours."""
    stop = asyncio.Event()
    running = asyncio.create_task(follower.run(stop))
    try:
        async with asyncio.timeout(deadline_s):
            while not happened() and not running.done():  # noqa: ASYNC110 - any condition may be waited for
                await asyncio.sleep(0.005)
    finally:
        stop.set()
        await running
