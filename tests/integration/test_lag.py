"""What `slotwise lag` says of readers whose lag is known, from a real broker and a real audit."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer
from msgspec.structs import replace

from schemas.decision import Accepted
from schemas.steps import encode_step
from schemas.vocabulary import FLEET_CONTROL, INPUT_TOPICS, TASK_PENDING, Millis
from streams.database.migrations import migrate
from streams.operate.handled import following_handled
from streams.operate.lag import LagReader, SharedLag
from streams.secret import Dsn
from streams.settings import Settings
from streams.sinks.postgres import PostgresSink
from streams.topics import create_topics, names
from streams.views.lag import LagReport, ReaderLag, report
from tests.support.builders import START_MS, step
from tests.support.partition_world import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.local.kafka import ApacheKafka
    from streams.local.tansu import EmbeddedBroker

PENDING = INPUT_TOPICS.index(TASK_PENDING)


@pytest.fixture
async def settings(broker: ApacheKafka | EmbeddedBroker, database: str) -> Settings:
    """Topics on each kind of broker in turn, and an empty audit."""
    unique = f"t{uuid.uuid4().hex[:8]}"
    made = Settings(
        broker=broker.address,
        database=Dsn(database),
        group=unique,
        topic_prefix=f"{unique}.",
        partitions=2,
        rebalance_timeout_s=1.0,
    )
    await asyncio.to_thread(create_topics, made)
    await asyncio.to_thread(migrate, database)
    return made


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    """Send records to the test's topics."""
    made = AIOKafkaProducer(bootstrap_servers=settings.broker, acks="all")
    await made.start()
    yield made
    await made.stop()


async def append(producer: AIOKafkaProducer, settings: Settings, *steps: tuple[int, int]) -> None:
    """Append steps to the journal of partition 1: the number, and the second of its record. Each handles a task."""
    for seq, second in steps:
        one = step(
            seq,
            partition=1,
            inputs=(Accepted(PENDING, seq, Millis(START_MS)),),
        )
        at_ms = START_MS + second * 1000
        await producer.send_and_wait(names(settings).journal, encode_step(one), partition=1, timestamp_ms=at_ms)


async def sink_until(settings: Settings, steps: int) -> None:
    """Run a sink until it has written so many steps in all, and end it."""
    sink, stop = PostgresSink(settings), asyncio.Event()
    task = asyncio.create_task(sink.run(stop))
    await until(lambda: sum(one.seq + 1 for one in sink.status().partitions.values()) >= steps)
    stop.set()
    await asyncio.wait_for(task, 30)


async def looked(settings: Settings) -> LagReport:
    """Look once, as the command does."""
    async with following_handled(settings) as handled:
        with LagReader(settings, handled) as reader:
            return report(await asyncio.to_thread(reader.look))


def of(found: LagReport, reader: str, topic: str, settings: Settings) -> ReaderLag:
    """The line of one reader."""
    (line,) = [one for one in found.readers if (one.reader, one.topic) == (reader, settings.topic_prefix + topic)]
    return line


async def test_a_stopped_sink_is_behind_by_the_records_and_the_seconds_that_it_lacks(
    settings: Settings, producer: AIOKafkaProducer
) -> None:
    """Its position is that of Postgres; that of the workers is the journal's, although none has committed anything."""
    for _ in range(9):
        await producer.send_and_wait(settings.topic_prefix + TASK_PENDING, b"{}", key=b"main", partition=1)
    await append(producer, settings, (0, 0), (1, 10))
    await sink_until(settings, 2)
    await append(producer, settings, (2, 20), (3, 30), (4, 65))

    found = await looked(settings)
    sink = of(found, "sink", "decision.audit", settings)
    assert (sink.basis, sink.records, sink.seconds) == ("audit", 3, 45.0)
    assert [(one.position, one.end) for one in sink.partitions] == [(0, 0), (2, 5)]
    assert sink.age_s > sink.seconds
    worker = of(found, "worker", TASK_PENDING, settings)
    assert (worker.basis, worker.records) == ("journal", 4)
    assert of(found, "worker", FLEET_CONTROL, settings).records == 0
    publisher = of(found, "publisher", "decision.audit", settings)
    assert (publisher.basis, publisher.records, publisher.seconds) == ("committed", 5, 65.0)

    await sink_until(settings, 5)
    caught_up = of(await looked(settings), "sink", "decision.audit", settings)
    assert (caught_up.records, caught_up.seconds, caught_up.age_s) == (0, 0.0, 0.0)

    # A record that is no step, behind the last one, is none that the sink lacks.
    await append(producer, settings, (4, 70))
    assert of(await looked(settings), "sink", "decision.audit", settings).records == 0


async def test_a_database_that_is_away_hides_the_sink_only_and_rates_are_those_between_two_looks(
    settings: Settings, producer: AIOKafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence says what does not answer; what is asked again at once is not looked at again."""
    away = replace(settings, database=Dsn("postgresql://127.0.0.1:1/slotwise"))
    await append(producer, settings, (0, 0), (1, 10))
    shared = SharedLag()

    async def ask(**changes: Any) -> LagReport:
        for name, value in changes.items():
            monkeypatch.setattr(f"streams.operate.lag.{name}", value)
        return await asyncio.to_thread(shared.report, away, handled)

    async with following_handled(away) as handled:
        first = await ask(FRESH_S=60.0)
        assert "127.0.0.1:1" in first.unknown[0].trouble
        assert of(first, "worker", TASK_PENDING, away).out_per_s is None
        await append(producer, settings, (2, 20))
        assert await ask() is first
        second = await ask(FRESH_S=0.0)
        publisher = of(second, "publisher", "decision.audit", away)
        assert second.interval_s is not None
        assert publisher.in_per_s == pytest.approx(
            1 / second.interval_s, rel=0.1
        )  # the interval is in whole milliseconds
        assert (publisher.out_per_s, publisher.drain_s) == (0.0, None)
        await asyncio.to_thread(shared.close)
