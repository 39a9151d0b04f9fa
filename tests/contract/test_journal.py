"""What a worker may expect of its ports: the twins in memory and Kafka pass the same tests."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from schemas.codec import read_event
from schemas.events import Tick
from schemas.vocabulary import Millis
from streams.kafka.client import Broker
from streams.kafka.compacted import KafkaCompacted
from streams.kafka.forwards import KafkaForwards
from streams.kafka.journal import KafkaDeadLetters, KafkaInputs, KafkaJournal, KafkaTicks
from streams.kafka.outputs import ProgressGroup
from streams.partition.checkpoint import AlternatingCheckpoints, Compacted
from streams.partition.memory import (
    Log,
    ManualClock,
    MemoryCompacted,
    MemoryDeadLetters,
    MemoryForwards,
    MemoryInputs,
    MemoryJournal,
    MemoryRecord,
    MemoryTicks,
)
from streams.partition.ports import DeadLetter, DeadLetters, Forward, Forwards, Inputs, Journal, JournalPosition, Ticks
from streams.partition.publish import Progress
from streams.settings import Settings
from streams.topics import create_topics, names
from tests.support.builders import START_MS

if TYPE_CHECKING:
    from streams.local.kafka import ApacheKafka
    from streams.local.tansu import EmbeddedBroker

PARTITION = 1


class Implementation:
    """One implementation of everything, and a producer to the inputs."""

    journal: Journal
    inputs: Inputs
    dead_letters: DeadLetters
    forwards: Forwards
    ticks: Ticks
    compacted: Compacted
    progress: Progress
    send: Callable[[int, bytes], Any]
    dead: Callable[[], Any]
    #: What stands on partition 0 of `slot.freed`: (key, value, headers).
    elsewhere: Callable[[], Any]


class MemoryProgress:
    """How far a partition is published, in memory."""

    def __init__(self) -> None:
        self.position: JournalPosition | None = None

    async def load(self) -> tuple[int, int | None] | None:
        """Return what was saved."""
        return None if self.position is None else (self.position.offset, self.position.seq)

    async def save(self, position: JournalPosition, _journal_id: str | None) -> None:
        """Remember."""
        self.position = position


@pytest.fixture(params=["memory", "tansu_broker", pytest.param("apache_kafka_server", marks=pytest.mark.kafka)])
async def ports(request: pytest.FixtureRequest) -> AsyncIterator[Implementation]:
    """Each implementation in turn; the broker's topics are new ones."""
    given = Implementation()
    if request.param == "memory":
        inputs, dead_letters = MemoryInputs(), MemoryDeadLetters()
        given.journal, given.inputs, given.dead_letters = MemoryJournal(), inputs, dead_letters
        given.ticks, given.compacted = MemoryTicks(inputs.logs[2]), MemoryCompacted()
        given.progress = MemoryProgress()

        async def send(topic: int, value: bytes) -> None:
            inputs.logs[topic].append(value, key=b"main", timestamp_ms=START_MS)

        async def dead() -> list[tuple[bytes | None, bytes | None]]:
            return [(dead.raw.key, dead.raw.value) for dead in dead_letters.records]

        logs = {0: [Log(), Log(), Log()]}

        async def elsewhere() -> list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]:
            return [(record.key, record.value, list(record.headers)) for record in logs[0][1].records]

        given.forwards, given.elsewhere = MemoryForwards(PARTITION, logs), elsewhere
        given.send, given.dead = send, dead
        yield given
        return
    server: EmbeddedBroker | ApacheKafka = request.getfixturevalue(request.param)
    server.start()
    unique = uuid.uuid4().hex[:8]
    settings = Settings(broker=server.address, group=unique, topic_prefix=f"{unique}.", partitions=2)
    create_topics(settings)
    known = names(settings)
    broker = Broker(settings)
    group = ProgressGroup(broker, known, f"{unique}-publisher", settings.partitions)
    await broker.start()
    await group.start()
    given.journal, given.inputs = KafkaJournal(broker, known, PARTITION), KafkaInputs(broker, known, PARTITION)
    given.dead_letters, given.ticks = KafkaDeadLetters(broker, known, PARTITION), KafkaTicks(broker, known, PARTITION)
    given.compacted, given.progress = KafkaCompacted(broker, known, PARTITION), group.of(PARTITION)

    async def produce(topic: int, value: bytes) -> None:
        await (await broker.send(known.inputs[topic], PARTITION, value, key=b"main", timestamp_ms=START_MS))

    async def read_dead() -> list[tuple[bytes | None, bytes | None]]:
        topic = known.dead("task.pending")
        first, end = await broker.bounds(topic, PARTITION)
        return [
            (record.key, record.value)
            async for records in broker.read(topic, PARTITION, first, end)
            for record in records
        ]

    async def read_elsewhere() -> list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]:
        first, end = await broker.bounds(known.inputs[1], 0)
        return [
            (record.key, record.value, list(record.headers))
            async for records in broker.read(known.inputs[1], 0, first, end)
            for record in records
        ]

    given.forwards, given.elsewhere = KafkaForwards(broker, known, PARTITION), read_elsewhere
    given.send, given.dead = produce, read_dead
    try:
        yield given
    finally:
        await group.stop()
        await broker.stop()


async def read(journal: Journal, start: int, end: int) -> list[tuple[int, bytes]]:
    """All records of a range."""
    async with aclosing(journal.read(start, end)) as runs:
        return [(entry.offset, entry.value) async for run in runs for entry in run]


async def test_an_append_returns_the_offset_at_which_the_record_is_read_back(ports: Implementation) -> None:
    """The worker compares it with the end that it knows."""
    journal = ports.journal
    assert await journal.bounds() == (0, 0)
    assert [await journal.append(value) for value in (b"a", b"b", b"c")] == [0, 1, 2]
    assert await journal.bounds() == (0, 3)
    assert await read(journal, 0, 3) == [(0, b"a"), (1, b"b"), (2, b"c")]


async def test_a_range_holds_its_start_and_not_its_end(ports: Implementation) -> None:
    """A tail can be read without reading what came after it was asked for."""
    for value in (b"a", b"b", b"c", b"d"):
        await ports.journal.append(value)
    assert await read(ports.journal, 1, 3) == [(1, b"b"), (2, b"c")]
    assert await read(ports.journal, 4, 4) == []


async def test_a_step_of_megabytes_is_one_record(ports: Implementation) -> None:
    """Topics and clients take what the settings allow."""
    large = bytes(range(256)) * 4096 * 7
    assert await ports.journal.append(large) == 0
    assert await read(ports.journal, 0, 1) == [(0, large)]


async def test_the_side_reader_gives_what_exists_of_a_range(ports: Implementation) -> None:
    """No more than the limit, nothing beyond the end."""
    for number in range(10):
        await ports.send(0, b"%d" % number)
    found = await ports.inputs.read(0, 3, 7, 100)
    assert [(record.offset, record.value, record.key) for record in found] == [
        (number, b"%d" % number, b"main") for number in range(3, 7)
    ]
    assert [record.offset for record in await ports.inputs.read(0, 3, 100, 2)] == [3, 4]
    assert [record.offset for record in await ports.inputs.read(0, 8, 100, 100)] == [8, 9]
    assert list(await ports.inputs.read(1, 0, 5, 100)) == []


async def test_a_dead_letter_is_readable_as_soon_as_the_write_returns(ports: Implementation) -> None:
    """Raw key and value."""
    raw = MemoryRecord(offset=7, timestamp=START_MS, key=b"main", value=b"\x00broken")
    await ports.dead_letters.write([DeadLetter(0, raw, "It is broken."), DeadLetter(0, raw, "It is broken.")])
    assert await ports.dead() == [(b"main", b"\x00broken")] * 2


async def test_the_strangest_record_can_be_a_dead_letter(ports: Implementation) -> None:
    """Neither key nor value, and a header whose name is no text: it must not hold up its partition."""
    raw = MemoryRecord(offset=8, timestamp=START_MS, headers=(("\udcff", b"v"),))
    await ports.dead_letters.write([DeadLetter(0, raw, "It is empty.")])
    assert [value or None for _, value in await ports.dead()] == [None]


@pytest.mark.rule("amend.50")
async def test_a_forwarded_record_is_on_its_partition_as_it_was_sent(ports: Implementation) -> None:
    """In order, with its headers and where it was; a header's name that is no text must not hold it up."""
    raws = [
        MemoryRecord(offset=7, timestamp=START_MS, key=b"a", value=b"1", headers=(("x", b"\xff"), ("x", b""))),
        MemoryRecord(offset=9, timestamp=-1, key=b"b", value=b"2", headers=(("\udcff", b"v"),)),
    ]
    await ports.forwards.write([Forward(1, raw, 0) for raw in raws])
    assert await ports.elsewhere() == [
        (b"a", b"1", [("x", b"\xff"), ("x", b""), ("slotwise.forwarded", b"1@7")]),
        (b"b", b"2", [("\\udcff", b"v"), ("slotwise.forwarded", b"1@9")]),
    ]


async def test_a_tick_arrives_as_an_event_of_its_partition(ports: Implementation) -> None:
    """With the time at which it was sent, and no key."""
    tick = Tick(control_id="tick-1-0", at="2026-11-21T10:00:00.000Z", by="lane")
    await ports.ticks.send(tick, Millis(START_MS))
    (record,) = await ports.inputs.read(2, 0, 1, 10)
    assert record.key is None
    assert read_event("fleet.control", record.key, record.value, record.headers) == tick


async def test_a_compacted_topic_keeps_the_last_value_of_a_key(ports: Implementation) -> None:
    """Offsets count every record."""
    compacted = ports.compacted
    assert [await compacted.put(key, value) for key, value in (("a", b"1"), ("b", b"2"), ("a", b"3"))] == [0, 1, 2]
    assert await compacted.end() == 3
    assert await compacted.latest() == {"a": b"3", "b": b"2"}


async def test_progress_is_nothing_at_first_and_then_the_last_saved(ports: Implementation) -> None:
    """The step's number comes back where the broker keeps metadata; else it is looked up in the journal."""
    assert await ports.progress.load() is None
    await ports.progress.save(JournalPosition(5, 4), None)
    await ports.progress.save(JournalPosition(9, 7), None)
    loaded = await ports.progress.load()
    assert loaded in {(9, 7), (9, None)}


class TestCheckpoints:
    """Two copies, written in turn, on any compacted topic."""

    async def test_the_newest_complete_snapshot_comes_first(self, ports: Implementation) -> None:
        """And the one before it after it."""
        checkpoints = AlternatingCheckpoints(PARTITION, ports.compacted, ManualClock(START_MS))
        assert await checkpoints.load() == []
        for seq in (10, 20, 30):
            await checkpoints.save(JournalPosition(seq, seq), [b"one of %d" % seq, b"two of %d" % seq])
        again = AlternatingCheckpoints(PARTITION, ports.compacted, ManualClock(START_MS))
        found = await again.load()
        assert [one.position for one in found] == [JournalPosition(30, 30), JournalPosition(20, 20)]
        assert found[0].chunks == (b"one of 30", b"two of 30")

    async def test_a_torn_snapshot_is_ignored(self, ports: Implementation) -> None:
        """The worker died between two chunks: the other copy is whole."""
        checkpoints = AlternatingCheckpoints(PARTITION, ports.compacted, ManualClock(START_MS))
        await checkpoints.save(JournalPosition(10, 10), [b"a", b"b"])
        await checkpoints.save(JournalPosition(20, 20), [b"c", b"d"])

        def dying() -> Any:
            yield b"e"
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await checkpoints.save(JournalPosition(30, 30), dying())
        found = await AlternatingCheckpoints(PARTITION, ports.compacted, ManualClock(START_MS)).load()
        assert [one.position.seq for one in found] == [20]

    async def test_a_snapshot_overwritten_by_a_zombie_is_ignored(self, ports: Implementation) -> None:
        """A worker that was paused in the middle of a snapshot goes on with it into a newer one."""
        zombie = AlternatingCheckpoints(PARTITION, ports.compacted, ManualClock(START_MS))
        await zombie.save(JournalPosition(10, 10), [b"a"])
        alive = AlternatingCheckpoints(PARTITION, ports.compacted, ManualClock(START_MS))
        await alive.load()
        await alive.save(JournalPosition(20, 20), [b"b", b"c"])
        await ports.compacted.put(f"{PARTITION}/B/1", b"of the zombie")
        found = await AlternatingCheckpoints(PARTITION, ports.compacted, ManualClock(START_MS)).load()
        assert [one.position.seq for one in found] == [10]
        # The living one notices a foreign record and leaves the whole copy alone.
        await alive.save(JournalPosition(30, 30), [b"d"])
        found = await AlternatingCheckpoints(PARTITION, ports.compacted, ManualClock(START_MS)).load()
        assert [one.position.seq for one in found] == [30, 10]
