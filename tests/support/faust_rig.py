"""The worker's Faust app with its consumer's thread replaced by a stub, and its partitions' workers in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from aiokafka.structs import ConsumerRecord
from faust.types import TP

from streams.app import App, build_app
from streams.kafka.transport import Consumer
from streams.partition.assignment import Assignment
from streams.partition.memory import MemoryJournal, MemoryRecord
from streams.partition.worker import PartitionWorker
from streams.settings import Settings
from streams.tables import Key, Row, Rows, Tables
from tests.support.partition_world import World

Fetch = Callable[["StubThread"], Mapping[TP, Sequence[Any]]]


class StubThread:
    """What the consumer's thread would do with a broker."""

    def __init__(self) -> None:
        self.assigned: set[TP] = set()
        #: What the next fetches return, or do.
        self.fetches: deque[Mapping[TP, Sequence[Any]] | Fetch] = deque()
        #: Partitions and time-out of each fetch.
        self.asked: list[tuple[set[TP], float]] = []
        self.sought: list[dict[TP, int]] = []
        self.committed: dict[TP, int] = {}
        self.ends: dict[TP, int] = {}

    async def getmany(self, active_partitions: set[TP], timeout: float) -> Mapping[TP, Sequence[Any]]:  # noqa: ASYNC109
        """Give the next fetch."""
        self.asked.append((set(active_partitions), timeout))
        found = self.fetches.popleft()
        return found(self) if callable(found) else found

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Go to what the group has committed."""
        return dict(self.committed)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Note where to."""
        self.sought.append(dict(partitions))

    def assignment(self) -> set[TP]:
        """Give what is assigned."""
        return set(self.assigned)

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Give the ends."""
        return {tp: self.ends.get(tp, 0) for tp in partitions}

    def highwater(self, tp: TP) -> int:
        """Give the end as the last fetch knew it."""
        return self.ends.get(tp, 0)


class FaustRig:
    """An app of two partitions."""

    def __init__(self, **settings: Any) -> None:
        self.app: App = build_app(Settings(partitions=2, topic_prefix="x.", **settings))
        self.names = self.app.names
        self.worlds = {0: World(), 1: World()}
        self.failures: list[BaseException] = []
        self.thread = StubThread()
        #: First and next offset, as the broker itself reports them.
        self.bounds: dict[TP, tuple[int, int]] = {}
        vars(self.app)["failed"] = self.failures.append
        self.app.assignment = Assignment(self._open, self.failures.append, 10.0)
        self.app.projections = self.tables = self._tables()
        broker: Any = SimpleNamespace(bounds=self._bounds)
        self.app.connections = (broker, self.app.connections[1])
        consumer = self.app.consumer
        assert isinstance(consumer, Consumer)
        self.consumer = consumer
        vars(self.consumer)["_thread"] = self.thread
        self.app.consumer_generation_id = 1
        self.consumer.resume_flow()

    def assign(self, *partitions: int, more: Iterable[TP] = ()) -> None:
        """Assign these partitions of all input topics and of the journal, and perhaps more."""
        self.thread.assigned = {self.tp(topic, number) for topic in range(4) for number in partitions} | {*more}
        self.consumer._set_active_tps(self.thread.assigned)

    def tp(self, topic: int, partition: int) -> TP:
        """Name a partition of an input topic by its index; 3 is the journal."""
        return TP((*self.names.inputs, self.names.journal)[topic], partition)

    async def fetch(self, *fetches: Mapping[TP, Sequence[Any]] | Fetch) -> list[tuple[TP, Any]]:
        """Give what the consumer makes of these fetches."""
        self.thread.fetches.extend(fetches)
        return [found for _ in fetches async for found in self.consumer.getmany(1.0)]

    def _open(self, partition: int) -> PartitionWorker:
        return self.worlds[partition].new_worker()

    def _tables(self) -> Tables:
        def forget(rows: Rows, key: Key) -> None:
            rows.pop(key, None)

        def journal(partition: int) -> MemoryJournal:
            return MemoryJournal(self.worlds[partition].journal.log)

        utilisation: dict[Key, Row] = {}
        percentiles: dict[Key, Row] = {}
        return Tables(utilisation, percentiles, journal=journal, forget=forget)

    async def _bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return self.bounds.get(TP(topic, partition), (0, 0))


@asynccontextmanager
async def faust_rig(**settings: Any) -> AsyncIterator[FaustRig]:
    """A rig whose workers are halted at the end."""
    rig = FaustRig(**settings)
    try:
        yield rig
    finally:
        await rig.app.assignment.halt()


def fetched(tp: TP, *records: MemoryRecord) -> list[Any]:
    """Records as aiokafka gives them."""
    return [
        ConsumerRecord(
            tp.topic, tp.partition, one.offset, one.timestamp, 0, one.key, one.value, None, 0, 0, one.headers
        )
        for one in records
    ]  # fmt: skip
