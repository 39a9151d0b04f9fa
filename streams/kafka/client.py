"""The connections of one worker to its broker, beside those of Faust: two producers, one consumer for offsets, readers.

Journal records have a producer of their own, so that a burst of outputs is never queued before a step.
Readers are made for one range and closed after it: for recovery, and for records that delivery left out.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from streams.access.refusal import require_access
from streams.access.security import client_options
from streams.kafka.lenient_headers import install
from streams.together import all_of
from streams.topics import FRAME_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable, Mapping, Sequence

    from aiokafka.structs import ConsumerRecord, RecordMetadata

    from schemas.record import Record
    from streams.settings import Settings

#: A request that takes longer has failed; the caller tries again.
REQUEST_TIMEOUT_MS = 10_000
#: A reader that gets nothing for so long, although the log has more records, has failed.
STALL_S_MAX = 30.0
#: Wait for one record, or for the answer that there is none.
PEEK_TIMEOUT_MS = 500
FETCH_BYTES_MAX = 8_388_608
#: A broker that looks for new records only now and then is asked this often by who follows them.
TAIL_WAIT_MS = 50
OUTPUT_BATCH_BYTES = 262_144
#: A log that ends before its reader's position for so long has started over; a new leader's may for a moment.
BEHIND_S_MAX = 5.0


_Client = TypeVar("_Client")


async def records_before(
    consumer: AIOKafkaConsumer, where: TopicPartition, end: int, *, stall_s_max: float
) -> AsyncGenerator[list[ConsumerRecord[bytes, bytes]], None]:
    """Yield the records from the consumer's position up to, not including, `end`, in the broker's batches.

    It ends early, with the position before `end`, when nothing comes for `stall_s_max`.
    """
    loop = asyncio.get_running_loop()
    position, progress_s = await consumer.position(where), loop.time()
    while position < end and loop.time() - progress_s <= stall_s_max:
        found = (await consumer.getmany(where, timeout_ms=500)).get(where, [])
        wanted = [record for record in found if record.offset < end]
        if wanted:
            yield wanted
        # Not the last record's offset: markers and compacted records leave gaps at the end of a range.
        before, position = position, await consumer.position(where)
        if position > before:
            progress_s = loop.time()


async def end_of(consumer: AIOKafkaConsumer, where: TopicPartition, *, stall_s_max: float) -> int:
    """Return the offset that comes next in a partition, as the broker's answer to a fetch has it.

    A busy broker may need longer than one wait for it; what it answers to a question for offsets may be too low.

    Raises:
        TimeoutError: no fetch was answered for `stall_s_max`.
    """
    loop = asyncio.get_running_loop()
    begin_s = loop.time()
    while (end := consumer.highwater(where)) is None:
        if loop.time() - begin_s > stall_s_max:
            raise TimeoutError(f"{where.topic}[{where.partition}]: the broker does not answer where it ends")
        await consumer.getmany(where, timeout_ms=PEEK_TIMEOUT_MS)
    return int(end)


async def send_batches(
    producer: AIOKafkaProducer, topic: str, partition: int, records: Iterable[Record]
) -> list[Awaitable[RecordMetadata]]:
    """Give records of one partition to a producer, in order; a batch costs a fraction of its records sent alone.

    The futures that are returned, one for each batch, are done when its records are durable.
    """
    sent: list[Awaitable[RecordMetadata]] = []
    batch = producer.create_batch()
    for record in records:
        fields = {"timestamp": None, "key": record.key, "value": record.value, "headers": list(record.headers)}
        if batch.append(**fields) is None:
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            # The first record of a batch always fits.
            batch.append(**fields)
    if batch.record_count():
        sent.append(await producer.send_batch(batch, topic, partition=partition))
    return sent


class Broker:
    """Starts and stops as one; safe to share between the partition workers of a process, which share one event loop."""

    def __init__(self, settings: Settings) -> None:
        install()
        self._settings = settings
        self._journal: AIOKafkaProducer | None = None
        self._outputs: AIOKafkaProducer | None = None
        self._offsets: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        """Start, as `start`; it is stopped at the end."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect; all or nothing.

        Raises:
            SettingsError, BrokerRefused: no time would change it.
        """
        await asyncio.to_thread(require_access, self._settings)
        request_bytes_max = self._settings.step_bytes_max + FRAME_BYTES
        self._journal = self._producer("journal", max_request_size=request_bytes_max)
        self._outputs = self._producer(
            "outputs", max_request_size=request_bytes_max, max_batch_size=OUTPUT_BATCH_BYTES, linger_ms=2
        )
        self._offsets = self._consumer("offsets")
        try:
            await all_of([self._journal.start(), self._outputs.start(), self._offsets.start()])
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""
        parts = [part for part in (self._journal, self._outputs, self._offsets) if part is not None]
        self._journal = self._outputs = self._offsets = None
        await asyncio.gather(*(part.stop() for part in parts), return_exceptions=True)

    async def answers(self, within_s: float) -> bool:
        """Whether the broker answers a request in this time; true before the start, when nothing is to be ended."""
        if self._offsets is None:
            return True
        try:
            async with asyncio.timeout(within_s):
                await self._offsets._client.fetch_all_metadata()  # noqa: SLF001 - nothing public asks and gives up
        except (KafkaError, OSError, TimeoutError):
            return False
        return True

    async def topics(self) -> set[str]:
        """Return the topics that exist now."""
        cluster = await _started(self._offsets)._client.fetch_all_metadata()  # noqa: SLF001 - `topics` may be old
        return set(cluster.topics())

    async def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """Return how many partitions each of these topics has now; 0 where there is no such topic."""
        cluster = await _started(self._offsets)._client.fetch_all_metadata()  # noqa: SLF001 - as `topics`
        return {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}

    async def append(self, topic: str, partition: int, value: bytes) -> int:
        """Write one record with the journal's producer and return its offset."""
        done = await _started(self._journal).send_and_wait(topic, value, partition=partition)
        return int(done.offset)

    async def send(
        self,
        topic: str,
        partition: int | None,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        timestamp_ms: int | None = None,
    ) -> Awaitable[RecordMetadata]:
        """Give a record to the outputs' producer; the future that is returned is done when the record is durable."""
        sent: Awaitable[RecordMetadata] = await _started(self._outputs).send(
            topic, value, key=key, partition=partition, headers=list(headers), timestamp_ms=timestamp_ms
        )
        return sent

    async def send_all(self, topic: str, partition: int, records: Iterable[Record]) -> list[Awaitable[RecordMetadata]]:
        """Send many records of one partition in order, with the outputs' producer."""
        return await send_batches(_started(self._outputs), topic, partition, records)

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Return the first offset that is kept and the one that comes next."""
        offsets = _started(self._offsets)
        where = TopicPartition(topic, partition)
        first, following = await asyncio.gather(offsets.beginning_offsets([where]), offsets.end_offsets([where]))
        if following[where] <= first[where]:
            return first[where], following[where]
        # Tansu answers with the first offset of the last batch, plus one; the end that a fetch returns is right.
        async with self._reader(where, following[where] - 1) as consumer:
            return first[where], max(following[where], await end_of(consumer, where, stall_s_max=STALL_S_MAX))

    async def read(
        self, topic: str, partition: int, start: int, end: int
    ) -> AsyncGenerator[list[ConsumerRecord[bytes, bytes]], None]:
        """Yield the records from `start` up to, not including, `end`, in the broker's batches."""
        if start >= end:
            return
        where = TopicPartition(topic, partition)
        async with self._reader(where, start) as consumer:
            async with aclosing(records_before(consumer, where, end, stall_s_max=STALL_S_MAX)) as runs:
                async for records in runs:
                    yield records
            position = await consumer.position(where)
            if position < end:
                raise TimeoutError(f"{topic}[{partition}] ends at {end}, but reading stopped at {position}")

    async def tail(
        self, topic: str, starts: Mapping[int, int], *, rest_s: float = 0.0
    ) -> AsyncGenerator[tuple[int, list[ConsumerRecord[bytes, bytes]]], None]:
        """Yield the records of some partitions, each from its offset on, as they come; it ends with its reader."""
        places = {(topic, partition): offset for partition, offset in starts.items()}
        async with aclosing(self.tails(places, rest_s=rest_s)) as runs:
            async for (_, partition), records in runs:
                yield partition, records

    async def tails(
        self, starts: Mapping[tuple[str, int], int], *, rest_s: float = 0.0
    ) -> AsyncGenerator[tuple[tuple[str, int], list[ConsumerRecord[bytes, bytes]]], None]:
        """Yield the records of some partitions of any topics, each from its offset on, over one connection.

        After a look that brought something the next one waits for `rest_s`: it brings more, for the same cost.

        Raises:
            OffsetOutOfRangeError: its argument has the partitions whose log has no such offset any more.
        """
        places = {TopicPartition(*where): offset for where, offset in starts.items()}
        async with reading(self._consumer("tail", fetch_max_wait_ms=TAIL_WAIT_MS), places) as consumer:
            behind_since_s: dict[TopicPartition, float] = {}
            while True:
                found = await consumer.getmany(timeout_ms=TAIL_WAIT_MS)
                for where, records in found.items():
                    yield (where.topic, where.partition), records
                if not found:
                    await _require_positions(consumer, places, behind_since_s)
                elif rest_s:
                    await asyncio.sleep(rest_s)

    def group(self, group_id: str) -> AIOKafkaConsumer:
        """Make a consumer that only keeps committed offsets for a group, without joining it."""
        return self._consumer(group_id, group_id=group_id)

    def _reader(self, where: TopicPartition, start: int) -> AbstractAsyncContextManager[AIOKafkaConsumer]:
        return reading(self._consumer("reader"), {where: start})

    def _producer(self, purpose: str, **options: Any) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **client_options(self._settings),
            client_id=f"{self._settings.group}-{purpose}",
            acks="all",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            **options,
        )

    def _consumer(self, purpose: str, group_id: str | None = None, **options: Any) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **client_options(self._settings),
            client_id=f"{self._settings.group}-{purpose}",
            group_id=group_id,
            # A reader that cannot start at its offset must fail, not jump.
            auto_offset_reset="none",
            enable_auto_commit=False,
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            **options,
        )


@asynccontextmanager
async def reading(consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int]) -> AsyncIterator[AIOKafkaConsumer]:
    """Give, while inside, a new consumer that is at an offset of each of some partitions."""
    try:
        await consumer.start()
        consumer.assign(list(starts))
        for where, offset in starts.items():
            consumer.seek(where, offset)
        yield consumer
    finally:
        await consumer.stop()


async def _require_positions(
    consumer: AIOKafkaConsumer, places: Iterable[TopicPartition], behind_since_s: dict[TopicPartition, float]
) -> None:
    """Refuse positions behind the end of their logs, as Kafka does; Tansu lets their reader wait."""
    now_s = asyncio.get_running_loop().time()
    for where in places:
        position, end = await consumer.position(where), consumer.highwater(where)
        if end is None or position <= end:
            behind_since_s.pop(where, None)
        elif now_s - behind_since_s.setdefault(where, now_s) > BEHIND_S_MAX:
            raise OffsetOutOfRangeError({where: position})


def _started(client: _Client | None) -> _Client:
    if client is None:
        raise RuntimeError("The broker's connections are used before `start` or after `stop`.")
    return client
