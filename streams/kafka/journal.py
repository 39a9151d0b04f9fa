"""The ports of one partition's worker on Kafka: the journal, the inputs, the dead letters and the ticks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from schemas.codec import write_event
from schemas.dead_letters import dead_letter_headers, dead_letter_value
from schemas.vocabulary import FLEET_CONTROL, INPUT_TOPICS, Millis
from streams.partition.ports import SOURCE, DeadLetter, Entry, Raw

if TYPE_CHECKING:
    from schemas.events import Tick
    from streams.kafka.client import Broker
    from streams.topic_names import Names

#: Most bytes of a record's value in a dead letter; a longer value is cut and named by its hash.
DEAD_LETTER_BYTES_MAX = 900_000


class KafkaJournal:
    """One partition of `decision.audit`.

    The producer is not idempotent on purpose. A retry that wrote twice leaves a second record with the same `seq`,
    which every reader ignores, and an idempotent producer has fatal states that this fence does not need.
    """

    def __init__(self, broker: Broker, names: Names, partition: int) -> None:
        self._broker = broker
        self._topic = names.journal
        self._partition = partition

    async def append(self, value: bytes) -> int:
        """Write one record with all replicas' acknowledgement."""
        return await self._broker.append(self._topic, self._partition, value)

    async def bounds(self) -> tuple[int, int]:
        """Ask the partition's leader."""
        return await self._broker.bounds(self._topic, self._partition)

    async def read(self, start: int, end: int) -> AsyncGenerator[Sequence[Entry], None]:
        """Read with a consumer of its own, outside every group."""
        async with aclosing(self._broker.read(self._topic, self._partition, start, end)) as runs:
            async for records in runs:
                yield [Entry(record.offset, record.value or b"") for record in records]


class KafkaInputs:
    """The side reader of one partition of the input topics."""

    def __init__(self, broker: Broker, names: Names, partition: int) -> None:
        self._broker = broker
        self._topics = names.inputs
        self._partition = partition

    async def read(self, topic: int, start: int, end: int, limit: int) -> Sequence[Raw]:
        """Read the records of the range that retention has left."""
        name = self._topics[topic]
        first, next_offset = await self._broker.bounds(name, self._partition)
        found: list[Raw] = []
        async with aclosing(self._broker.read(name, self._partition, max(start, first), min(end, next_offset))) as runs:
            async for records in runs:
                found.extend(records)
                if len(found) >= limit:
                    break
        return found[:limit]


class KafkaDeadLetters:
    """`<topic>.dlq`: the raw record, with its reason and origin as headers."""

    def __init__(self, broker: Broker, names: Names, partition: int) -> None:
        self._broker = broker
        self._names = names
        self._partition = partition

    async def write(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Send all records, then wait for all of them."""
        sent = []
        for dead in dead_letters:
            topic = INPUT_TOPICS[dead.topic]
            # A header's name may not be UTF-8; see `lenient_headers.py`.
            own = [
                (name.encode(errors="backslashreplace").decode(), content) for name, content in dead.raw.headers or ()
            ]
            headers = dead_letter_headers(topic, self._partition, dead.raw.offset, dead.reason, own)
            value, more = dead_letter_value(dead.raw.value, DEAD_LETTER_BYTES_MAX)
            if value is None and dead.raw.key is None:
                value = b""  # the client requires both
            sent.append(
                await self._broker.send(
                    self._names.dead(topic),
                    self._partition,
                    value,
                    key=dead.raw.key,
                    headers=(*headers, *more),
                )
            )
        for acknowledged in sent:
            await acknowledged


class KafkaTicks:
    """Ticks for one partition. They have no key; the partition is given."""

    def __init__(self, broker: Broker, names: Names, partition: int) -> None:
        self._broker = broker
        self._topic = names.of(FLEET_CONTROL)
        self._partition = partition

    async def send(self, tick: Tick, now_ms: Millis) -> None:
        """Send and wait, so that a lost tick is noticed and sent again."""
        record = write_event(FLEET_CONTROL, tick, ce_id=tick.control_id, source=SOURCE, time_ms=now_ms)
        await (
            await self._broker.send(
                self._topic, self._partition, record.value, headers=record.headers, timestamp_ms=now_ms
            )
        )
