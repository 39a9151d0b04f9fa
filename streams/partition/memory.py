"""The ports of a worker in memory: a log that the workers of several partitions can share, for tests.

These are the twins of the Kafka implementations, held to the same contract suite. Faults are injected by overriding
a method, not here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from schemas.codec import write_event
from schemas.forwarding import forwarded_headers
from schemas.vocabulary import FLEET_CONTROL, INPUT_TOPICS, Millis
from streams.partition.ports import SOURCE, Behind, Entry

if TYPE_CHECKING:
    from schemas.decision import Step
    from schemas.events import Tick
    from streams.partition.ports import DeadLetter, FindTask, Forward, JournalPosition

_RUN = 500


class MemoryRecord(Struct, frozen=True, kw_only=True):
    """A record of a `Log`."""

    offset: int
    timestamp: int
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class Log:
    """One partition of one topic."""

    def __init__(self) -> None:
        self.records: list[MemoryRecord] = []
        #: Offset of the first record kept; what was before it is gone.
        self.first = 0
        self._end = 0

    @property
    def end(self) -> int:
        """Offset of the next record."""
        return self._end

    def append(
        self,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        timestamp_ms: int = -1,
    ) -> int:
        """Write a record and return its offset."""
        offset = self._end
        self.records.append(
            MemoryRecord(offset=offset, timestamp=timestamp_ms, key=key, value=value, headers=tuple(headers))
        )
        self._end += 1
        return offset

    def skip(self, count: int = 1) -> None:
        """Leave offsets without records, as transaction markers do."""
        self._end += count

    def cut(self, first: int) -> None:
        """Forget what is before an offset, as retention does."""
        self.first = first
        self.records = [record for record in self.records if record.offset >= first]

    def between(self, start: int, end: int) -> list[MemoryRecord]:
        """Records that exist from `start` up to, not including, `end`."""
        return [record for record in self.records if start <= record.offset < end]


class MemoryJournal:
    """A journal on a `Log`."""

    def __init__(self, log: Log | None = None) -> None:
        self.log = Log() if log is None else log

    async def append(self, value: bytes) -> int:
        """Write at once."""
        return self.log.append(value)

    async def bounds(self) -> tuple[int, int]:
        """Look at the log."""
        return self.log.first, self.log.end

    async def read(self, start: int, end: int) -> AsyncGenerator[Sequence[Entry], None]:
        """Read in runs, as a broker would."""
        found = self.log.between(start, end)
        for at in range(0, len(found), _RUN):
            yield [Entry(record.offset, record.value or b"") for record in found[at : at + _RUN]]


class MemoryInputs:
    """The input topics of one partition, which tests and the simulator also write."""

    def __init__(self, logs: Sequence[Log] | None = None) -> None:
        self.logs = [Log() for _ in INPUT_TOPICS] if logs is None else list(logs)

    async def read(self, topic: int, start: int, end: int, limit: int) -> Sequence[MemoryRecord]:
        """Read what is there."""
        return self.logs[topic].between(start, end)[:limit]


class MemoryDeadLetters:
    """Keeps the dead letters."""

    def __init__(self) -> None:
        self.records: list[DeadLetter] = []

    async def write(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Keep them."""
        self.records.extend(dead_letters)


class MemoryForwards:
    """Writes to the input topics of other partitions: by partition, one log a topic."""

    def __init__(self, partition: int, partitions: Mapping[int, Sequence[Log]]) -> None:
        self._partition = partition
        self._partitions = partitions

    async def write(self, forwards: Sequence[Forward]) -> None:
        """Write at once."""
        for one in forwards:
            self._partitions[one.to][one.topic].append(
                one.raw.value,
                key=one.raw.key,
                headers=forwarded_headers(one.raw.headers or (), self._partition, one.raw.offset),
                timestamp_ms=one.raw.timestamp,
            )


class MemoryTicks:
    """Writes ticks to the partition's `fleet.control`."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def send(self, tick: Tick, now_ms: Millis) -> None:
        """Write at once."""
        record = write_event(FLEET_CONTROL, tick, ce_id=tick.control_id, source=SOURCE, time_ms=now_ms)
        self._log.append(record.value, headers=record.headers, timestamp_ms=now_ms)


class MemoryCompacted:
    """One partition of a compacted topic."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes]] = []

    async def put(self, key: str, value: bytes) -> int:
        """Write at once."""
        self.records.append((key, value))
        return len(self.records) - 1

    async def end(self) -> int:
        """Offset of the next record."""
        return len(self.records)

    async def latest(self) -> Mapping[str, bytes]:
        """Last value of every key."""
        return dict(self.records)


class ManualClock:
    """A clock that tests set."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> Millis:
        """Return what it was set to."""
        return Millis(self._now_ms)

    def advance(self, by_ms: int) -> None:
        """Move on."""
        self._now_ms += by_ms


class NoFollower:
    """A follower that publishes nothing; `took` is called with each confirmed step and its offset."""

    def __init__(self, took: Callable[[int, Step], None] | None = None) -> None:
        self._took = took
        self._stopped = asyncio.Event()

    async def start(self, base: JournalPosition, end: JournalPosition, find: FindTask) -> None:  # noqa: ARG002 - of the protocol
        """Nothing to catch up with."""
        self._stopped.clear()

    def offer(self, offset: int, step: Step) -> bool:
        """Always has room."""
        if self._took is not None:
            self._took(offset, step)
        return True

    async def room(self) -> None:
        """Return at once."""

    def lag(self, now_ms: int) -> Behind:  # noqa: ARG002 - of the protocol
        """Nothing is left out."""
        return Behind(0, 0.0)

    async def failed(self) -> None:
        """Never fail."""
        await self._stopped.wait()

    async def stop(self) -> None:
        """Nothing to finish."""
        self._stopped.set()
